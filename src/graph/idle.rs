//! How long an idle connection may be used again: shorter than the other side keeps it, or a call meets its end on the
//! way, and nobody can tell whether Graph saw the message.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{GRAPH_IDLE_MAX, GRAPH_IDLE_MEMORY};

/// However short the other side's time is, a new connection is used for so long.
const LIMIT_MIN: Duration = Duration::from_millis(100);

/// What closed connections taught about the other side's time. Knows no clock: every method is told the time.
#[derive(Debug)]
pub(super) struct IdleLimit {
    /// The shortest time after which the other side closed an idle connection: in the present period, and in the one
    /// before. A period lasts [`GRAPH_IDLE_MEMORY`].
    shortest: [Option<Duration>; 2],
    period_began: Instant,
}

impl IdleLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self { shortest: [None; 2], period_began: now }
    }

    /// The other side closed a connection that had been idle for so long.
    pub(super) fn note_close(&mut self, idle: Duration, now: Instant) {
        self.begin_periods(now);
        let shortest = &mut self.shortest[0];
        *shortest = Some(shortest.map_or(idle, |before| before.min(idle)));
    }

    /// How long a connection may be idle and still be used. Half of the shortest time that the other side kept one leaves
    /// room for the way there, on which its close may come towards the call.
    pub(super) fn get(&mut self, now: Instant) -> Duration {
        self.begin_periods(now);
        let shortest = self.shortest.iter().flatten().min();
        shortest.map_or(GRAPH_IDLE_MAX, |shortest| (*shortest / 2).clamp(LIMIT_MIN, GRAPH_IDLE_MAX))
    }

    fn begin_periods(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.period_began);
        if passed < GRAPH_IDLE_MEMORY {
            return;
        }
        let is_next = passed < 2 * GRAPH_IDLE_MEMORY;
        self.shortest = [None, self.shortest[0].filter(|_| is_next)];
        self.period_began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_used_for_half_the_time_that_the_other_side_keeps_them() {
        let start = Instant::now();
        let mut limit = IdleLimit::new(start);
        assert_eq!(limit.get(start), GRAPH_IDLE_MAX);
        limit.note_close(Duration::from_secs(3), start);
        limit.note_close(Duration::from_secs(2), start);
        limit.note_close(Duration::from_secs(90), start);
        assert_eq!(limit.get(start), Duration::from_secs(1));
        let next = start + GRAPH_IDLE_MEMORY;
        assert_eq!(limit.get(next), Duration::from_secs(1), "known from the period before");
        limit.note_close(Duration::from_secs(4), next);
        assert_eq!(limit.get(next), Duration::from_secs(1));
        let last = next + GRAPH_IDLE_MEMORY;
        assert_eq!(limit.get(last), Duration::from_secs(2), "a restart of the other side is forgotten");
        assert_eq!(limit.get(last + 2 * GRAPH_IDLE_MEMORY), GRAPH_IDLE_MAX);
    }
}
