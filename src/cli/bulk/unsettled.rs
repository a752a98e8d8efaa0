//! The rows that were taken and have no final result yet, with all it takes to send them again.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::api::pb;

/// Rows without a final result, by line.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    rows: BTreeMap<u64, UnsettledRow>,
    /// Lines of the rows that the stream has not answered, by item id; several if several rows have one id.
    lines: HashMap<String, VecDeque<u64>>,
}

#[derive(Debug)]
struct UnsettledRow {
    item: pb::BulkItem,
    /// The last word of the service, if it was that nothing was sent for now.
    put_off: Option<pb::SendError>,
    /// A stream had it and ended without a word about it. Only a final result takes the doubt away: a later stream
    /// that refuses the row says nothing about the earlier one.
    is_in_doubt: bool,
}

/// What is known of a row that is given up.
#[derive(Debug)]
pub(super) enum Fate {
    /// Nothing was sent; the service said so.
    NotSent(Box<pb::ItemResult>),
    /// The item with this id may have been sent.
    InDoubt(String),
}

/// The error of a result that is not final: nothing was sent, and the same item may be sent once the service is well
/// again, or has finished what an earlier stream began.
pub(super) fn put_off(result: &pb::ItemResult) -> Option<&pb::SendError> {
    use pb::ErrorReason::{Draining, LedgerUnavailable, RequestInProgress};

    match &result.outcome {
        Some(pb::item_result::Outcome::Error(error)) if result.state() == pb::ItemState::NotSent => {
            Some(error)
                .filter(|error| matches!(error.reason(), Draining | LedgerUnavailable | RequestInProgress))
        }
        Some(pb::item_result::Outcome::Error(_) | pb::item_result::Outcome::Receipt(_)) | None => None,
    }
}

