//! A bulk stream without time, I/O and protobuf: what it holds, what it may take, what it owes its caller.
//!
//! The shell around it ([`super`], and a simulator) tells the core what happens and does what the core returns:
//!
//! * a frame of items, half-close, drain, the end of a drain: [`take_frame`](StreamCore::take_frame),
//!   [`half_close`](StreamCore::half_close), [`drain`](StreamCore::drain), [`give_up`](StreamCore::give_up);
//! * [`next_item`](StreamCore::next_item) as long as there is one: the shell reads the item and asks
//!   [`admit`](StreamCore::admit) what becomes of it;
//! * outcomes, in any order: [`settle`](StreamCore::settle);
//! * [`next_results`](StreamCore::next_results): the shell writes them as one frame;
//! * [`end`](StreamCore::end): when the stream is over, and how.
//!
//! Every item that was taken has one place from then on until its result has been written, repeats of an id included, and
//! a large one has more: nothing grows for a caller who does not read.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::iter::Enumerate;

use super::room::Room;
use crate::dispatch::BulkItemId;
use crate::error::{Outcome, Reason, SendError};
use crate::limits::{RESULTS_FRAME_BYTES_MAX, RESULTS_PER_FRAME_MAX};

/// Hash of all that the caller asked for with an item.
type Fingerprint = [u8; 16];

/// What a stream holds. `F` is a frame: an iterator over items that nobody has read yet.
#[derive(Debug)]
pub(crate) struct StreamCore<F> {
    phase: Phase,
    room: Room,
    /// What is left of the last frame, with each item's index in it.
    frame: Option<Enumerate<F>>,
    /// Items that were queued and have no outcome yet.
    in_flight: HashMap<BulkItemId, InFlight>,
    /// Results that have not been written yet, in order.
    results: VecDeque<Owed>,
    /// Places of the items that were taken and whose results have not been written.
    places_taken: usize,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The caller has no more items.
    HalfClosed,
    /// The service shuts down: nothing new is taken or sent.
    Draining,
}

#[derive(Debug)]
struct InFlight {
    fingerprint: Fingerprint,
    /// Items that carry the id: one was queued, each gets the result.
    occurrences: usize,
    /// Places that its message takes beyond one for each item.
    more_places: usize,
}

#[derive(Debug)]
struct Owed {
    item_id: BulkItemId,
    outcome: Outcome,
    /// Items that get it.
    occurrences: usize,
    more_places: usize,
}

/// What becomes of an item that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Admission {
    /// Its id is in flight now: the shell queues its message, or settles the id at once.
    Queue,
    /// Nothing is to be done: it gets a result of its own, or that of the same item in flight.
    Done,
}

/// How a stream ends that nobody broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Every item has its result.
    Complete(Counts),
    /// Every item that was read has its result, and the service shuts down.
    Draining,
}

/// Results by where they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // one-to-one with the documented BulkCounts of the contract
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) rejected: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    pub(crate) not_sent: u64,
    pub(crate) replayed: u64,
}

impl<F: ExactSizeIterator> StreamCore<F> {
    /// A stream that has just begun.
    pub(crate) fn new(room: Room) -> Self {
        Self {
            phase: Phase::Open,
            room,
            frame: None,
            in_flight: HashMap::new(),
            results: VecDeque::new(),
            places_taken: 0,
            counts: Counts::default(),
        }
    }

    /// Whether the shell may read another frame: the last one has been taken, and the caller may have more.
    pub(crate) fn wants_frame(&self) -> bool {
        self.phase == Phase::Open && !self.has_pending()
    }

    /// Takes a frame of items. Only one is held at a time: see [`wants_frame`](Self::wants_frame).
    pub(crate) fn take_frame(&mut self, frame: F) {
        debug_assert!(!self.has_pending(), "the last frame has been taken");
        self.frame = Some(frame.enumerate());
    }

