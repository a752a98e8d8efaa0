//! What a stream has been given and has not answered yet, with all it takes to send it again.

use std::collections::{HashMap, VecDeque};

use crate::v1;

/// Items of a stream that have no result yet, by their id; several if several items have one id.
#[derive(Default)]
pub(super) struct InFlight {
    items: HashMap<String, VecDeque<(u64, v1::BulkItem)>>,
    pub(super) count: usize,
}

impl InFlight {
    pub(super) fn add(&mut self, order: u64, item: v1::BulkItem) {
        self.items.entry(item.item_id.clone()).or_default().push_back((order, item));
        self.count += 1;
    }

    /// The first item with this id, and its place in the order.
    pub(super) fn take(&mut self, item_id: &str) -> Option<(u64, v1::BulkItem)> {
        let items = self.items.get_mut(item_id)?;
        let item = items.pop_front()?;
        if items.is_empty() {
            self.items.remove(item_id);
        }
        self.count -= 1;
        Some(item)
    }

    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (u64, v1::BulkItem)> + use<> {
        self.count = 0;
        std::mem::take(&mut self.items).into_values().flatten()
    }
}
