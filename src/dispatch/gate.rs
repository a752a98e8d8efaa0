//! Whether a page may send at all: open, paused for a while, or suspended until its operator acts.
//!
//! Every change of the standing begins a new *era*. A call belongs to the era in which it began, and what it says counts
//! in that era only: answers to calls that were under way when a pause began neither prolong it nor end it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::queued::RecipientHash;
use crate::error::{Reason, SendError};
use crate::graph::response::{Disposition, Refusal};
use crate::limits::{
    CIRCUIT_ATTEMPTS, CIRCUIT_PAUSE_MAX, CIRCUIT_TRIES, CIRCUIT_TROUBLE_PERCENT, PAUSE_FIRST, PAUSE_MAX,
    PAUSE_TOLD_MAX, PROBE_FIRST, PROBE_MAX, SUSPECTED_IN_A_ROW,
};
use crate::pages::TokenDigest;

/// A page's gate. Knows no clock: every method is told the time.
#[derive(Debug)]
pub(super) struct Gate {
    standing: Standing,
    /// When it came into its standing.
    since: Instant,
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
    /// Whom the last refusals in a row were for that may be about the page.
    suspected: Vec<RecipientHash>,
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
        /// The token that was refused.
        token: TokenDigest,
    },
}

/// What the attempts of one call say about the page.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// Attempts that Graph answered, whatever it said of the message.
    pub(super) answered: usize,
    /// Attempts that are unknown or met a passing fault.
    pub(super) troubled: usize,
    /// Graph throttled one of them.
    pub(super) throttled: Option<Throttle>,
    /// Graph refuses everything of the page.
    pub(super) stopped: Option<SendError>,
    /// The last refusals in a row that may be about the page, and whom they were for.
    pub(super) suspected: Option<Suspicion>,
    /// Something else came before these, so that earlier ones are not in a row with them.
    pub(super) breaks_row: bool,
}

impl Signs {
    /// Graph answered an attempt, and said nothing of the page.
    pub(super) fn note_answer(&mut self) {
        self.answered += 1;
        self.breaks_row = true;
        self.suspected = None;
    }
}

/// Graph throttles a page.
#[derive(Debug)]
pub(super) struct Throttle {
    /// What it said.
    pub(super) error: SendError,
    /// How long it says that this will last.
    pub(super) wait: Option<Duration>,
}

/// Refusals in a row, each of which may be about its message or about the page.
#[derive(Debug)]
pub(super) struct Suspicion {
    /// The last one.
    pub(super) error: SendError,
    /// Whom the messages were for.
    pub(super) recipients: Vec<RecipientHash>,
}