    /// The caller has no more items.
    pub(crate) fn half_close(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::HalfClosed;
        }
    }

    /// The service shuts down: items that were read and not queued are not sent.
    pub(crate) fn drain(&mut self) {
        self.phase = Phase::Draining;
    }

    /// The service ends: what is in flight is told as unknown, and its outcomes come too late.
    pub(crate) fn give_up(&mut self) {
        self.drain();
        let mut left: Vec<_> = self.in_flight.drain().collect();
        // So that the same history gives the same results.
        left.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let message = "the service ended before the outcome was known: open the bulk again to learn it";
        for (item_id, InFlight { occurrences, more_places, .. }) in left {
            self.owe(Owed { item_id, outcome: Outcome::unknown(message), occurrences, more_places });
        }
    }

    /// Whether [`next_item`](Self::next_item) would return an item, were there room.
    pub(crate) fn has_pending(&self) -> bool {
        self.frame.as_ref().is_some_and(|frame| frame.len() > 0)
    }

    /// The next item and its index in its frame, if there is one and room for it. The item has taken the place when this
    /// returns: the shell admits it.
    pub(crate) fn next_item(&mut self) -> Option<(usize, F::Item)> {
        if !self.has_pending() || !self.room.has_place(self.places_taken) {
            return None;
        }
        let next = self.frame.as_mut()?.next();
        if !self.has_pending() {
            // Its bytes are not needed any more.
            self.frame = None;
        }
        self.places_taken += usize::from(next.is_some());
        next
    }

    /// What becomes of the item that [`next_item`](Self::next_item) returned.
    pub(crate) fn admit(&mut self, item_id: BulkItemId, fingerprint: Fingerprint) -> Admission {
        if self.phase == Phase::Draining {
            let draining = Outcome::not_sent(Reason::Draining, "this replica is shutting down: try again");
            self.owe(Owed { item_id, outcome: draining, occurrences: 1, more_places: 0 });
            return Admission::Done;
        }
        match self.in_flight.entry(item_id) {
            Entry::Vacant(vacant) => {
                vacant.insert(InFlight { fingerprint, occurrences: 1, more_places: 0 });
                Admission::Queue
            }
            Entry::Occupied(mut same) if same.get().fingerprint == fingerprint => {
                same.get_mut().occurrences += 1;
                Admission::Done
            }
            Entry::Occupied(other) => {
                let item_id = other.key().clone();
                let message = "the id stands for another item, which is in flight: a retry must repeat its item exactly, and \
                               only another message takes another id";
                let reused = SendError::new(Reason::RequestIdReused, message);
                let outcome = Outcome::Rejected(reused);
                self.owe(Owed { item_id, outcome, occurrences: 1, more_places: 0 });
                Admission::Done
            }
        }
    }

    /// The outcome of an id in flight. Each item that carries the id gets it.
    pub(crate) fn settle(&mut self, item_id: BulkItemId, outcome: Outcome) {
        // An id that is not in flight was given up.
        if let Some(InFlight { occurrences, more_places, .. }) = self.in_flight.remove(&item_id) {
            self.owe(Owed { item_id, outcome, occurrences, more_places });
        }
    }

    /// The message of an id in flight is so large that it takes more places than one.
    pub(crate) fn enlarge(&mut self, item_id: &BulkItemId, more_places: usize) {
        if let Some(in_flight) = self.in_flight.get_mut(item_id) {
            in_flight.more_places += more_places;
            self.places_taken += more_places;
        }
    }

    /// Results for one frame, none if none are owed. `size_of` returns the bytes that a result takes in a frame. The
    /// items have left their places when this returns: the shell takes no other items before it has written the frame.
    pub(crate) fn next_results(
        &mut self,
        size_of: impl Fn(&BulkItemId, &Outcome) -> usize,
    ) -> Vec<(BulkItemId, Outcome)> {
        let (mut frame, mut bytes) = (Vec::new(), 0);
        while let Some(owed) = self.results.front_mut() {
            bytes += size_of(&owed.item_id, &owed.outcome);
            // A result alone always fits.
            if frame.len() == RESULTS_PER_FRAME_MAX || (bytes > RESULTS_FRAME_BYTES_MAX && !frame.is_empty())
            {
                break;
            }
            owed.occurrences -= 1;
            if owed.occurrences > 0 {
                frame.push((owed.item_id.clone(), owed.outcome.clone()));
            } else if let Some(last) = self.results.pop_front() {
                self.places_taken -= last.more_places;
                frame.push((last.item_id, last.outcome));
            }
        }
        self.places_taken -= frame.len();
        self.room.give_back(self.places_taken);
        frame
    }

    /// How the stream ends, if it is over.
    pub(crate) fn end(&self) -> Option<End> {
        // Each item that was taken is in flight or owed.
        if self.has_pending() || self.places_taken > 0 {
            return None;
        }
        match self.phase {
            Phase::Open => None,
            Phase::HalfClosed => Some(End::Complete(self.counts)),
            Phase::Draining => Some(End::Draining),
        }
    }

    /// Whether the service shuts down.
    pub(crate) fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// Whether results are owed that have not been written.
    pub(crate) fn has_results(&self) -> bool {
        !self.results.is_empty()
    }

    /// Ids that are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn owe(&mut self, owed: Owed) {
        self.counts.add(&owed.outcome, owed.occurrences as u64);
        self.results.push_back(owed);
    }
}

impl Counts {
    fn add(&mut self, outcome: &Outcome, results: u64) {
        let count = match outcome {
            Outcome::Sent(receipt) => {
                self.replayed += if receipt.replayed { results } else { 0 };
                &mut self.sent
            }
            Outcome::Rejected(_) => &mut self.rejected,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Unknown(_) => &mut self.unknown,
            Outcome::NotSent(_) => &mut self.not_sent,
        };
        *count += results;
    }
}

#[cfg(test)]
mod tests;
