//! How many items the bulk streams of this process hold: each some of its own, and more from what they share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{BULK_ITEMS_OF_EACH, BULK_ITEMS_SHARED};

/// Items that a stream takes from what is shared at a time.
const CHUNK: usize = 100;

/// What all streams share. A stream that nobody reads keeps its part, but never what others have of their own.
#[derive(Clone, Debug)]
pub struct SharedRoom(Arc<Semaphore>);

impl Default for SharedRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BULK_ITEMS_SHARED)))
    }
}

/// One stream's room.
#[derive(Debug)]
pub(crate) struct Room {
    items_max: usize,
    shared: SharedRoom,
    taken: Vec<OwnedSemaphorePermit>,
}

impl Room {
    pub(crate) fn new(items_max: usize, shared: SharedRoom) -> Self {
        Self { items_max, shared, taken: Vec::new() }
    }

    /// Whether a stream that holds this many items may hold one more.
    pub(crate) fn has_place(&mut self, items: usize) -> bool {
        if items >= self.items_max {
            return false;
        }
        if items >= BULK_ITEMS_OF_EACH + self.taken.len() * CHUNK {
            let permit = self.shared.0.clone().try_acquire_many_owned(CHUNK as u32);
            self.taken.extend(permit.ok());
        }
        items < BULK_ITEMS_OF_EACH + self.taken.len() * CHUNK
    }

    /// Gives back what a stream that holds this many items does not need.
    pub(crate) fn give_back(&mut self, items: usize) {
        self.taken.truncate(items.saturating_sub(BULK_ITEMS_OF_EACH).div_ceil(CHUNK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_items_of_its_own_however_much_others_hold() {
        let shared = SharedRoom::default();
        let holds = |room: &mut Room, mut items: usize| {
            while room.has_place(items) {
                items += 1;
            }
            items
        };
        let mut greedy = Room::new(usize::MAX, shared.clone());
        assert_eq!(holds(&mut greedy, 0), BULK_ITEMS_OF_EACH + BULK_ITEMS_SHARED);
        let mut modest = Room::new(5000, shared);
        assert_eq!(holds(&mut modest, 0), BULK_ITEMS_OF_EACH);
        greedy.give_back(BULK_ITEMS_OF_EACH + BULK_ITEMS_SHARED - 150);
        assert_eq!(holds(&mut modest, 100), BULK_ITEMS_OF_EACH + CHUNK);
        drop(greedy);
        assert_eq!(holds(&mut modest, 100), 5000);
    }
}
