//! What the sandbox got when: its own record, in buckets of 100 ms.

use anyhow::Context;
use serde::Deserialize;

use crate::process::Stack;

/// Deliveries of all pages in the order of time; moments without any are left out.
#[derive(Debug, Deserialize)]
pub(crate) struct Deliveries {
    bucket_ms: u64,
    pub(crate) most_in_one_second: u64,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Deserialize)]
struct Bucket {
    /// Milliseconds since the Unix epoch.
    start_ms: u64,
    count: u64,
}

impl Deliveries {
    pub(crate) async fn of(stack: &Stack) -> anyhow::Result<Self> {
        Ok(serde_json::from_value(stack.sandbox_json("/sandbox/rate").await?)?)
    }

    /// How many came in these milliseconds since the Unix epoch.
    pub(crate) fn between(&self, start_ms: u64, end_ms: u64) -> u64 {
        let is_within = |bucket: &&Bucket| (start_ms..end_ms).contains(&bucket.start_ms);
        self.buckets.iter().filter(is_within).map(|bucket| bucket.count).sum()
    }

    /// How many came in each second that begins with a bucket from `start_ms` on and ends by `end_ms`; the time is in
    /// seconds after `start_ms`.
    pub(crate) fn by_second(&self, start_ms: u64, end_ms: u64) -> Vec<(f64, f64)> {
        let starts =
            (start_ms..=end_ms.saturating_sub(1000)).step_by(usize::try_from(self.bucket_ms).unwrap_or(100));
        let point = |at: u64| ((at - start_ms) as f64 / 1000.0, self.between(at, at + 1000) as f64);
        starts.map(point).collect()
    }

    /// When the first came, rounded up to a whole bucket.
    pub(crate) fn first_ms(&self) -> anyhow::Result<u64> {
        Ok(self.buckets.first().context("nothing was delivered")?.start_ms + self.bucket_ms)
    }

    /// This moment, or the beginning of its bucket.
    pub(crate) fn bucket_of(&self, at_ms: u64) -> u64 {
        at_ms - at_ms % self.bucket_ms
    }
}
