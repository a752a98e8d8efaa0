//! The items that were taken from the source and have no final result yet, with all it takes to send them again.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::Fate;
use crate::v1;

/// Items without a final result, by their place in the order of the source.
#[derive(Default)]
pub(super) struct Unsettled {
    items: BTreeMap<u64, UnsettledItem>,
    /// Places of the items that were written on this stream and not answered on it, by item id; several if several items
    /// have one id.
    written: HashMap<String, VecDeque<u64>>,
    in_flight: usize,
}

struct UnsettledItem {
    item: v1::BulkItem,
    /// The last word of the service, if it was that nothing was sent for now.
    put_off: Option<Box<v1::SendError>>,
    /// A stream had it and ended without a word about it. Only a final result takes the doubt away: a later stream
    /// that refuses the item says nothing about the earlier one.
    is_in_doubt: bool,
}

impl Unsettled {
    /// Adds an item that was taken from the source.
    pub(super) fn add(&mut self, index: u64, item: v1::BulkItem) {
        self.items.insert(index, UnsettledItem { item, put_off: None, is_in_doubt: false });
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Items of this stream that are not answered on it.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// All places, in the order of the source.
    pub(super) fn indexes(&self) -> VecDeque<u64> {
        self.items.keys().copied().collect()
    }

    pub(super) fn item(&self, index: u64) -> Option<&v1::BulkItem> {
        self.items.get(&index).map(|unsettled| &unsettled.item)
    }

    /// The item, to be written on this stream.
    pub(super) fn write(&mut self, index: u64) -> Option<v1::BulkItem> {
        let unsettled = self.items.get_mut(&index)?;
        unsettled.put_off = None;
        let item = unsettled.item.clone();
        self.written.entry(item.item_id.clone()).or_default().push_back(index);
        self.in_flight += 1;
        Some(item)
    }

    /// Takes out the item that a final result is for, and returns its place.
    pub(super) fn settle(&mut self, item_id: &str) -> Option<u64> {
        let index = self.answered(item_id)?;
        self.items.remove(&index);
        Some(index)
    }

    /// The item that a result is for. The next result with this id is about another one.
    fn answered(&mut self, item_id: &str) -> Option<u64> {
        let indexes = self.written.get_mut(item_id)?;
        let index = indexes.pop_front()?;
        if indexes.is_empty() {
            self.written.remove(item_id);
        }
        self.in_flight -= 1;
        Some(index)
    }

    /// Notes that the item is to be sent again, on a later stream. False if no item waits for the result.
    pub(super) fn put_off(&mut self, item_id: &str, error: v1::SendError) -> bool {
        let index = self.answered(item_id);
        let Some(unsettled) = index.and_then(|index| self.items.get_mut(&index)) else { return false };
        // Somebody else is sending it.
        unsettled.is_in_doubt |= error.reason() == v1::ErrorReason::RequestInProgress;
        unsettled.put_off = Some(Box::new(error));
        true
    }

    /// Notes that the stream has ended. A service that drains gives every item that it read a result first: what has
    /// none was never read.
    pub(super) fn stream_ended(&mut self, draining: Option<&v1::SendError>) {
        self.in_flight = 0;
        for index in std::mem::take(&mut self.written).into_values().flatten() {
            let Some(unsettled) = self.items.get_mut(&index) else { continue };
            match draining {
                Some(error) => unsettled.put_off = Some(Box::new(error.clone())),
                None => unsettled.is_in_doubt = true,
            }
        }
    }

    /// What is known of each item, in the order of the source; none is left.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = (u64, String, Fate)> + use<> {
        self.stream_ended(None);
        std::mem::take(&mut self.items).into_iter().map(|(index, unsettled)| {
            let UnsettledItem { item, put_off, is_in_doubt } = unsettled;
            let fate = match put_off {
                _ if is_in_doubt => Fate::InDoubt,
                Some(error) => Fate::NotSent(error),
                None => Fate::NotSent(Box::new(never_written())),
            };
            (index, item.item_id, fate)
        })
    }
}

