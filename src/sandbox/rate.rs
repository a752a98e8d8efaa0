//! Time accounts of a page: the one-second window that limits it, and a histogram that shows it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Admits at most `rate` sends in any window of one second.
#[derive(Debug, Default)]
pub(crate) struct SlidingWindow {
    admitted: VecDeque<Instant>,
}

impl SlidingWindow {
    /// Whether one more send may pass at `now`; 0 = unlimited. What is not admitted is not counted.
    pub(crate) fn admit(&mut self, now: Instant, rate: u32) -> bool {
        let Ok(rate) = usize::try_from(rate) else {
            return true;
        };
        if rate == 0 {
            return true;
        }
        while self.admitted.front().is_some_and(|&at| now.saturating_duration_since(at) >= WINDOW) {
            self.admitted.pop_front();
        }
        if self.admitted.len() >= rate {
            return false;
        }
        self.admitted.push_back(now);
        true
    }
}

const WINDOW: Duration = Duration::from_secs(1);

/// Width of a bucket of the histogram, in milliseconds.
pub(crate) const BUCKET_MS: u64 = 100;

/// Buckets kept: one hour of uninterrupted sending.
const MAX_BUCKETS: usize = 36_000;

/// Deliveries per 100 ms; moments without any have no bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    buckets: VecDeque<Bucket>,
}

/// The deliveries of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Bucket {
    /// Its beginning, in milliseconds since the Unix epoch.
    pub(crate) start_ms: u64,
    pub(crate) count: u64,
}

impl Histogram {
    /// Counts `count` deliveries at `now_ms`, milliseconds since the Unix epoch.
    pub(crate) fn add(&mut self, now_ms: u64, count: u64) {
        let start_ms = now_ms - now_ms % BUCKET_MS;
        match self.buckets.back_mut() {
            // A clock set back must not open a bucket twice.
            Some(last) if last.start_ms >= start_ms => last.count += count,
            Some(_) | None => self.buckets.push_back(Bucket { start_ms, count }),
        }
        if self.buckets.len() > MAX_BUCKETS {
            self.buckets.pop_front();
        }
    }

    /// The buckets in the order of time.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = Bucket> {
        self.buckets.iter().copied()
    }
}

/// The most deliveries in ten buckets that make one second. `buckets` are in the order of time.
pub(crate) fn most_in_one_second(buckets: &[Bucket]) -> u64 {
    let mut most = 0;
    let mut sum = 0;
    let mut oldest = buckets.iter().peekable();
    for bucket in buckets {
        sum += bucket.count;
        while let Some(first) = oldest.next_if(|first| bucket.start_ms - first.start_ms >= 1000) {
            sum -= first.count;
        }
        most = most.max(sum);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_admits_the_rate_in_any_second() {
        let mut window = SlidingWindow::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(window.admit(at(0), 2));
        assert!(window.admit(at(900), 2));
        assert!(!window.admit(at(999), 2));
        assert!(window.admit(at(1000), 2));
        assert!(!window.admit(at(1100), 2));
        assert!((0..1000).all(|_| window.admit(at(1100), 0)));
    }

    #[test]
    fn histogram_finds_the_busiest_second() {
        let mut histogram = Histogram::default();
        for (at_ms, count) in [(10_050, 3), (10_099, 1), (10_900, 5), (11_000, 2), (11_899, 4)] {
            histogram.add(at_ms, count);
        }
        let buckets: Vec<Bucket> = histogram.buckets().collect();
        assert_eq!(buckets[0], Bucket { start_ms: 10_000, count: 4 });
        assert_eq!(buckets.len(), 4);
        assert_eq!(most_in_one_second(&buckets), 11);
    }
}
