//! What must hold after every step of a lane, whatever happened before.

use super::*;

impl LaneCore {
    /// Panics if a promise of the lane does not hold after a step. `waiting` and `in_flight` are the messages that its
    /// shell has counted.
    pub(crate) fn check(
        &self,
        now: Instant,
        surroundings: &Surroundings,
        effects: &Effects,
        waiting: usize,
        in_flight: usize,
    ) {
        assert_eq!(self.queue.len(), waiting, "messages that wait");
        let picked: usize = self.calls.iter().map(|call| call.ended.messages).sum();
        assert_eq!(picked, in_flight, "messages in flight");
        let recipients: Vec<_> = self.calls.iter().flat_map(|call| &call.recipients).copied().collect();
        self.queue.check_order(&recipients);
        if self.queue.is_empty() {
            return;
        }
        assert!(!surroundings.is_draining, "nothing waits while the service shuts down");
        let is_suspended = matches!(self.gate.standing(), Standing::Suspended { .. });
        assert!(!is_suspended, "nothing waits for a suspended page");
        let mut may_go = false;
        for rank in [Rank::Unary, Rank::Bulk] {
            for kind in Kind::ALL {
                may_go |= self.may_go(rank, kind, now);
            }
        }
        assert!(!may_go, "what may go goes");
        let something_is_due = effects.wake.is_some() || effects.share_now || !self.calls.is_empty();
        assert!(something_is_due, "what waits has something that ends the wait");
    }

    /// Panics if something is left of messages that are gone.
    pub(crate) fn check_empty(&self) {
        assert!(self.queue.is_empty() && self.calls.is_empty());
        self.queue.check_empty();
    }

    fn may_go(&self, rank: Rank, kind: Kind, now: Instant) -> bool {
        let (waiting, slots) = match rank {
            Rank::Unary => (self.queue.unary_waiting(kind), self.slots),
            Rank::Bulk => (self.queue.bulk_waiting(kind), self.slots - PAGE_CALLS_UNARY_RESERVED),
        };
        let pace = self.rates.pace(kind.rate());
        let wanted = if rank == Rank::Unary { 1 } else { waiting.min(pace.collected()) };
        waiting > 0
            && self.calls.iter().filter(|call| call.kind == kind).count() < slots
            && self.gate.allows(now) > 0
            && pace.available(rank, wanted, now) > 0
    }
}
