//! The world: its time, what is about to happen in it, and who lives there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{DefaultHasher, Hasher};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::account::{Account, Passage};
use super::bulk_caller::BulkCaller;
use super::graph::FakeGraph;
use super::plan::{Fault, Plan};
use super::replica::Replica;
use super::share::Database;
use super::unary_caller::UnaryCaller;
use crate::dispatch::standing::Moment;

/// When everybody must be done, after the last fault has passed.
const PATIENCE: Duration = Duration::from_secs(4 * 60 * 60);
/// Things that happen in one seed, so that one that goes round in circles ends.
const HAPPENINGS_MAX: u64 = 3_000_000;

type Action = Box<dyn FnOnce(&mut World)>;

/// Something that is about to happen. What was planned first happens first.
struct Happening {
    at: Duration,
    number: u64,
    action: Action,
}

impl PartialEq for Happening {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Happening {}

impl PartialOrd for Happening {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Happening {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) random: fastrand::Rng,
    /// Time since the beginning.
    pub(super) now: Duration,
    start: Instant,
    happenings: BinaryHeap<Reverse<Happening>>,
    planned: u64,
    pub(super) graph: FakeGraph,
    pub(super) database: Database,
    pub(super) replicas: Vec<Replica>,
    pub(super) bulk_callers: Vec<BulkCaller>,
    pub(super) unary_callers: Vec<UnaryCaller>,
    pub(super) account: Account,
    /// Every message that entered a lane; a message is known by its place here.
    pub(super) passages: Vec<Passage>,
    /// Number of each page's token.
    pub(super) tokens: Vec<u64>,
    digest: DefaultHasher,
    tells: bool,
}

impl World {
    pub(super) fn new(plan: Plan, tells: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let replicas = (0..plan.replicas).map(|_| Replica::new()).collect();
        let graph = FakeGraph::new(&plan, random.fork());
        Self {
            graph,
            database: Database::new(plan.replicas > 1),
            replicas,
            bulk_callers: (0..).zip(plan.bulks.clone()).map(|(n, bulk)| BulkCaller::new(n, bulk)).collect(),
            unary_callers: (0..)
                .zip(plan.unary.clone())
                .map(|(n, unary)| UnaryCaller::new(n, unary))
                .collect(),
            account: Account::default(),
            passages: Vec::new(),
            tokens: vec![0; plan.pages.len()],
            plan,
            random,
            now: Duration::ZERO,
            start: Instant::now(),
            happenings: BinaryHeap::new(),
            planned: 0,
            digest: DefaultHasher::new(),
            tells,
        }
    }

    /// Lives through the plan, and checks that everything ended as promised.
    pub(super) fn run(&mut self) {
        for page in 0..self.plan.pages.len() {
            self.graph.take_token(page, self.configured(page).token_digest());
        }
        for replica in 0..self.replicas.len() {
            self.start_replica(replica);
        }
        for caller in 0..self.bulk_callers.len() {
            let at = self.bulk_callers[caller].plan.begins;
            self.at(at, move |world| world.begin_run(caller));
        }
        for caller in 0..self.unary_callers.len() {
            let at = self.unary_callers[caller].plan.begins;
            self.at(at, move |world| world.begin_unary(caller));
        }
        for (at, fault) in self.plan.faults.clone() {
            self.at(at, move |world| world.strike(fault));
        }
        let deadline = self.plan.calm_from() + PATIENCE;
        while let Some(Reverse(next)) = self.happenings.pop() {
            if next.at > deadline || self.all_done() {
                break;
            }
            assert!(next.number < HAPPENINGS_MAX, "it goes round in circles at {:?}", self.now);
            self.now = next.at;
            (next.action)(self);
        }
        self.check_ends();
    }

    fn all_done(&self) -> bool {
        self.now > self.plan.calm_from()
            && self.bulk_callers.iter().all(BulkCaller::is_done)
            && self.unary_callers.iter().all(UnaryCaller::is_done)
            && self.replicas.iter().all(Replica::is_idle)
    }

    fn check_ends(&self) {
        for (number, caller) in self.bulk_callers.iter().enumerate() {
            assert!(caller.is_done(), "bulk caller {number} waits for ever: {}", caller.state());
            self.account.check_bulk(caller, self.database.has_forgotten);
        }
        for (number, caller) in self.unary_callers.iter().enumerate() {
            assert!(caller.is_done(), "unary caller {number} waits for ever");
            self.account.check_unary(caller, self.database.has_forgotten);
        }
        for replica in &self.replicas {
            replica.check_empty();
        }
        self.account.check_order();
        self.account.check_rates(&self.plan);
        self.database.check_all_settled();
    }

    /// What happened, in short.
    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Plans that something happens after a while.
    pub(super) fn after(&mut self, wait: Duration, action: impl FnOnce(&mut Self) + 'static) {
        self.at(self.now + wait, action);
    }

    /// Plans that something happens at a time.
    pub(super) fn at(&mut self, at: Duration, action: impl FnOnce(&mut Self) + 'static) {
        self.planned += 1;
        let at = at.max(self.now);
        self.happenings.push(Reverse(Happening { at, number: self.planned, action: Box::new(action) }));
    }

    /// The same for a replica: nothing happens if it has died by then, and later if it stands still.
    pub(super) fn after_at(
        &mut self,
        replica: usize,
        wait: Duration,
        action: impl FnOnce(&mut Self) + 'static,
    ) {
        let life = self.replicas[replica].life;
        self.after(wait, move |world| world.act_at(replica, life, Box::new(action)));
    }

    fn act_at(&mut self, replica: usize, life: u64, action: Action) {
        if self.replicas[replica].life != life || !self.replicas[replica].is_up() {
            return;
        }
        let until = self.replicas[replica].frozen_until;
        if self.now < until {
            self.at(until, move |world| world.act_at(replica, life, action));
        } else {
            action(self);
        }
    }

    pub(super) fn instant(&self) -> Instant {
        self.start + self.now
    }

    /// The time by the clock of a replica, which may be wrong.
    pub(super) fn moment(&self, replica: usize) -> Moment {
        let time = UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.now;
        Moment { instant: self.instant(), time: self.replicas[replica].skewed(time) }
    }

    /// The time by a clock that is right and steady.
    pub(super) fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.now
    }

    /// A duration of up to `max`, in whole microseconds.
    pub(super) fn up_to(&mut self, max: Duration) -> Duration {
        Duration::from_micros(self.random.u64(0..=max.as_micros() as u64))
    }

    /// Notes that something happened.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        let what = what();
        self.digest.write_u128(self.now.as_nanos());
        self.digest.write(what.as_bytes());
        if self.tells {
            println!("{:>12.6} {what}", self.now.as_secs_f64());
        }
    }

    fn strike(&mut self, fault: Fault) {
        self.note(|| format!("{fault:?}"));
        match fault {
            Fault::Crash { replica, down } => self.crash(replica, down),
            Fault::Drain { replica, down } => self.drain(replica, down),
            Fault::Freeze { replica, duration } => self.freeze(replica, duration),
            Fault::Clock { replica, skew_seconds } => self.replicas[replica].skew_seconds = skew_seconds,
            Fault::Graph { page, mood, duration } => self.graph.set_mood(page, mood, self.now + duration),
            Fault::RotateToken { page, config_first } => self.rotate_token(page, config_first),
            Fault::DatabaseAway { duration } => self.database_away(duration),
            Fault::DatabaseCrash { duration } => self.database_crash(duration),
            Fault::Copy => self.database.copy(),
            Fault::Failover { .. } => self.fail_over(),
            Fault::CancelBulk { caller } => self.break_off(caller),
        }
    }
}
