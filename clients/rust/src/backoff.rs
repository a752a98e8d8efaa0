//! How long to wait before the next try: exponential with full jitter, so that many clients of a service that comes back
//! do not come all at once.

use std::time::Duration;

use tokio::time::Instant;

/// The longest first wait. It doubles with every failure.
const WAIT_FIRST: Duration = Duration::from_millis(200);
/// The longest wait for what an earlier try, or an earlier stream, began: the service is well, and the outcome may come
/// any time.
pub(crate) const IN_PROGRESS_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long to wait after so many earlier failures: a random part of a time that doubles, up to `wait_max`.
pub(crate) fn wait(failures: u32, wait_max: Duration) -> Duration {
    WAIT_FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(wait_max).mul_f64(fastrand::f64())
}

/// Failures in a row, and since when.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    count: u32,
    since: Option<Instant>,
}

impl Failures {
    /// Notes a success: the next failure is the first one again.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Notes a failure. Returns how long to wait before the next try, up to `wait_max` and at least as long as was asked
    /// for; `None` once there was none but failures for `timeout`.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        timeout: Duration,
        wait_max: Duration,
        asked: Option<Duration>,
    ) -> Option<Duration> {
        let left = timeout.saturating_sub(now - *self.since.get_or_insert(now));
        if left.is_zero() {
            return None;
        }
        let wait = wait(self.count, wait_max).max(asked.unwrap_or_default());
        self.count = self.count.saturating_add(1);
        Some(wait.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn waits_grow_up_to_a_limit_and_differ() {
        let cases = [
            (0, MINUTE, WAIT_FIRST),
            (1, MINUTE, WAIT_FIRST * 2),
            (3, MINUTE, WAIT_FIRST * 8),
            (3, WAIT_FIRST, WAIT_FIRST),
            (u32::MAX, MINUTE, MINUTE),
        ];
        for (failures, wait_max, limit) in cases {
            let waits: Vec<Duration> = (0..1000).map(|_| wait(failures, wait_max)).collect();
            let (shortest, longest) = (*waits.iter().min().unwrap(), *waits.iter().max().unwrap());
            assert!(longest <= limit && longest > limit * 9 / 10, "{failures}: {longest:?}");
            assert!(shortest < longest / 10, "full jitter goes down to nothing");
        }
    }

    #[test]
    fn the_time_without_success_is_bounded() {
        let (start, mut failures) = (Instant::now(), Failures::default());
        let mut add = |now, asked| failures.add(now, MINUTE, WAIT_FIRST, asked);
        assert!(add(start, None).is_some_and(|wait| wait <= WAIT_FIRST));
        assert_eq!(add(start + MINUTE / 2, Some(MINUTE / 4)), Some(MINUTE / 4), "as long as was asked for");
        assert_eq!(add(start + MINUTE / 2, Some(MINUTE)), Some(MINUTE / 2), "not beyond the end");
        assert_eq!(add(start + MINUTE, None), None);
        failures.forget();
        assert!(failures.add(start + MINUTE, MINUTE, WAIT_FIRST, None).is_some());
        assert_eq!(Failures::default().add(start, Duration::ZERO, WAIT_FIRST, None), None);
    }
}
