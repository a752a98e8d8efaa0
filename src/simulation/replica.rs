//! A replica: its lanes and what the shell around them does, in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::stream::Stream;
use super::unary_caller::UnaryCall;
use super::world::World;
use crate::dispatch::Standing;
use crate::dispatch::lane::core::LaneCore;
use crate::dispatch::lane::event::{Effects, Event, Surroundings};
use crate::dispatch::retry::RetryBudget;
use crate::dispatch::sharing::AskSchedule;
use crate::error::Reason;
use crate::pages::Page;

/// One process after the other at one place.
pub(super) struct Replica {
    /// Which process it is, counted from 1.
    pub(super) life: u64,
    state: State,
    pub(super) frozen_until: Duration,
    pub(super) skew_seconds: i64,
    /// What the database knows the process by.
    pub(super) owner: i64,
    pub(super) lanes: BTreeMap<usize, Lane>,
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) streams_opened: u64,
    pub(super) unary: Vec<UnaryCall>,
    /// The configuration as the process has read it.
    pub(super) pages: Vec<Arc<Page>>,
    pub(super) schedule: AskSchedule,
    /// When it last asked for its shares.
    pub(super) asked: Option<Duration>,
    /// Counts plans to share, so that only the last one holds.
    pub(super) share_plans: u64,
    /// Messages that entered a lane.
    pub(super) entered: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Down,
    Up,
    Draining,
}

/// A lane, and what its shell knows of it.
pub(super) struct Lane {
    pub(super) core: LaneCore,
    pub(super) budget: RetryBudget,
    /// Messages that went in and have neither left for a call nor got an answer.
    pub(super) waiting: usize,
    pub(super) in_flight: usize,
    /// Counts plans to wake it, so that only the last one holds.
    wake_plans: u64,
}

impl Replica {
    pub(super) fn new() -> Self {
        Self {
            life: 0,
            state: State::Down,
            frozen_until: Duration::ZERO,
            skew_seconds: 0,
            owner: 0,
            lanes: BTreeMap::new(),
            streams: BTreeMap::new(),
            streams_opened: 0,
            unary: Vec::new(),
            pages: Vec::new(),
            schedule: AskSchedule::new(),
            asked: None,
            share_plans: 0,
            entered: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state != State::Down
    }

    /// Whether it takes new calls.
    pub(super) fn takes_calls(&self) -> bool {
        self.state == State::Up
    }

    pub(super) fn is_idle(&self) -> bool {
        self.streams.is_empty() && self.unary.is_empty() && self.lanes.values().all(Lane::is_idle)
    }

    /// Nothing is left of what has passed.
    pub(super) fn check_empty(&self) {
        for lane in self.lanes.values() {
            assert!(lane.is_idle(), "{} wait and {} are under way for ever", lane.waiting, lane.in_flight);
            lane.core.check_empty();
        }
    }

    pub(super) fn skewed(&self, time: SystemTime) -> SystemTime {
        let skew = Duration::from_secs(self.skew_seconds.unsigned_abs());
        if self.skew_seconds < 0 { time - skew } else { time + skew }
    }
}

impl Lane {
    fn is_idle(&self) -> bool {
        self.waiting == 0 && self.in_flight == 0
    }
}

impl World {
    pub(super) fn start_replica(&mut self, replica: usize) {
        self.note(|| format!("replica {replica} starts"));
        let pages = (0..self.plan.pages.len()).map(|page| self.configured(page)).collect();
        let owner = self.database.new_owner();
        let before = &mut self.replicas[replica];
        *before = Replica {
            life: before.life + 1,
            state: State::Up,
            owner,
            pages,
            skew_seconds: before.skew_seconds,
            streams_opened: before.streams_opened,
            ..Replica::new()
        };
        if self.database.is_shared() {
            self.plan_share(replica);
        }
        self.plan_sweep(replica);
    }

    pub(super) fn crash(&mut self, replica: usize, down: Duration) {
        if !self.replicas[replica].is_up() {
            return;
        }
        self.stop(replica, down);
    }

    /// The process is gone; another one starts after a while.
    fn stop(&mut self, replica: usize, down: Duration) {
        self.note(|| format!("replica {replica} is gone"));
        let gone = &mut self.replicas[replica];
        gone.state = State::Down;
        gone.life += 1;
        let (owner, streams, unary) =
            (gone.owner, std::mem::take(&mut gone.streams), std::mem::take(&mut gone.unary));
        gone.lanes.clear();
        // What the process had is its own no more when its lease ends, or when the next one opens the file.
        let lapse = if self.database.is_shared() { crate::limits::LEDGER_LEASE } else { Duration::ZERO };
        self.after(lapse, move |world| world.database.end_owner(owner));
        for stream in streams.into_values() {
            self.stream_broke(stream);
        }
        for call in unary {
            self.unary_broke(call);
        }
        self.after(down, move |world| world.start_replica(replica));
    }

