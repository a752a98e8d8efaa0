//! When this replica asks for its shares. Knows no clock: every method is told the time.

use std::time::Instant;

use crate::limits::{SHARE_INTERVAL, SHARE_INTERVAL_MIN};

/// The times of a replica's asks.
#[derive(Debug)]
pub(crate) struct AskSchedule {
    /// When it last asked.
    asked: Option<Instant>,
    /// Something cannot wait until it is time.
    is_urgent: bool,
}

impl AskSchedule {
    pub(crate) fn new() -> Self {
        Self { asked: None, is_urgent: false }
    }

    /// Something cannot wait until it is time: messages without a share, news for the others.
    pub(crate) fn hurry(&mut self) {
        self.is_urgent = true;
    }

    /// When to ask next. Lanes may be in a hurry at every step, so even then there is a pause between two asks.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        let interval = if self.is_urgent { SHARE_INTERVAL_MIN } else { SHARE_INTERVAL };
        self.asked.map_or(now, |asked| (asked + interval).max(now))
    }

    /// It asks now.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.asked = Some(now);
        self.is_urgent = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_at_once_then_by_and_by_and_sooner_but_not_at_every_step_in_a_hurry() {
        let start = Instant::now();
        let mut schedule = AskSchedule::new();
        schedule.hurry();
        assert_eq!(schedule.next(start), start);
        schedule.begin(start);
        assert_eq!(schedule.next(start), start + SHARE_INTERVAL);
        schedule.hurry();
        assert_eq!(schedule.next(start), start + SHARE_INTERVAL_MIN);
        let later = start + SHARE_INTERVAL / 2;
        assert_eq!(schedule.next(later), later, "it is overdue");
        schedule.begin(later);
        assert_eq!(schedule.next(later), later + SHARE_INTERVAL, "the hurry is over");
    }
}
