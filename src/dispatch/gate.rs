//! Whether a page may send at all: open, paused for a while, or suspended until its operator acts.
//!
//! Every change of the standing begins a new *era*. A call belongs to the era in which it began, and what it says counts
//! in that era only: answers to calls that were under way when a pause began neither prolong it nor end it.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Reason, SendError};
use crate::limits::{
    CIRCUIT_ATTEMPTS, CIRCUIT_PAUSE_MAX, CIRCUIT_TRIES, CIRCUIT_TROUBLE_PERCENT, PAUSE_FIRST, PAUSE_MAX,
    PROBE_FIRST, PROBE_MAX,
};

/// A page's gate. Knows no clock: every method is told the time.
#[derive(Debug)]
pub(super) struct Gate {
    standing: Standing,
    /// When it came into its standing, for people.
    since: SystemTime,
    /// Grows with every change.
    era: u64,
    /// Messages that have gone to see whether the pause is over.
    tries: usize,
    /// Pauses and suspensions without a success in between: each is twice as long as the one before.
    setbacks: u32,
    /// The last attempts, the newest last: true for those that ended in trouble.
    attempts: VecDeque<bool>,
    /// How many of them did.
    troubled: usize,
}

/// Whether messages go through.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Standing {
    /// They do.
    #[default]
    Open,
    /// They wait; after `until` a few go to see whether it is over.
    Paused {
        /// Why.
        error: SendError,
        /// When they may try.
        until: Instant,
    },
    /// They are refused; after `until` the page's token is tried.
    Suspended {
        /// Why.
        error: SendError,
        /// When it is tried.
        until: Instant,
    },
}

/// What the attempts of one call say about the page.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// Attempts that Graph answered, whatever it said of the message.
    pub(super) answered: usize,
    /// Attempts that are unknown or met a passing fault.
    pub(super) troubled: usize,
    /// Graph throttled one of them; how long it says that will last.
    pub(super) throttled: Option<Option<Duration>>,
    /// Graph refuses everything of the page.
    pub(super) stopped: Option<SendError>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            standing: Standing::Open,
            since: SystemTime::now(),
            era: 0,
            tries: 0,
            setbacks: 0,
            attempts: VecDeque::with_capacity(CIRCUIT_ATTEMPTS),
            troubled: 0,
        }
    }
}

impl Gate {
    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Since when it has had its standing.
    pub(super) fn since(&self) -> SystemTime {
        self.since
    }

    pub(super) fn era(&self) -> u64 {
        self.era
    }

    /// How many messages may go now.
    pub(super) fn allows(&self, now: Instant) -> usize {
        match &self.standing {
            Standing::Open => usize::MAX,
            Standing::Paused { error, until } if now >= *until => tries_max(error).saturating_sub(self.tries),
            Standing::Paused { .. } | Standing::Suspended { .. } => 0,
        }
    }

