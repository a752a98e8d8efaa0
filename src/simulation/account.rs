//! What was delivered, by whom and when, and whether that is as promised.

use std::collections::HashMap;
use std::time::Duration;

use super::bulk_caller::BulkCaller;
use super::plan::Plan;
use super::unary_caller::UnaryCaller;
use crate::error::{Outcome, Reason};

/// Names a message of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Name {
    Item { caller: usize, id: usize },
    Unary { caller: usize, number: usize },
}

/// Where a message entered a lane: messages of one entrance go to a person in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entrance {
    pub(super) replica: usize,
    pub(super) life: u64,
    /// `None` for unary messages.
    pub(super) stream: Option<u64>,
}

/// A message as it is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    pub(super) name: Name,
    pub(super) page: usize,
    pub(super) person: usize,
    pub(super) is_video: bool,
    pub(super) entrance: Entrance,
    /// Its place among those that entered there.
    pub(super) place: u64,
}

/// Everything that Graph was asked, and what it did.
#[derive(Debug, Default)]
pub(super) struct Account {
    delivered: Vec<(Duration, Passage)>,
    deliveries: HashMap<Name, usize>,
    /// When calls began, by page and whether they were audio or video, with the number of their messages.
    began: HashMap<(usize, bool), Vec<(Duration, usize)>>,
}

/// What of a message's outcomes its caller has been told last.
pub(super) type Told = Option<Outcome>;

impl Account {
    pub(super) fn began(&mut self, page: usize, is_video: bool, count: usize, at: Duration) {
        self.began.entry((page, is_video)).or_default().push((at, count));
    }

    pub(super) fn delivered(&mut self, passage: Passage, at: Duration) {
        *self.deliveries.entry(passage.name).or_default() += 1;
        self.delivered.push((at, passage));
    }

    pub(super) fn deliveries(&self, name: Name) -> usize {
        self.deliveries.get(&name).copied().unwrap_or_default()
    }

    /// Each item was delivered as its last result says, and never more often than somebody asked for.
    pub(super) fn check_bulk(&self, caller: &BulkCaller, has_forgotten: bool) {
        for (id, (told, resends)) in caller.results() {
            self.check(Name::Item { caller: caller.number, id }, told, *resends, has_forgotten);
        }
    }

    pub(super) fn check_unary(&self, caller: &UnaryCaller, has_forgotten: bool) {
        for (number, told) in caller.results().iter().enumerate() {
            self.check(Name::Unary { caller: caller.number, number }, told, 0, has_forgotten);
        }
    }

    /// `resends` counts the runs that were to send it again because it was unknown. What a database has forgotten that
    /// failed over to an old copy may be sent twice, and its outcome may be another one than was told.
    fn check(&self, name: Name, told: &Told, resends: usize, has_forgotten: bool) {
        let count = self.deliveries(name);
        if has_forgotten {
            return;
        }
        assert!(count <= 1 + resends, "{name:?} was delivered {count} times, asked again {resends} times");
        match told {
            Some(Outcome::Sent(_)) => assert!(count > 0, "{name:?} was told sent, and is lost"),
            // That it is being sent says nothing of what becomes of it.
            Some(Outcome::NotSent(error)) if error.reason == Reason::RequestInProgress => {}
            Some(Outcome::Failed(_) | Outcome::NotSent(_) | Outcome::Rejected(_)) if resends == 0 => {
                assert_eq!(count, 0, "{name:?} was delivered, and told {told:?}");
            }
            Some(_) => {}
            // A unary call that ended without an answer says nothing.
            None => assert!(matches!(name, Name::Unary { .. }), "{name:?} has no result"),
        }
    }

    /// Messages of one entrance to one person arrived in their order.
    pub(super) fn check_order(&self) {
        let mut last: HashMap<(Entrance, usize, usize), u64> = HashMap::new();
        for (at, passage) in &self.delivered {
            let key = (passage.entrance, passage.page, passage.person);
            let before = last.insert(key, passage.place);
            assert!(
                before.is_none_or(|before| before < passage.place),
                "at {at:?} {passage:?} came after the one that entered as number {before:?}"
            );
        }
    }

    /// No second has more messages than a page's rate, whatever the replicas.
    pub(super) fn check_rates(&self, plan: &Plan) {
        for ((page, is_video), began) in &self.began {
            let page = plan.pages[*page];
            let rate = if *is_video { page.media_rate } else { page.rate } as usize;
            let (mut in_window, mut first) = (0, 0);
            for (at, count) in began {
                in_window += count;
                while began[first].0 + Duration::from_secs(1) <= *at {
                    in_window -= began[first].1;
                    first += 1;
                }
                assert!(
                    rate == 0 || in_window <= rate,
                    "{in_window} messages in the second before {at:?}, at {rate} a second"
                );
            }
        }
    }
}
