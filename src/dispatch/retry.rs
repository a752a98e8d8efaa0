//! Whether a message that was surely not sent is tried again, and when.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::graph::response::Disposition;
use crate::limits::{
    ATTEMPTS_MAX, RETRIES_SPARE, RETRY_FIRST, RETRY_MAX, SENDS_PER_RETRY, THROTTLED_ATTEMPTS_MAX,
};

/// Retries that a page has left: a share of what succeeds, so that a failing Graph is not called much more.
#[derive(Debug)]
pub(crate) struct RetryBudget {
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
pub(crate) enum Retry {
    /// Never: its answer is final.
    No,
    /// As soon as the page sends again, behind others.
    WithPage,
    /// Then.
    At(Instant),
}

/// What a decision about one message goes by.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) disposition: Disposition,
    /// The how many-th it was of the message.
    pub(super) number: u32,
    pub(super) deadline: Option<Instant>,
    /// The call used a token that the page has no more.
    pub(super) had_old_token: bool,
    pub(super) ended: Instant,
}

/// Decides after an attempt. `spread` between 0 and 1 spreads retries of many messages.
pub(super) fn decide(attempt: &Attempt, budget: &RetryBudget, spread: f64) -> Retry {
    let attempts = attempt.number;
    let is_worth_it = match attempt.disposition {
        // What an old token is refused for says nothing about the new one.
        Disposition::PageStopped if attempt.had_old_token && attempts < ATTEMPTS_MAX => {
            return Retry::WithPage;
        }
        Disposition::Final
        | Disposition::Later
        | Disposition::PageStopped
        | Disposition::PageSuspected
        | Disposition::Unknown => false,
        // The page waits, and the message with it, up to its deadline. One that is throttled again and again while
        // others are not ends all the same.
        Disposition::Throttled if attempts < THROTTLED_ATTEMPTS_MAX => return Retry::WithPage,
        Disposition::Throttled => false,
        Disposition::Transient => attempts < ATTEMPTS_MAX,
        Disposition::OnceMore => attempts < 2,
    };
    let at = attempt.ended + delay(attempts).mul_f64(spread);
    if is_worth_it && attempt.deadline.is_none_or(|deadline| at < deadline) && budget.spend() {
        Retry::At(at)
    } else {
        Retry::No
    }
}

/// The longest pause after so many attempts: exponential.
fn delay(attempts: u32) -> Duration {
    RETRY_FIRST.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1))).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(disposition: Disposition, number: u32) -> Attempt {
        Attempt { disposition, number, deadline: None, had_old_token: false, ended: Instant::now() }
    }

    #[test]
    fn only_what_was_surely_not_sent_is_tried_again() {
        let decide = |attempt: &Attempt| decide(attempt, &RetryBudget::default(), 1.0);
        for disposition in [
            Disposition::Final,
            Disposition::Unknown,
            Disposition::Later,
            Disposition::PageStopped,
            Disposition::PageSuspected,
        ] {
            assert_eq!(decide(&attempt(disposition, 1)), Retry::No, "{disposition:?}");
        }
        for (disposition, last) in [(Disposition::Transient, ATTEMPTS_MAX), (Disposition::OnceMore, 2)] {
            assert!(matches!(decide(&attempt(disposition, last - 1)), Retry::At(_)), "{disposition:?}");
            assert_eq!(decide(&attempt(disposition, last)), Retry::No, "{disposition:?}");
        }
        let last = THROTTLED_ATTEMPTS_MAX;
        assert_eq!(decide(&attempt(Disposition::Throttled, last - 1)), Retry::WithPage);
        assert_eq!(decide(&attempt(Disposition::Throttled, last)), Retry::No);
        let had_old_token = Attempt { had_old_token: true, ..attempt(Disposition::PageStopped, 1) };
        assert_eq!(decide(&had_old_token), Retry::WithPage, "the new token may be good");
        let again_and_again = Attempt { number: ATTEMPTS_MAX, ..had_old_token };
        assert_eq!(decide(&again_and_again), Retry::No);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread() {
        let budget = RetryBudget::default();
        let pause = |number, spread| {
            let attempt = attempt(Disposition::Transient, number);
            match decide(&attempt, &budget, spread) {
                Retry::At(at) => at - attempt.ended,
                Retry::No | Retry::WithPage => panic!("it is worth it"),
            }
        };
        let pauses: Vec<_> = (1..ATTEMPTS_MAX).map(|number| pause(number, 1.0)).collect();
        assert_eq!(pauses, [400, 800, 1600, 3200].map(Duration::from_millis));
        assert_eq!(pause(2, 0.25), Duration::from_millis(200));
        assert_eq!(delay(1000), RETRY_MAX);
    }

    #[test]
    fn retries_end_with_the_deadline_and_with_the_budget() {
        let budget = RetryBudget::default();
        let transient = attempt(Disposition::Transient, 1);
        let with_deadline =
            |deadline| Attempt { deadline: Some(deadline), ..attempt(Disposition::Transient, 1) };
        let due = transient.ended + RETRY_FIRST;
        assert_eq!(decide(&with_deadline(transient.ended), &budget, 1.0), Retry::No);
        assert_ne!(decide(&with_deadline(due + RETRY_FIRST), &budget, 1.0), Retry::No);
        let tries = (0..1000).filter(|_| decide(&transient, &budget, 1.0) != Retry::No).count();
        assert_eq!(tries + 1, RETRIES_SPARE as usize);
        budget.earn(SENDS_PER_RETRY as usize);
        assert!(matches!(decide(&transient, &budget, 1.0), Retry::At(_)), "sends pay for retries");
        assert_eq!(decide(&transient, &budget, 1.0), Retry::No);
        budget.earn(usize::MAX);
        let tries = (0..1000).filter(|_| decide(&transient, &budget, 1.0) != Retry::No).count();
        assert_eq!(tries, RETRIES_SPARE as usize, "no more than that is saved up");
    }
}
