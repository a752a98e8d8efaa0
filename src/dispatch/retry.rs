//! Whether a message that was surely not sent is tried again, and when.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::graph::response::Disposition;
use crate::limits::{ATTEMPTS_MAX, RETRIES_SPARE, RETRY_FIRST, RETRY_MAX, SENDS_PER_RETRY};

/// Retries that a page has left: a share of what succeeds, so that a failing Graph is not called much more.
#[derive(Debug)]
pub(super) struct RetryBudget {
    /// Successful sends not yet spent.
    sends: Mutex<u32>,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { sends: Mutex::new(RETRIES_SPARE * SENDS_PER_RETRY) }
    }
}

impl RetryBudget {
    /// So many messages were sent.
    pub(super) fn earn(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let mut sends = self.sends.lock().unwrap_or_else(PoisonError::into_inner);
        *sends = sends.saturating_add(count).min(RETRIES_SPARE * SENDS_PER_RETRY);
    }

    /// Pays for a retry, if there is enough left.
    fn spend(&self) -> bool {
        let mut sends = self.sends.lock().unwrap_or_else(PoisonError::into_inner);
        let left = sends.checked_sub(SENDS_PER_RETRY);
        *sends = left.unwrap_or(*sends);
        left.is_some()
    }
}

/// When to try a message again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// Never: its answer is final.
    No,
    /// As soon as the page sends again.
    WithPage,
    /// Then.
    At(Instant),
}

/// Decides after an attempt, the `attempts`-th of the message.
pub(super) fn decide(
    disposition: Disposition,
    attempts: u32,
    deadline: Option<Instant>,
    budget: &RetryBudget,
    now: Instant,
) -> Retry {
    let is_worth_it = match disposition {
        Disposition::Final
        | Disposition::Later
        | Disposition::PageStopped
        | Disposition::PageSuspected
        | Disposition::Unknown => false,
        // The page waits, and the message with it, up to its deadline.
        Disposition::Throttled => return Retry::WithPage,
        Disposition::Transient => attempts < ATTEMPTS_MAX,
        Disposition::OnceMore => attempts < 2,
    };
    let at = now + delay(attempts);
    if is_worth_it && deadline.is_none_or(|deadline| at < deadline) && budget.spend() {
        Retry::At(at)
    } else {
        Retry::No
    }
}

/// Exponential, with full jitter: retries of many messages spread out.
fn delay(attempts: u32) -> Duration {
    let longest = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1))).min(RETRY_MAX);
    longest.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_surely_not_sent_is_tried_again() {
        let now = Instant::now();
        let decide =
            |disposition, attempts| decide(disposition, attempts, None, &RetryBudget::default(), now);
        for disposition in [
            Disposition::Final,
            Disposition::Unknown,
            Disposition::Later,
            Disposition::PageStopped,
            Disposition::PageSuspected,
        ] {
            assert_eq!(decide(disposition, 1), Retry::No, "{disposition:?}");
        }
        assert_eq!(decide(Disposition::Throttled, 1000), Retry::WithPage);
        for (disposition, last) in [(Disposition::Transient, ATTEMPTS_MAX), (Disposition::OnceMore, 2)] {
            assert!(matches!(decide(disposition, last - 1), Retry::At(_)), "{disposition:?}");
            assert_eq!(decide(disposition, last), Retry::No, "{disposition:?}");
        }
    }

    #[test]
    fn retries_end_with_the_deadline_and_with_the_budget() {
        let now = Instant::now();
        let budget = RetryBudget::default();
        assert_eq!(decide(Disposition::Transient, 1, Some(now), &budget, now), Retry::No);
        let tries =
            (0..1000).filter(|_| decide(Disposition::Transient, 1, None, &budget, now) != Retry::No).count();
        assert_eq!(tries, RETRIES_SPARE as usize);
        budget.earn(SENDS_PER_RETRY as usize);
        assert!(
            matches!(decide(Disposition::Transient, 1, None, &budget, now), Retry::At(_)),
            "sends pay for retries"
        );
    }
}