/// Why an item was not sent that no stream had.
fn never_written() -> v1::SendError {
    v1::SendError {
        message: "the bulk ended before the item was sent".to_owned(),
        retryable: true,
        ..v1::SendError::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::ErrorReason::{Draining, LedgerUnavailable, RequestInProgress};

    fn error(reason: v1::ErrorReason) -> v1::SendError {
        v1::SendError { reason: reason.into(), ..v1::SendError::default() }
    }

    fn item(id: &str) -> v1::BulkItem {
        v1::BulkItem { item_id: id.to_owned(), ..v1::BulkItem::default() }
    }

    /// Items that are written on a stream.
    fn written(ids: &[&str]) -> Unsettled {
        let mut unsettled = Unsettled::default();
        for (index, id) in (0..).zip(ids) {
            unsettled.add(index, item(id));
            assert!(unsettled.write(index).is_some());
        }
        unsettled
    }

    /// Which items are left, and whether they are in doubt.
    fn fates(unsettled: &mut Unsettled) -> Vec<(u64, bool)> {
        unsettled.give_up().map(|(index, _, fate)| (index, matches!(fate, Fate::InDoubt))).collect()
    }

    /// A service that drains gives what it read a result first; any other end leaves the rest in doubt.
    #[test]
    fn only_a_word_of_the_service_keeps_a_written_item_out_of_doubt() {
        let cases: [(&str, Option<v1::ErrorReason>, Option<v1::ErrorReason>, bool); 6] = [
            ("broke without a word", None, None, true),
            ("drained, never read", None, Some(Draining), false),
            ("refused, then drained", Some(Draining), Some(Draining), false),
            ("refused, then broke", Some(LedgerUnavailable), None, false),
            ("sent by another, then broke", Some(RequestInProgress), None, true),
            ("sent by another, then drained", Some(RequestInProgress), Some(Draining), true),
        ];
        for (case, result, end, in_doubt) in cases {
            let mut items = written(&["a"]);
            if let Some(reason) = result {
                assert!(items.put_off("a", error(reason)), "{case}");
            }
            items.stream_ended(end.map(error).as_ref());
            assert_eq!(fates(&mut items), [(0, in_doubt)], "{case}");
        }
    }

    #[test]
    fn an_item_that_no_stream_had_was_not_sent() {
        let mut items = written(&["a"]);
        items.add(1, item("b"));
        items.stream_ended(None);
        assert_eq!(fates(&mut items), [(0, true), (1, false)]);
    }

    #[test]
    fn a_refusal_does_not_take_an_earlier_doubt_away() {
        let mut items = written(&["a", "b"]);
        items.stream_ended(None);
        for index in items.indexes() {
            items.write(index).unwrap();
        }
        assert!(items.put_off("a", error(Draining)));
        assert_eq!(items.settle("b"), Some(1));
        items.stream_ended(Some(&error(Draining)));
        assert_eq!(fates(&mut items), [(0, true)]);
    }

    #[test]
    fn items_of_one_id_are_settled_one_by_one() {
        let mut items = written(&["a", "a", "a"]);
        assert_eq!(items.settle("a"), Some(0));
        assert!(items.put_off("a", error(LedgerUnavailable)));
        assert_eq!(items.settle("a"), Some(2), "the one that was put off is not done");
        assert_eq!((items.indexes(), items.write(2)), ([1].into(), None));
        items.stream_ended(None);
        assert_eq!(items.settle("a"), None, "the next stream has not had it");
        items.write(1).unwrap();
        assert_eq!((items.settle("a"), items.settle("a")), (Some(1), None));
        assert!(items.len() == 0 && !items.put_off("a", error(Draining)));
    }

    /// Further items go on the stream that has answered so: one of the same id gets its own result, and only the one in
    /// progress is in doubt.
    #[test]
    fn an_item_in_progress_waits_for_a_later_stream() {
        let mut items = written(&["a", "b"]);
        assert!(items.put_off("a", error(RequestInProgress)));
        for index in [2, 3] {
            items.add(index, item("a"));
            items.write(index).unwrap();
        }
        assert_eq!(items.in_flight(), 3);
        assert_eq!((items.settle("a"), items.settle("b")), (Some(2), Some(1)));
        items.stream_ended(Some(&error(Draining)));
        assert_eq!((items.indexes(), items.in_flight()), ([0, 3].into(), 0));
        assert_eq!(fates(&mut items), [(0, true), (3, false)]);
    }
}
