//! Whether a page may send at all: open, paused for a while, or suspended until its operator acts.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Reason, SendError};
use crate::limits::{CIRCUIT_CALLS, CIRCUIT_TROUBLE_PERCENT, PAUSE_FIRST, PAUSE_MAX, PROBE_FIRST, PROBE_MAX};

/// A page's gate. Knows no clock: every method is told the time.
#[derive(Debug)]
pub(super) struct Gate {
    standing: Standing,
    /// When it came into its standing, for people.
    since: SystemTime,
    /// Pauses in a row: each is twice as long as the one before.
    pauses: u32,
    /// The last calls, the newest last: true for those that ended in trouble.
    attempts: VecDeque<bool>,
}

/// Whether messages go through.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Standing {
    /// They do.
    #[default]
    Open,
    /// They wait; after `until` one goes to see whether it is over.
    Paused {
        /// Why.
        error: SendError,
        /// When one may try.
        until: Instant,
    },
    /// They are refused; after `until` one goes to see whether it is over.
    Suspended {
        /// Why.
        error: SendError,
        /// When one may try.
        until: Instant,
    },
}

impl Default for Gate {
    fn default() -> Self {
        Self { standing: Standing::Open, since: SystemTime::now(), pauses: 0, attempts: VecDeque::new() }
    }
}

impl Gate {
    /// Its standing, and since when.
    pub(super) fn standing(&self) -> (&Standing, SystemTime) {
        (&self.standing, self.since)
    }

    /// How many messages may go now, with this many calls in flight.
    pub(super) fn allows(&self, calls_in_flight: usize, now: Instant) -> usize {
        match &self.standing {
            Standing::Open => usize::MAX,
            Standing::Paused { until, .. } | Standing::Suspended { until, .. } => {
                usize::from(now >= *until && calls_in_flight == 0)
            }
        }
    }

    /// When the next message may try, if none may now.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        match &self.standing {
            Standing::Open => None,
            Standing::Paused { until, .. } | Standing::Suspended { until, .. } => Some(*until),
        }
    }

    /// Graph answered a call with nothing that says anything about the page.
    pub(super) fn answered(&mut self) {
        self.note(false);
        // An answer to a call that was under way when the pause began says nothing about what comes after it.
        if matches!(self.standing, Standing::Open) || self.is_trying() {
            self.pauses = 0;
            self.stand(Standing::Open);
        }
    }

    /// A call ended unknown or in a passing fault. Pauses the page when too many of the last ones did.
    pub(super) fn troubled(&mut self, now: Instant) {
        self.note(true);
        let trouble = self.attempts.iter().filter(|troubled| **troubled).count();
        let is_full = self.attempts.len() >= CIRCUIT_CALLS;
        if self.is_trying() || (is_full && trouble * 100 >= CIRCUIT_CALLS * CIRCUIT_TROUBLE_PERCENT) {
            self.attempts.clear();
            let error = SendError::new(
                Reason::GraphUnavailable,
                "most calls of the page fail: it pauses and tries again",
            );
            self.pause(error, None, now);
        }
    }

    /// Graph throttles the page; `wait` is how long it says that will last.
    pub(super) fn throttled(&mut self, wait: Option<Duration>, now: Instant) {
        self.pause(SendError::new(Reason::RateLimited, "graph throttles the page: it pauses"), wait, now);
    }

    /// Graph refuses everything of the page.
    pub(super) fn stopped(&mut self, error: SendError, now: Instant) {
        let wait = backoff(PROBE_FIRST, PROBE_MAX, self.pauses);
        self.pauses = self.pauses.saturating_add(1);
        self.stand(Standing::Suspended { error, until: now + wait });
    }

    /// What stopped the page has been mended.
    pub(super) fn mended(&mut self) {
        self.pauses = 0;
        self.attempts.clear();
        self.stand(Standing::Open);
    }

    /// True if the page was paused and one message has gone to see whether it is over.
    fn is_trying(&self) -> bool {
        matches!(&self.standing, Standing::Paused { until, .. } if Instant::now() >= *until)
    }

    fn pause(&mut self, error: SendError, wait: Option<Duration>, now: Instant) {
        match &self.standing {
            // The answer to a call that was under way when the page was stopped or paused changes nothing.
            Standing::Suspended { .. } => return,
            Standing::Paused { until, .. } if now < *until => return,
            Standing::Open | Standing::Paused { .. } => {}
        }
        let wait = wait.unwrap_or_else(|| backoff(PAUSE_FIRST, PAUSE_MAX, self.pauses));
        self.pauses = self.pauses.saturating_add(1);
        self.stand(Standing::Paused {
            error: SendError { retry_after: Some(wait), ..error },
            until: now + wait,
        });
    }

    fn note(&mut self, troubled: bool) {
        self.attempts.push_back(troubled);
        if self.attempts.len() > CIRCUIT_CALLS {
            self.attempts.pop_front();
        }
    }

    /// The time is that of the first of several pauses in a row.
    fn stand(&mut self, standing: Standing) {
        if std::mem::discriminant(&self.standing) != std::mem::discriminant(&standing) {
            self.since = SystemTime::now();
        }
        self.standing = standing;
    }
}

/// Twice as long each time, up to a limit.
fn backoff(first: Duration, max: Duration, times: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.min(20))).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused_for(gate: &Gate, now: Instant) -> Option<Duration> {
        match gate.standing().0 {
            Standing::Paused { until, .. } => Some(until.saturating_duration_since(now)),
            Standing::Open | Standing::Suspended { .. } => None,
        }
    }

    #[test]
    fn a_throttled_page_pauses_for_as_long_as_graph_says_or_longer_each_time() {
        let mut gate = Gate::default();
        let mut now = Instant::now();
        gate.throttled(Some(Duration::from_secs(120)), now);
        assert_eq!(paused_for(&gate, now), Some(Duration::from_secs(120)));
        assert_eq!((gate.allows(0, now), gate.opens_at()), (0, Some(now + Duration::from_secs(120))));
        let mut gate = Gate::default();
        for wait in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
            gate.throttled(None, now);
            assert_eq!(paused_for(&gate, now), Some(wait));
            gate.throttled(None, now);
            assert_eq!(paused_for(&gate, now), Some(wait), "calls that were under way do not prolong it");
            now += wait;
            assert_eq!((gate.allows(0, now), gate.allows(1, now)), (1, 0), "one message goes to see");
        }
    }

    #[test]
    fn the_circuit_opens_at_its_share_of_trouble_and_not_before() {
        let now = Instant::now();
        let mut gate = Gate::default();
        (0..60).for_each(|_| gate.answered());
        (0..39).for_each(|_| gate.troubled(now));
        assert_eq!(paused_for(&gate, now), None);
        gate.troubled(now);
        assert_eq!(paused_for(&gate, now), Some(PAUSE_FIRST));
        let mut fresh = Gate::default();
        (0..99).for_each(|_| fresh.troubled(now));
        assert_eq!(paused_for(&fresh, now), None, "too few attempts to tell");
    }

    #[test]
    fn a_suspended_page_stays_so_until_it_is_mended() {
        let now = Instant::now();
        let mut gate = Gate::default();
        gate.stopped(SendError::new(Reason::PageTokenInvalid, "x"), now);
        gate.answered();
        gate.throttled(None, now);
        assert!(matches!(gate.standing().0, Standing::Suspended { .. }));
        gate.mended();
        assert_eq!(gate.standing().0, &Standing::Open);
    }
}