    /// A deploy: nothing new begins, what is under way ends, then the process does.
    pub(super) fn drain(&mut self, replica: usize, down: Duration) {
        if !self.replicas[replica].takes_calls() {
            return;
        }
        self.replicas[replica].state = State::Draining;
        let streams: Vec<u64> = self.replicas[replica].streams.keys().copied().collect();
        for stream in streams {
            if let Some(stream) = self.replicas[replica].streams.get_mut(&stream) {
                stream.core.drain();
            }
            self.pump(replica, stream);
        }
        self.step_all_lanes(replica);
        let over = self.now + Duration::from_secs(45);
        self.drained(replica, over, down);
    }

    fn drained(&mut self, replica: usize, over: Duration, down: Duration) {
        if self.replicas[replica].is_idle() || self.now >= over {
            self.stop(replica, down);
        } else {
            self.after_at(replica, Duration::from_millis(100), move |world| {
                world.drained(replica, over, down)
            });
        }
    }

    pub(super) fn freeze(&mut self, replica: usize, duration: Duration) {
        if !self.replicas[replica].is_up() {
            return;
        }
        self.replicas[replica].frozen_until = self.now + duration;
        let owner = self.replicas[replica].owner;
        if self.database.is_shared() && duration > crate::limits::LEDGER_LEASE {
            self.after(crate::limits::LEDGER_LEASE, move |world| world.database.end_owner(owner));
            self.after_at(replica, duration, move |world| world.renew_owner(replica));
        }
    }

    /// A process whose lease has ended takes another one.
    pub(super) fn renew_owner(&mut self, replica: usize) {
        if !self.database.is_owner(self.replicas[replica].owner) {
            self.replicas[replica].owner = self.database.new_owner();
        }
    }

    fn surroundings(&self, replica: usize, page: usize) -> Surroundings {
        Surroundings {
            page: self.replicas[replica].pages.get(page).cloned(),
            is_ledger_ready: !self.database.is_away(self.now),
            is_draining: self.replicas[replica].state == State::Draining,
        }
    }

    pub(super) fn lane(&mut self, replica: usize, page: usize) -> &mut Lane {
        let (now, is_shared) = (self.instant(), self.database.is_shared());
        let hash_key = self.random.u64(..);
        self.replicas[replica].lanes.entry(page).or_insert_with(|| Lane {
            core: LaneCore::new(page.to_string().into(), is_shared, hash_key, now),
            budget: RetryBudget::default(),
            waiting: 0,
            in_flight: 0,
            wake_plans: 0,
        })
    }

    pub(super) fn step_all_lanes(&mut self, replica: usize) {
        let pages: Vec<usize> = self.replicas[replica].lanes.keys().copied().collect();
        for page in pages {
            self.step(replica, page, None);
        }
    }

    /// Something happens to a lane: does what the lane says.
    pub(super) fn step(&mut self, replica: usize, page: usize, event: Option<Event>) {
        let (now, surroundings) = (self.moment(replica), self.surroundings(replica, page));
        let lane = self.lane(replica, page);
        match &event {
            Some(Event::Queue(messages)) => lane.waiting += messages.len(),
            Some(Event::CallEnded { report, .. }) => lane.waiting += report.retries.len(),
            Some(_) | None => {}
        }
        let effects = lane.core.handle(now, event, &surroundings);
        lane.waiting -= effects.answers.len();
        for call in &effects.calls {
            lane.waiting -= call.messages.len();
            lane.in_flight += call.messages.len();
        }
        if let (Standing::Suspended { error, token, .. }, _) = lane.core.standing()
            && error.reason == Reason::PageTokenInvalid
        {
            let (token, configured) = (*token, surroundings.page.as_ref().map(|page| page.token_digest()));
            let is_right = configured == Some(token) && !self.graph.takes_token(page, token);
            assert!(is_right, "page {page} is stopped for a token that it has no more, or that graph takes");
        }
        let lane = self.lane(replica, page);
        let (waiting, in_flight) = (lane.waiting, lane.in_flight);
        lane.core.check(now.instant, &surroundings, &effects, waiting, in_flight);
        self.carry_out(replica, page, effects);
    }

    fn carry_out(&mut self, replica: usize, page: usize, effects: Effects) {
        let Effects { calls, answers, probe, share_now, wake } = effects;
        for call in calls {
            self.begin_call(replica, page, call);
        }
        self.refuse(answers);
        if let Some(asked) = probe {
            let latency = self.up_to(self.plan.latency);
            self.after_at(replica, latency, move |world| {
                let token = asked.token_digest();
                let result = world.graph.probe(page, token, world.now);
                world.step(replica, page, Some(Event::Probed { token, result }));
            });
        }
        if share_now {
            self.replicas[replica].schedule.hurry();
            self.plan_share(replica);
        }
        if let Some(wake) = wake {
            let wait = wake.saturating_duration_since(self.instant());
            let lane = self.lane(replica, page);
            lane.wake_plans += 1;
            let plan = lane.wake_plans;
            // Timers are late, never early.
            let late = self.up_to(Duration::from_millis(1));
            self.after_at(replica, wait + late, move |world| {
                if world.lane(replica, page).wake_plans == plan {
                    world.step(replica, page, None);
                }
            });
        }
        self.pump_all(replica);
        self.answer_unary(replica);
    }
}
