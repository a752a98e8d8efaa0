//! What a ledger must do, as simply as can be: a map in memory. The sources use this file too, for their own ledger in
//! memory.

use std::collections::HashMap;

use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Ids, whether each is another request than usual, and the run that sends unknown ones again.
    Claim(Vec<(u8, bool)>, Option<u8>),
    /// Which of the tickets that are left, and how they end.
    Settle(Vec<(prop::sample::Index, End)>),
    Restart,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Sent,
    Failed,
    Unknown,
    NotSent,
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop::sample::select(vec![End::Sent, End::Failed, End::Unknown, End::NotSent]);
    let id = (0..8_u8, prop::bool::weighted(0.1));
    let step = prop_oneof![
        5 => (prop::collection::vec(id, 1..6), prop::option::of(0..2_u8)).prop_map(|(ids, run)| Step::Claim(ids, run)),
        4 => prop::collection::vec((any::<prop::sample::Index>(), end), 1..4).prop_map(Step::Settle),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

/// A row, as simply as can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Row {
    Claimed { was_unknown: bool },
    Ended(&'static str),
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) rows: HashMap<u8, (bool, Row)>,
    /// The runs that may have sent each.
    runs: HashMap<u8, Vec<u8>>,
}

impl Model {
    /// What a claim must find.
    pub(super) fn claim(&mut self, id: u8, is_other: bool, run: Option<u8>) -> &'static str {
        let found = self.find(id, is_other, run);
        if found == "new" {
            self.runs.entry(id).or_default().extend(run);
        }
        found
    }

    fn find(&mut self, id: u8, is_other: bool, run: Option<u8>) -> &'static str {
        let runs = self.runs.get(&id).map(Vec::as_slice).unwrap_or_default();
        let is_resent = run.is_some_and(|run| !runs.contains(&run));
        match self.rows.get(&id).copied() {
            None => {
                self.rows.insert(id, (is_other, Row::Claimed { was_unknown: false }));
                "new"
            }
            Some((first, _)) if first != is_other => "reused",
            Some((_, Row::Claimed { .. })) => "in progress",
            Some((_, Row::Ended("unknown"))) if is_resent => {
                self.rows.insert(id, (is_other, Row::Claimed { was_unknown: true }));
                "new"
            }
            Some((_, Row::Ended(outcome))) => outcome,
        }
    }

    pub(super) fn settle(&mut self, id: u8, end: End) {
        let (_, row) = self.rows.get_mut(&id).unwrap();
        let Row::Claimed { was_unknown } = *row else { panic!("a ticket without a claim") };
        *row = match end {
            End::Sent => Row::Ended("sent"),
            End::Failed => Row::Ended("failed"),
            End::Unknown => Row::Ended("unknown"),
            End::NotSent if was_unknown => {
                self.runs.entry(id).or_default().pop();
                Row::Ended("unknown")
            }
            End::NotSent => {
                self.rows.remove(&id);
                self.runs.remove(&id);
                return;
            }
        };
    }

    pub(super) fn restart(&mut self) {
        for (_, row) in self.rows.values_mut() {
            if matches!(row, Row::Claimed { .. }) {
                *row = Row::Ended("unknown");
            }
        }
    }
}
