//! How long to wait before the next try: exponential with full jitter, so that many clients of a service that comes
//! back do not come all at once.

use std::time::{Duration, Instant};

/// The longest first wait.
const FIRST_MAX: Duration = Duration::from_millis(200);
/// The longest of all waits. A stream that lives as long counts as a success.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(15);
/// The longest wait after a stream that left nothing but rows in progress: the service is well, and their outcome may
/// come any time.
pub(super) const IN_PROGRESS_WAIT_MAX: Duration = Duration::from_secs(2);
/// Doublings until the longest wait is passed for certain.
const DOUBLINGS_MAX: u32 = 10;

/// Waits between tries, up to a time without success.
#[derive(Debug)]
pub(super) struct Backoff {
    timeout: Duration,
    failures: u32,
    failing_since: Option<Instant>,
}

impl Backoff {
    /// Gives up after trying for `timeout` without success.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, failures: 0, failing_since: None }
    }

    /// Notes a success: the next failure is the first one again.
    pub(super) fn succeeded(&mut self) {
        (self.failures, self.failing_since) = (0, None);
    }

    /// Notes a failure. How long to wait before the next try, up to `wait_max`, and `at_least` if the service asked for
    /// that; `None` once the time is over.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        wait_max: Duration,
        at_least: Option<Duration>,
    ) -> Option<Duration> {
        let failing_since = *self.failing_since.get_or_insert(now);
        let left = self.timeout.checked_sub(now.duration_since(failing_since))?;
        if left.is_zero() {
            return None;
        }
        let longest = (FIRST_MAX * 2_u32.pow(self.failures.min(DOUBLINGS_MAX))).min(wait_max);
        self.failures = self.failures.saturating_add(1);
        let wait = longest.mul_f64(fastrand::f64());
        Some(wait.max(at_least.unwrap_or_default()).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn waits_grow_up_to_a_limit_and_differ() {
        let start = Instant::now();
        let longest_after = |failures: u32, wait_max: Duration| {
            let waits = (0..1000).map(|_| {
                let mut backoff = Backoff { failures, ..Backoff::new(10 * MINUTE) };
                backoff.failed(start, wait_max, None).unwrap()
            });
            let waits: Vec<Duration> = waits.collect();
            let (shortest, longest) = (*waits.iter().min().unwrap(), *waits.iter().max().unwrap());
            assert!(shortest < longest / 10, "full jitter goes down to nothing");
            longest
        };
        for (failures, limit) in [(0, FIRST_MAX), (1, FIRST_MAX * 2), (3, FIRST_MAX * 8), (40, WAIT_MAX)] {
            for (wait_max, limit) in
                [(WAIT_MAX, limit), (IN_PROGRESS_WAIT_MAX, limit.min(IN_PROGRESS_WAIT_MAX))]
            {
                let longest = longest_after(failures, wait_max);
                assert!(longest <= limit && longest > limit * 9 / 10, "{failures}: {longest:?}");
            }
        }
    }

    #[test]
    fn it_ends_when_the_time_without_success_is_over() {
        let start = Instant::now();
        let mut backoff = Backoff::new(MINUTE);
        let mut failed = |now, asked| backoff.failed(now, WAIT_MAX, asked);
        assert!(failed(start, None).is_some());
        let asked = failed(start + MINUTE / 2, Some(MINUTE / 4));
        assert!(asked.is_some_and(|wait| wait >= MINUTE / 4), "{asked:?}");
        assert_eq!(failed(start + MINUTE / 2, Some(MINUTE)), Some(MINUTE / 2), "not beyond the end");
        backoff.succeeded();
        let mut failed = |now| backoff.failed(now, WAIT_MAX, None);
        assert!(failed(start + MINUTE).is_some());
        assert!(failed(start + 2 * MINUTE).is_none());
        assert!(Backoff::new(Duration::ZERO).failed(start, WAIT_MAX, None).is_none());
    }
}