impl Gate {
    /// The gate of a page that may send.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            standing: Standing::Open,
            since: now,
            era: 0,
            tries: 0,
            setbacks: 0,
            attempts: VecDeque::with_capacity(CIRCUIT_ATTEMPTS),
            troubled: 0,
            suspected: Vec::new(),
        }
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Since when it has had its standing.
    pub(super) fn since(&self) -> Instant {
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

    /// Notes that a call of so many messages begins, and returns the era in which it does.
    pub(super) fn begin_call(&mut self, messages: usize) -> u64 {
        if matches!(self.standing, Standing::Paused { .. }) {
            self.tries += messages;
        }
        self.era
    }

    /// Learns from a call of so many messages that began in `era` with `token`, and has ended.
    pub(super) fn end_call(&mut self, call: &EndedCall, signs: Signs, now: Instant) {
        if call.era != self.era {
            return;
        }
        let Signs { answered, troubled, throttled, stopped, suspected, breaks_row } = signs;
        self.note(answered, troubled);
        if breaks_row {
            self.suspected.clear();
        }
        let stopped = stopped.or_else(|| suspected.and_then(|suspicion| self.suspect(suspicion)));
        if let Some(error) = stopped {
            self.suspend(error, call.token, now);
        } else if let Some(Throttle { error, wait }) = throttled {
            let backoff = self.setback(PAUSE_FIRST, PAUSE_MAX);
            // However long Graph says, a message goes to see now and then.
            let wait = wait.map_or(backoff, |wait| wait.min(PAUSE_TOLD_MAX));
            let error = SendError { message: "graph throttles the page: it pauses".into(), ..error };
            self.pause(error, wait, now);
        } else if self.is_mostly_troubled() {
            let wait = self.setback(PAUSE_FIRST, CIRCUIT_PAUSE_MAX);
            let why = "most calls of the page fail: it pauses and tries again";
            self.pause(SendError::new(Reason::GraphUnavailable, why), wait, now);
        } else {
            // What was not sent after all leaves its try to another message.
            self.tries = self.tries.saturating_sub(call.messages.saturating_sub(answered + troubled));
            self.recover(now);
        }
    }

    /// Takes more refusals in a row that may be about the page. Returns the error if there are enough by now, or if one
    /// went to see whether the page is well again.
    fn suspect(&mut self, suspicion: Suspicion) -> Option<SendError> {
        for recipient in suspicion.recipients {
            if !self.suspected.contains(&recipient) && self.suspected.len() < SUSPECTED_IN_A_ROW {
                self.suspected.push(recipient);
            }
        }
        let went_to_see = matches!(&self.standing, Standing::Paused { error, .. } if error.reason == suspicion.error.reason);
        (went_to_see || self.suspected.len() >= SUSPECTED_IN_A_ROW).then_some(suspicion.error)
    }

    /// All is well again if it is with enough of the messages that went to see.
    fn recover(&mut self, now: Instant) {
        match &self.standing {
            Standing::Paused { error, .. } if self.attempts.len() >= tries_max(error) => {
                self.set_standing(Standing::Open, now)
            }
            Standing::Open if self.attempts.len() >= CIRCUIT_TRIES => self.setbacks = 0,
            Standing::Open | Standing::Paused { .. } | Standing::Suspended { .. } => {}
        }
    }

    /// A token of the suspended page was tried in vain.
    pub(super) fn probe_failed(&mut self, refusal: Refusal, now: Instant) {
        let Standing::Suspended { error: before, token, .. } = &self.standing else { return };
        // That Graph cannot be reached says nothing about the page.
        let is_about_page = refusal.disposition == Disposition::PageStopped;
        let (error, token) = (if is_about_page { refusal.error } else { before.clone() }, *token);
        self.suspend(error, token, now);
    }

    /// The token of a suspended page works. If it was refused before, all is well; of everything else a probe says nothing,
    /// so one message goes to see.
    pub(super) fn probe_succeeded(&mut self, now: Instant) {
        let Standing::Suspended { error, .. } = &self.standing else { return };
        let (error, is_token) = (error.clone(), error.reason == Reason::PageTokenInvalid);
        self.set_standing(
            if is_token { Standing::Open } else { Standing::Paused { error, until: now } },
            now,
        );
    }

    /// The page has another token than the one that was refused.
    pub(super) fn token_replaced(&mut self, now: Instant) {
        self.setbacks = 0;
        self.set_standing(Standing::Open, now);
    }

    /// Takes over what another replica has found.
    pub(super) fn adopt(&mut self, standing: Standing, since: Instant, now: Instant) {
        self.set_standing(standing, now);
        self.since = since;
    }

    fn suspend(&mut self, error: SendError, token: TokenDigest, now: Instant) {
        let until = now + self.setback(PROBE_FIRST, PROBE_MAX);
        self.set_standing(Standing::Suspended { error, until, token }, now);
    }

    fn pause(&mut self, error: SendError, wait: Duration, now: Instant) {
        let error = SendError { retry_after: Some(wait), ..error };
        self.set_standing(Standing::Paused { error, until: now + wait }, now);
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
    fn set_standing(&mut self, standing: Standing, now: Instant) {
        if std::mem::discriminant(&self.standing) != std::mem::discriminant(&standing) {
            self.since = now;
        }
        self.standing = standing;
        self.era += 1;
        self.tries = 0;
        self.attempts.clear();
        self.troubled = 0;
        self.suspected.clear();
    }
}

/// What a gate must know of a call that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndedCall {
    /// The era in which it began.
    pub(super) era: u64,
    /// How many messages the lane picked for it.
    pub(super) messages: usize,
    /// The page's token at that time.
    pub(super) token: TokenDigest,
}

/// How many messages go to see whether a pause is over. Calls to a page that Graph throttles prolong that; one of a page
/// whose calls failed may fail for a reason of its own.
fn tries_max(error: &SendError) -> usize {
    if error.reason == Reason::GraphUnavailable { CIRCUIT_TRIES } else { 1 }
}

#[cfg(test)]
mod tests;