impl Unsettled {
    /// Adds a row that was taken from the audience.
    pub(super) fn add(&mut self, line: u64, item: pb::BulkItem) {
        self.lines.entry(item.item_id.clone()).or_default().push_back(line);
        self.rows.insert(line, UnsettledRow { item, put_off: None, is_in_doubt: false });
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// All lines, in the order of the audience.
    pub(super) fn lines(&self) -> VecDeque<u64> {
        self.rows.keys().copied().collect()
    }

    /// The item of a line, to be sent; `None` if the row has been settled meanwhile.
    pub(super) fn item_to_send(&mut self, line: u64) -> Option<pb::BulkItem> {
        let row = self.rows.get_mut(&line)?;
        row.put_off = None;
        Some(row.item.clone())
    }

    /// Takes out the row that a final result is for, and tells its line.
    pub(super) fn settle(&mut self, item_id: &str) -> Option<u64> {
        let line = self.answered_line(item_id)?;
        self.rows.remove(&line);
        Some(line)
    }

    /// The line that a result is for. The next result with this id is about another one.
    fn answered_line(&mut self, item_id: &str) -> Option<u64> {
        let lines = self.lines.get_mut(item_id)?;
        let line = lines.pop_front()?;
        if lines.is_empty() {
            self.lines.remove(item_id);
        }
        Some(line)
    }

    /// Notes that the row is to be sent again, on a later stream. False if there is no such row.
    pub(super) fn put_off(&mut self, item_id: &str, error: pb::SendError) -> bool {
        let line = self.answered_line(item_id);
        let Some(row) = line.and_then(|line| self.rows.get_mut(&line)) else { return false };
        // Somebody else is sending it.
        row.is_in_doubt |= error.reason() == pb::ErrorReason::RequestInProgress;
        row.put_off = Some(error);
        true
    }

    /// Notes that the stream has ended. A service that drains gives every item that it read a result first: what has
    /// none was never read.
    pub(super) fn stream_ended(&mut self, draining: Option<&pb::SendError>) {
        for row in self.rows.values_mut().filter(|row| row.put_off.is_none()) {
            match draining {
                Some(error) => row.put_off = Some(error.clone()),
                None => row.is_in_doubt = true,
            }
        }
        self.lines.clear();
        for (line, row) in &self.rows {
            self.lines.entry(row.item.item_id.clone()).or_default().push_back(*line);
        }
    }

    /// What is known of each row, in the order of the audience; none is left.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = (u64, Fate)> + use<> {
        self.lines.clear();
        std::mem::take(&mut self.rows).into_iter().map(|(line, row)| {
            let UnsettledRow { item, put_off, is_in_doubt } = row;
            let fate = match put_off {
                Some(error) if !is_in_doubt => {
                    let outcome = Some(pb::item_result::Outcome::Error(error));
                    let state = pb::ItemState::NotSent.into();
                    Fate::NotSent(Box::new(pb::ItemResult { item_id: item.item_id, state, outcome }))
                }
                Some(_) | None => Fate::InDoubt(item.item_id),
            };
            (line, fate)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(reason: pb::ErrorReason) -> pb::SendError {
        pb::SendError { reason: reason.into(), ..pb::SendError::default() }
    }

    fn unsettled(ids: &[&str]) -> Unsettled {
        let mut unsettled = Unsettled::default();
        for (line, id) in (2..).zip(ids) {
            unsettled.add(line, pb::BulkItem { item_id: (*id).to_owned(), ..pb::BulkItem::default() });
        }
        unsettled
    }

    fn fates(unsettled: &mut Unsettled) -> Vec<(u64, bool)> {
        unsettled.give_up().map(|(line, fate)| (line, matches!(fate, Fate::InDoubt(_)))).collect()
    }

    /// A service that drains gives what it read a result first; any other end leaves the rest in doubt.
    #[test]
    fn only_a_word_of_the_service_keeps_a_row_out_of_doubt() {
        use pb::ErrorReason::{Draining, LedgerUnavailable, RequestInProgress};

        let cases: [(&str, Option<pb::ErrorReason>, Option<pb::ErrorReason>, bool); 6] = [
            ("broke without a word", None, None, true),
            ("drained, never read", None, Some(Draining), false),
            ("refused, then drained", Some(Draining), Some(Draining), false),
            ("refused, then broke", Some(LedgerUnavailable), None, false),
            ("sent by another, then broke", Some(RequestInProgress), None, true),
            ("sent by another, then drained", Some(RequestInProgress), Some(Draining), true),
        ];
        for (case, result, end, in_doubt) in cases {
            let mut rows = unsettled(&["a"]);
            rows.item_to_send(2).unwrap();
            if let Some(reason) = result {
                assert!(rows.put_off("a", error(reason)), "{case}");
            }
            rows.stream_ended(end.map(error).as_ref());
            assert_eq!(fates(&mut rows), [(2, in_doubt)], "{case}");
        }
    }

    #[test]
    fn a_refusal_does_not_take_an_earlier_doubt_away() {
        let mut rows = unsettled(&["a", "b"]);
        rows.stream_ended(None);
        for line in rows.lines() {
            rows.item_to_send(line).unwrap();
        }
        assert!(rows.put_off("a", error(pb::ErrorReason::Draining)));
        assert_eq!(rows.settle("b"), Some(3));
        rows.stream_ended(Some(&error(pb::ErrorReason::Draining)));
        assert_eq!(fates(&mut rows), [(2, true)]);
    }

    #[test]
    fn rows_of_one_id_are_settled_one_by_one() {
        let mut rows = unsettled(&["a", "a", "a"]);
        assert_eq!(rows.settle("a"), Some(2));
        assert!(rows.put_off("a", error(pb::ErrorReason::LedgerUnavailable)));
        assert_eq!(rows.settle("a"), Some(4), "the one that was put off is not done");
        assert_eq!((rows.lines(), rows.item_to_send(4)), ([3].into(), None));
        rows.stream_ended(None);
        assert_eq!((rows.settle("a"), rows.settle("a")), (Some(3), None));
        assert!(rows.len() == 0 && !rows.put_off("a", error(pb::ErrorReason::Draining)));
    }

    /// Further rows go on the stream that has answered so: a row of the same id gets its own result, and only the one in
    /// progress is in doubt.
    #[test]
    fn a_row_in_progress_waits_for_a_later_stream() {
        let mut rows = unsettled(&["a", "b"]);
        assert!(rows.put_off("a", error(pb::ErrorReason::RequestInProgress)));
        for line in [4, 5] {
            rows.add(line, pb::BulkItem { item_id: "a".to_owned(), ..pb::BulkItem::default() });
        }
        assert_eq!((rows.settle("a"), rows.settle("b")), (Some(4), Some(3)));
        rows.stream_ended(Some(&error(pb::ErrorReason::Draining)));
        assert_eq!(rows.lines(), [2, 5]);
        assert_eq!(fates(&mut rows), [(2, true), (5, false)]);
    }
}