    /// When the next message may go, if time alone decides.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        match &self.standing {
            Standing::Paused { until, .. } if self.tries == 0 => Some(*until),
            Standing::Open | Standing::Paused { .. } | Standing::Suspended { .. } => None,
        }
    }

    /// Notes that a call of so many messages begins, and answers in which era.
    pub(super) fn begin_call(&mut self, messages: usize) -> u64 {
        if matches!(self.standing, Standing::Paused { .. }) {
            self.tries += messages;
        }
        self.era
    }

    /// Learns from a call of so many messages that began in `era` and has ended.
    pub(super) fn end_call(&mut self, era: u64, messages: usize, signs: Signs, now: Instant) {
        if era != self.era {
            return;
        }
        let Signs { answered, troubled, throttled, stopped } = signs;
        self.note(answered, troubled);
        if let Some(error) = stopped {
            self.suspend(error, now);
        } else if let Some(wait) = throttled {
            let backoff = self.setback(PAUSE_FIRST, PAUSE_MAX);
            self.pause(
                Reason::RateLimited,
                "graph throttles the page: it pauses",
                wait.unwrap_or(backoff),
                now,
            );
        } else if self.is_mostly_troubled() {
            let wait = self.setback(PAUSE_FIRST, CIRCUIT_PAUSE_MAX);
            let why = "most calls of the page fail: it pauses and tries again";
            self.pause(Reason::GraphUnavailable, why, wait, now);
        } else {
            // What was not sent after all leaves its try to another message.
            self.tries = self.tries.saturating_sub(messages - answered - troubled);
            self.recover();
        }
    }

    /// All is well again if it is with enough of the messages that went to see.
    fn recover(&mut self) {
        match &self.standing {
            Standing::Paused { error, .. } if self.attempts.len() >= tries_max(error) => {
                self.stand(Standing::Open)
            }
            Standing::Open if self.attempts.len() >= CIRCUIT_TRIES => self.setbacks = 0,
            Standing::Open | Standing::Paused { .. } | Standing::Suspended { .. } => {}
        }
    }

    /// The token of a suspended page was tried in vain.
    pub(super) fn probe_failed(&mut self, error: SendError, now: Instant) {
        let Standing::Suspended { error: before, .. } = &self.standing else { return };
        // That Graph cannot be reached says nothing about the token.
        let is_about_page = matches!(error.reason, Reason::PageTokenInvalid | Reason::PageRestricted);
        let error = if is_about_page { error } else { before.clone() };
        self.suspend(error, now);
    }

    /// The token of a suspended page works. A restricted page answers probes all the same: there, one message goes to see
    /// whether all is well.
    pub(super) fn probe_succeeded(&mut self, now: Instant) {
        let Standing::Suspended { error, .. } = &self.standing else { return };
        let error = error.clone();
        let is_restricted = error.reason == Reason::PageRestricted;
        self.stand(if is_restricted { Standing::Paused { error, until: now } } else { Standing::Open });
    }

    /// The page has another token than the one that was refused.
    pub(super) fn token_replaced(&mut self) {
        self.setbacks = 0;
        self.stand(Standing::Open);
    }

    /// Takes over what another replica has found.
    pub(super) fn adopt(&mut self, standing: Standing, since: SystemTime) {
        self.stand(standing);
        self.since = since;
    }

    fn suspend(&mut self, error: SendError, now: Instant) {
        let until = now + self.setback(PROBE_FIRST, PROBE_MAX);
        self.stand(Standing::Suspended { error, until });
    }

    fn pause(&mut self, reason: Reason, why: &'static str, wait: Duration, now: Instant) {
        let error = SendError { retry_after: Some(wait), ..SendError::new(reason, why) };
        self.stand(Standing::Paused { error, until: now + wait });
    }

    /// How long this setback lasts: twice as long as the one before, up to a limit.
    fn setback(&mut self, first: Duration, max: Duration) -> Duration {
        let wait = first.saturating_mul(2_u32.saturating_pow(self.setbacks.min(20))).min(max);
        self.setbacks = self.setbacks.saturating_add(1);
        wait
    }

    fn note(&mut self, answered: usize, troubled: usize) {
        for is_troubled in
            [(false, answered), (true, troubled)].map(|(it, count)| std::iter::repeat_n(it, count))
        {
            self.attempts.extend(is_troubled);
        }
        self.troubled += troubled;
        let excess = self.attempts.len().saturating_sub(CIRCUIT_ATTEMPTS);
        self.troubled -= self.attempts.drain(..excess).filter(|is_troubled| *is_troubled).count();
    }

    /// Of an open page the last attempts decide, of a paused one those that went to see.
    fn is_mostly_troubled(&self) -> bool {
        let enough = match &self.standing {
            Standing::Open => CIRCUIT_ATTEMPTS,
            Standing::Paused { error, .. } | Standing::Suspended { error, .. } => tries_max(error),
        };
        self.attempts.len() >= enough && self.troubled * 100 >= self.attempts.len() * CIRCUIT_TROUBLE_PERCENT
    }

    /// A new era. The time is that of the first of several pauses in a row.
    fn stand(&mut self, standing: Standing) {
        if std::mem::discriminant(&self.standing) != std::mem::discriminant(&standing) {
            self.since = SystemTime::now();
        }
        self.standing = standing;
        self.era += 1;
        self.tries = 0;
        self.attempts.clear();
        self.troubled = 0;
    }
}

