//! How long things took.

use std::time::Duration;

/// Times of many messages.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    microseconds: Vec<u32>,
    is_sorted: bool,
}

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.add_microseconds(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    pub(crate) fn add_microseconds(&mut self, microseconds: u32) {
        self.microseconds.push(microseconds);
        self.is_sorted = false;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.microseconds.extend(other.microseconds);
        self.is_sorted = false;
    }

    /// The time that this share of the messages took at most, in milliseconds; 0 if there are none.
    pub(crate) fn percentile_ms(&mut self, percent: f64) -> f64 {
        if !self.is_sorted {
            self.microseconds.sort_unstable();
            self.is_sorted = true;
        }
        let rank = (self.microseconds.len() as f64 * percent / 100.0).ceil() as usize;
        let at = self.microseconds.get(rank.saturating_sub(1)).copied().unwrap_or_default();
        f64::from(at) / 1000.0
    }
}

/// The middle one of some measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
