//! How fast a page may send: a bucket for an even flow, under a hard limit on every window of one second.
//!
//! A token bucket alone lets its whole capacity go on top of a second's worth of tokens. Meta counts calls per
//! second, so what was sent in the last second is counted too, and nothing may go beyond the rate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::BATCH_SIZE_MAX;

/// The bucket's share of the rate. What it leaves lets the flow even out again after a burst.
const FLOW: f64 = 0.993;
/// Length of the window that is counted: a second, and what the network may close up between two sends.
const WINDOW: Duration = Duration::from_millis(1005);
/// Bulk messages are collected for this long when the rate holds them back, so that they share calls and leave
/// tokens for unary ones.
const COLLECT: Duration = Duration::from_millis(20);

/// The pace of one kind of message on one page.
#[derive(Debug)]
pub(super) struct Pace {
    /// Messages per second; 0 for no limit.
    rate_per_second: f64,
    tokens: f64,
    refilled: Instant,
    /// When messages went out during the last window, and how many.
    sent: VecDeque<(Instant, usize)>,
    sent_in_window: usize,
}

impl Pace {
    /// A pace that starts with a full bucket.
    pub(super) fn new(rate_per_second: f64, now: Instant) -> Self {
        let mut pace =
            Self { rate_per_second, tokens: 0.0, refilled: now, sent: VecDeque::new(), sent_in_window: 0 };
        pace.tokens = pace.capacity();
        pace
    }

    /// Changes the rate; what was sent stays counted.
    pub(super) fn set_rate(&mut self, rate_per_second: f64, now: Instant) {
        if rate_per_second != self.rate_per_second {
            self.refill(now);
            self.rate_per_second = rate_per_second;
            self.tokens = self.tokens.min(self.capacity());
        }
    }

    /// How many tokens a bulk waits for before it sends.
    pub(super) fn collected(&self) -> usize {
        ((self.rate_per_second * COLLECT.as_secs_f64()) as usize).clamp(1, BATCH_SIZE_MAX)
    }

    /// How many messages may go now: none before the bucket holds `wanted` tokens.
    pub(super) fn available(&mut self, wanted: usize, now: Instant) -> usize {
        if self.rate_per_second <= 0.0 {
            return usize::MAX;
        }
        self.refill(now);
        self.forget(now);
        let tokens = self.tokens as usize;
        if tokens < wanted { 0 } else { tokens.min(self.window_limit().saturating_sub(self.sent_in_window)) }
    }

    /// Notes that messages go out now.
    pub(super) fn take(&mut self, count: usize, now: Instant) {
        if self.rate_per_second <= 0.0 || count == 0 {
            return;
        }
        self.tokens -= count as f64;
        self.sent.push_back((now, count));
        self.sent_in_window += count;
    }

    /// When messages may go that have to wait for `wanted` tokens now.
    pub(super) fn ready_at(&self, wanted: usize, now: Instant) -> Instant {
        let missing = (wanted as f64 - self.tokens).max(0.0);
        let rate = (self.rate_per_second * FLOW).max(0.001);
        let by_bucket = now + Duration::from_secs_f64(missing / rate);
        match self.sent.front() {
            Some((sent_at, _)) if self.sent_in_window >= self.window_limit() => {
                by_bucket.max(*sent_at + WINDOW)
            }
            _ => by_bucket,
        }
    }

    /// Tokens that the bucket holds at most: a tenth of a second's worth, and no more than two batches.
    fn capacity(&self) -> f64 {
        (self.rate_per_second * 0.1).clamp(1.0, 2.0 * BATCH_SIZE_MAX as f64)
    }

    fn window_limit(&self) -> usize {
        (self.rate_per_second as usize).max(1)
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled);
        self.tokens =
            (self.tokens + elapsed.as_secs_f64() * self.rate_per_second * FLOW).min(self.capacity());
        self.refilled = now;
    }

    fn forget(&mut self, now: Instant) {
        while let Some((sent_at, count)) = self.sent.front().copied()
            && now.saturating_duration_since(sent_at) >= WINDOW
        {
            self.sent.pop_front();
            self.sent_in_window -= count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as fast as the pace allows for a minute; answers when how many went out.
    fn a_minute(rate: f64, collect: impl Fn(&Pace) -> usize) -> Vec<(Duration, usize)> {
        let start = Instant::now();
        let mut now = start;
        let mut pace = Pace::new(rate, start);
        let mut sent = Vec::new();
        while now - start < Duration::from_secs(60) {
            let wanted = collect(&pace);
            match pace.available(wanted, now).min(BATCH_SIZE_MAX) {
                // Timers are late, never early.
                0 => now = pace.ready_at(wanted, now) + Duration::from_micros(100),
                count => {
                    pace.take(count, now);
                    sent.push((now - start, count));
                }
            }
        }
        sent
    }

    #[test]
    fn a_rate_is_held_within_one_percent_and_no_second_exceeds_it() {
        for rate in [1.0, 10.0, 40.0, 300.0, 1000.0, 5000.0] {
            for is_bulk in [true, false] {
                let sent = a_minute(rate, |pace| if is_bulk { pace.collected() } else { 1 });
                let total: usize = sent.iter().map(|(_, count)| count).sum();
                let expected = rate * 60.0;
                assert!(
                    (expected * 0.99..=expected * 1.01).contains(&(total as f64)),
                    "{rate}/s: {total} in a minute"
                );
                let (mut first, mut in_window) = (0, 0);
                for (at, count) in &sent {
                    in_window += count;
                    while sent[first].0 + Duration::from_secs(1) <= *at {
                        in_window -= sent[first].1;
                        first += 1;
                    }
                    assert!(in_window as f64 <= rate, "{rate}/s: {in_window} in the second before {at:?}");
                }
            }
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for_by_a_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(300.0, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(pace.available(1, later), 30, "a tenth of a second's worth");
        pace.take(30, later);
        assert_eq!(pace.available(1, later), 0);
    }

    #[test]
    fn no_rate_is_no_limit_and_a_new_rate_holds_at_once() {
        let now = Instant::now();
        let mut pace = Pace::new(0.0, now);
        pace.take(1_000_000, now);
        assert_eq!(pace.available(1, now), usize::MAX);
        pace.set_rate(10.0, now);
        assert_eq!(pace.available(1, now), 1);
        pace.take(1, now);
        assert_eq!(pace.available(1, now), 0);
        assert!(pace.ready_at(1, now) > now);
    }
}
