//! A caller that sends to an audience: it reconnects and resumes, and in the end a person may decide to send again what is
//! unknown.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::account::Told;
use super::call::MOMENT;
use super::graph::FakeGraph;
use super::plan::{BulkPlan, ItemPlan};
use super::stream::{Received, Sent, Start};
use super::world::World;
use crate::error::{Outcome, Reason};
use crate::ledger::RunId;

/// How long it waits before it opens another stream, at most.
const BACKOFF: Duration = Duration::from_secs(2);
/// Times that a run is begun again for items that were not sent.
const AGAIN_MAX: usize = 20;

/// Somebody who sends to an audience.
pub(super) struct BulkCaller {
    pub(super) plan: BulkPlan,
    pub(super) number: usize,
    /// What each id was told last, and how many runs were to send it again because it was unknown.
    told: BTreeMap<usize, (Told, usize)>,
    run: Option<RunId>,
    runs: usize,
    again: usize,
    /// Which stream it has open, or waits to open.
    attempt: u64,
    open: Option<(usize, u64)>,
    pub(super) expires_at: Option<Duration>,
    unsent: VecDeque<ItemPlan>,
    /// Items on the stream without a result, by id.
    outstanding: HashMap<usize, Vec<ItemPlan>>,
    outstanding_count: usize,
    has_half_closed: bool,
    is_done: bool,
}