/// How many messages go to see whether a pause is over. Calls to a page that Graph throttles prolong that; one of a page
/// whose calls failed may fail for a reason of its own.
fn tries_max(error: &SendError) -> usize {
    if error.reason == Reason::GraphUnavailable { CIRCUIT_TRIES } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(count: usize) -> Signs {
        Signs { answered: count, ..Signs::default() }
    }

    fn troubled(count: usize) -> Signs {
        Signs { troubled: count, ..Signs::default() }
    }

    fn throttled(wait: Option<Duration>) -> Signs {
        Signs { throttled: Some(wait), ..Signs::default() }
    }

    fn stopped() -> Signs {
        Signs { stopped: Some(SendError::new(Reason::PageRestricted, "x")), ..Signs::default() }
    }

    /// A call that begins and ends.
    fn call(gate: &mut Gate, signs: Signs, now: Instant) {
        let messages = signs.answered + signs.troubled;
        let era = gate.begin_call(messages);
        gate.end_call(era, messages, signs, now);
    }

    fn paused_for(gate: &Gate, now: Instant) -> Option<Duration> {
        match gate.standing() {
            Standing::Paused { until, .. } => Some(until.saturating_duration_since(now)),
            Standing::Open | Standing::Suspended { .. } => None,
        }
    }

    #[test]
    fn a_throttled_page_pauses_for_as_long_as_graph_says_or_longer_each_time() {
        let mut now = Instant::now();
        let two_minutes = Duration::from_secs(120);
        let mut gate = Gate::default();
        call(&mut gate, throttled(Some(two_minutes)), now);
        assert_eq!(paused_for(&gate, now), Some(two_minutes));
        assert_eq!((gate.allows(now), gate.opens_at()), (0, Some(now + two_minutes)));
        let mut gate = Gate::default();
        for wait in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
            let (under_way, last) = (gate.begin_call(1), gate.begin_call(1));
            gate.end_call(last, 1, throttled(None), now);
            assert_eq!(paused_for(&gate, now), Some(wait));
            for signs in [throttled(None), troubled(50), answered(50), stopped()] {
                gate.end_call(under_way, 1, signs, now);
                assert_eq!(paused_for(&gate, now), Some(wait), "calls that were under way change nothing");
            }
            now += wait;
            assert_eq!(gate.allows(now), 1, "one message goes to see");
            gate.begin_call(1);
            assert_eq!(gate.allows(now), 0);
        }
        call(&mut gate, answered(1), now);
        assert_eq!(gate.allows(now), usize::MAX);
    }

    #[test]
    fn a_try_that_sent_nothing_leaves_the_next_one_to_another_message() {
        let now = Instant::now();
        let mut gate = Gate::default();
        call(&mut gate, throttled(Some(Duration::ZERO)), now);
        let era = gate.begin_call(1);
        assert_eq!(gate.allows(now), 0);
        gate.end_call(era, 1, Signs::default(), now);
        assert_eq!(gate.allows(now), 1);
    }

    #[test]
    fn the_circuit_opens_at_its_share_of_trouble_and_not_before() {
        let now = Instant::now();
        let mut gate = Gate::default();
        call(&mut gate, answered(60), now);
        call(&mut gate, troubled(39), now);
        assert_eq!(paused_for(&gate, now), None, "too few attempts to tell");
        call(&mut gate, answered(1), now);
        assert_eq!(paused_for(&gate, now), None, "39 of 100");
        call(&mut gate, answered(59), now);
        assert_eq!(paused_for(&gate, now), None, "answers push trouble out");
        call(&mut gate, troubled(1), now);
        assert_eq!(paused_for(&gate, now), Some(PAUSE_FIRST), "40 of 100");
        let later = now + PAUSE_FIRST;
        assert_eq!(gate.allows(later), CIRCUIT_TRIES);
        call(&mut gate, troubled(CIRCUIT_TRIES - 1), later);
        assert_eq!((paused_for(&gate, later), gate.allows(later)), (Some(Duration::ZERO), 1));
        call(&mut gate, troubled(1), later);
        assert_eq!(paused_for(&gate, later), Some(2 * PAUSE_FIRST), "all that went to see");
        let even_later = later + 2 * PAUSE_FIRST;
        call(&mut gate, troubled(3), even_later);
        call(&mut gate, answered(6), even_later);
        assert_eq!(gate.allows(even_later), 1);
        call(&mut gate, answered(1), even_later);
        assert_eq!(gate.standing(), &Standing::Open, "most found all well");
    }

    #[test]
    fn a_suspended_page_is_probed_less_and_less_often_and_recovers_with_a_message() {
        let mut now = Instant::now();
        let mut gate = Gate::default();
        call(&mut gate, stopped(), now);
        for wait in [10, 20, 40].map(Duration::from_secs) {
            assert_eq!((gate.allows(now + wait), gate.opens_at()), (0, None), "no message is burned");
            gate.probe_succeeded(now);
            assert_eq!(gate.allows(now), 1, "a restricted page answers probes all the same");
            call(&mut gate, stopped(), now);
            assert!(matches!(gate.standing(), Standing::Suspended { until, .. } if *until == now + wait));
            now += wait;
        }
        gate.probe_failed(SendError::new(Reason::GraphUnavailable, "x"), now);
        assert!(
            matches!(gate.standing(), Standing::Suspended { error, .. } if error.reason == Reason::PageRestricted)
        );
        gate.probe_succeeded(now);
        call(&mut gate, answered(1), now);
        assert_eq!(gate.standing(), &Standing::Open);
    }
}
