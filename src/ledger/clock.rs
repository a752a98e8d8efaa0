//! What the ledger believes of clocks: a wall clock may be wrong and may jump, a steady one only runs on.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{LEDGER_CLOCK_JUMP, LEDGER_MARKS};

/// Watches a wall clock by this process's steady one.
#[derive(Debug)]
pub(super) struct Watch(Mutex<Look>);

/// What both clocks said at one moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    steady: Instant,
    wall_ms: i64,
}

impl Watch {
    /// Begins to watch, given what the wall clock says.
    pub(super) fn new(wall_ms: i64) -> Self {
        Self(Mutex::new(Look { steady: Instant::now(), wall_ms }))
    }

    /// How long it is since the last look, and by how much the wall clock has jumped since, if it has.
    pub(super) fn look(&self, wall_ms: i64) -> (Duration, Option<i64>) {
        let now = Look { steady: Instant::now(), wall_ms };
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), now);
        let elapsed = now.steady.duration_since(before.steady);
        (elapsed, jump(before.wall_ms, wall_ms, elapsed))
    }
}

/// By how many milliseconds a wall clock has jumped, if it has.
fn jump(before_ms: i64, now_ms: i64, elapsed: Duration) -> Option<i64> {
    let ahead_ms = now_ms.saturating_sub(before_ms).saturating_sub(millis(elapsed));
    (ahead_ms.saturating_abs() > millis(LEDGER_CLOCK_JUMP)).then_some(ahead_ms)
}

/// Says that a clock has jumped.
pub(super) fn tell_jump(whose: &str, jump_ms: i64) {
    tracing::error!(
        jump_s = jump_ms / 1000,
        "the clock of {whose} has jumped: outcomes are kept for their retention all the same, counted by a steady clock"
    );
}

/// True if a mark is due: marks of one retention are bounded.
pub(super) fn is_mark_due(last_mark_ms: i64, uptime_ms: i64, retention: Duration) -> bool {
    uptime_ms.saturating_sub(last_mark_ms) >= millis(retention / LEDGER_MARKS)
}

/// A span of time in milliseconds.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_does_not_run_as_the_steady_one_has_jumped() {
        let minute = Duration::from_secs(60);
        for (now_ms, expected) in [
            (60_000, None),
            (69_000, None),
            (51_000, None),
            (8 * 86_400_000, Some(8 * 86_400_000 - 60_000)),
            (0, Some(-60_000)),
            (-1_000_000, Some(-1_060_000)),
        ] {
            assert_eq!(jump(0, now_ms, minute), expected, "{now_ms}");
        }
        assert_eq!(jump(i64::MAX, i64::MIN, minute), Some(i64::MIN), "no overflow");
    }

    #[test]
    fn marks_are_bounded() {
        let retention = Duration::from_secs(640);
        assert!(!is_mark_due(0, 9999, retention) && is_mark_due(0, 10_000, retention));
    }
}