impl BulkCaller {
    pub(super) fn new(number: usize, plan: BulkPlan) -> Self {
        Self {
            expires_at: plan.expires.map(|after| plan.begins + after),
            told: plan.items.iter().map(|item| (item.id, (None, 0))).collect(),
            plan,
            number,
            run: None,
            runs: 0,
            again: 0,
            attempt: 0,
            open: None,
            unsent: VecDeque::new(),
            outstanding: HashMap::new(),
            outstanding_count: 0,
            has_half_closed: false,
            is_done: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    pub(super) fn state(&self) -> String {
        format!(
            "run {}, stream {} at {:?}, {} unsent, {} without a result",
            self.runs,
            self.attempt,
            self.open,
            self.unsent.len(),
            self.outstanding_count
        )
    }

    /// By id: what it was told last, and how many runs were to send it again.
    pub(super) fn results(&self) -> impl Iterator<Item = (usize, &(Told, usize))> {
        self.told.iter().map(|(id, told)| (*id, told))
    }
}

impl World {
    /// Somebody decides to send what has no outcome yet.
    pub(super) fn begin_run(&mut self, number: usize) {
        let caller = &mut self.bulk_callers[number];
        caller.runs += 1;
        let resends = caller.runs > 1;
        let has_name = resends || caller.plan.resends_at_once;
        caller.run = has_name.then(|| RunId::of(&format!("run-{}", caller.runs)));
        let is_wanted = |told: &Told| match told {
            None | Some(Outcome::NotSent(_) | Outcome::Rejected(_)) => true,
            Some(Outcome::Unknown(_)) => resends,
            Some(Outcome::Sent(_) | Outcome::Failed(_)) => false,
        };
        let told = &caller.told;
        let unsent = caller.plan.items.iter().filter(|item| is_wanted(&told[&item.id].0)).copied();
        caller.unsent = unsent.collect();
        if resends {
            let unknown =
                caller.told.values_mut().filter(|(told, _)| matches!(told, Some(Outcome::Unknown(_)) | None));
            unknown.for_each(|(_, resends)| *resends += 1);
        }
        self.note(|| format!("bulk caller {number} begins a run"));
        self.reopen(number, Duration::ZERO);
    }

    fn reopen(&mut self, number: usize, wait: Duration) {
        let caller = &mut self.bulk_callers[number];
        caller.attempt += 1;
        caller.open = None;
        caller.has_half_closed = false;
        caller.outstanding_count = 0;
        let mut left: Vec<ItemPlan> = caller.outstanding.drain().flat_map(|(_, items)| items).collect();
        // As they stand in the audience, so that a person's messages keep their order.
        left.sort_by_key(|item| (item.id, item.person));
        for item in left.into_iter().rev() {
            caller.unsent.push_front(item);
        }
        let attempt = caller.attempt;
        self.after(wait + MOMENT, move |world| world.open(number, attempt));
    }

    fn open(&mut self, number: usize, attempt: u64) {
        if self.bulk_callers[number].attempt != attempt {
            return;
        }
        let Some(replica) = self.some_replica() else {
            let wait = self.up_to(BACKOFF);
            self.reopen(number, wait);
            return;
        };
        let run = self.bulk_callers[number].run;
        let stream = self.open_stream(replica, Start { caller: number, attempt, run });
        self.note(|| format!("bulk caller {number} opens stream {attempt} at replica {replica}"));
        self.bulk_callers[number].open = Some((replica, stream));
        self.write(number);
    }

    /// Writes as long as there are items and its window has room.
    fn write(&mut self, number: usize) {
        loop {
            let caller = &mut self.bulk_callers[number];
            let Some((replica, stream)) = caller.open else { return };
            let room =
                caller.plan.window.saturating_sub(caller.outstanding_count).min(caller.plan.frame_items);
            if room == 0 || caller.has_half_closed {
                return;
            }
            let items: Vec<_> = (0..room).map_while(|_| caller.unsent.pop_front()).collect();
            let frame = if items.is_empty() {
                caller.has_half_closed = true;
                Sent::HalfClose
            } else {
                caller.outstanding_count += items.len();
                for item in &items {
                    caller.outstanding.entry(item.id).or_default().push(*item);
                }
                Sent::Items(items)
            };
            self.after_at(replica, MOMENT, move |world| world.arrive(replica, stream, frame));
        }
    }

    pub(super) fn receive(&mut self, number: usize, attempt: u64, frame: Received) {
        if self.bulk_callers[number].attempt != attempt {
            return;
        }
        match frame {
            Received::Results(results) => {
                let caller = &mut self.bulk_callers[number];
                for (id, outcome) in results {
                    let items = caller.outstanding.get_mut(&id).filter(|items| !items.is_empty());
                    items.unwrap_or_else(|| panic!("item {id} has one result too many")).pop();
                    caller.outstanding_count -= 1;
                    caller.take_result(id, outcome, &self.graph, self.database.has_forgotten);
                }
                self.write(number);
            }
            Received::End(true) => {
                let caller = &self.bulk_callers[number];
                assert_eq!(caller.outstanding_count, 0, "a summary came before all results");
                assert!(caller.unsent.is_empty() && caller.has_half_closed, "a summary came before the end");
                self.end_run(number);
            }
            Received::End(false) => {
                let wait = self.up_to(BACKOFF);
                self.reopen(number, wait);
            }
        }
    }

    /// The stream ended well. Whoever sends decides what is to be done about items that were not sent or are unknown.
    fn end_run(&mut self, number: usize) {
        self.note(|| format!("bulk caller {number} has a summary"));
        let now = self.now;
        let caller = &mut self.bulk_callers[number];
        caller.open = None;
        let (is_expired, again) = (caller.expires_at.is_some_and(|at| at <= now), caller.again);
        let is_open = |told: &Told| match told {
            // A person who is throttled by themselves stays so.
            Some(Outcome::NotSent(error)) if error.reason == Reason::RateLimited => again == 0,
            Some(Outcome::NotSent(error)) => !is_expired || error.reason != Reason::Expired,
            Some(Outcome::Rejected(_)) | None => true,
            Some(Outcome::Sent(_) | Outcome::Failed(_) | Outcome::Unknown(_)) => false,
        };
        let is_unsent = caller.told.values().any(|(told, _)| is_open(told));
        let is_unknown = caller.told.values().any(|(told, _)| matches!(told, Some(Outcome::Unknown(_))));
        if is_unsent && caller.again < AGAIN_MAX {
            caller.again += 1;
            // The same run: nobody has decided anything about what is unknown.
            let told = &caller.told;
            caller.unsent =
                caller.plan.items.iter().filter(|item| is_open(&told[&item.id].0)).copied().collect();
            self.reopen(number, Duration::from_secs(15));
        } else if is_unknown && caller.runs <= caller.plan.resend_runs {
            self.after(BACKOFF, move |world| world.begin_run(number));
        } else {
            caller.is_done = true;
        }
    }

    /// The caller breaks its stream off, and opens it again.
    pub(super) fn break_off(&mut self, number: usize) {
        let caller = &self.bulk_callers[number];
        if let Some((replica, _)) = caller.open {
            let attempt = (number, caller.attempt);
            self.reopen(number, Duration::from_millis(50));
            self.after_at(replica, MOMENT, move |world| world.close_stream(replica, attempt));
        }
    }
}

impl BulkCaller {
    /// What became of an item. Once sent, it stays so.
    fn take_result(&mut self, id: usize, outcome: Outcome, graph: &FakeGraph, has_forgotten: bool) {
        let is_refused = |item: &&ItemPlan| item.id == id && graph.refuses_for_good(item.person);
        match &outcome {
            Outcome::Failed(error) => {
                let is_own_fault = self.plan.items.iter().any(|item| is_refused(&item));
                assert!(
                    is_own_fault,
                    "item {id} was booked as failed for what is not its own fault: {error}"
                );
            }
            Outcome::NotSent(error) => {
                let waited = error.message.contains("it pauses") && self.expires_at.is_some();
                assert!(!waited, "item {id} expired, and is told what its page waited for: {error}");
            }
            Outcome::Sent(_) | Outcome::Unknown(_) | Outcome::Rejected(_) => {}
        }
        let (told, _) = self.told.get_mut(&id).unwrap();
        if let (Some(Outcome::Sent(before)), Outcome::Sent(now)) = (&*told, &outcome)
            && !has_forgotten
        {
            assert_eq!(before.message_id, now.message_id, "item {id} was sent twice");
        }
        if matches!(told, Some(Outcome::Sent(_))) && matches!(outcome, Outcome::NotSent(_)) {
            // An id that comes twice need not be claimed twice.
            let occurrences = self.plan.items.iter().filter(|item| item.id == id).count();
            assert!(occurrences > 1 || has_forgotten, "item {id} was sent, and now is {outcome:?}");
            return;
        }
        *told = Some(outcome);
    }
}
