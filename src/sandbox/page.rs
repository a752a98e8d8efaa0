//! What the sandbox knows of one page. Each page has a lock of its own, held for a few map
//! accesses.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value};

use super::rate::{Histogram, SlidingWindow};

/// A page that has been sent from.
#[derive(Debug, Default)]
pub(crate) struct Page {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: PageCounts,
    window: SlidingWindow,
    histogram: Histogram,
    /// Fingerprints of what was delivered, 8 bytes each, never dropped.
    delivered: HashSet<u64>,
    attachments: HashSet<String>,
    /// Comments and posts that have had their one private reply.
    replied: HashSet<String>,
    attempts: HashMap<String, u32>,
}

/// Counts of one page.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct PageCounts {
    pub(crate) delivered: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
    pub(crate) throttled: u64,
}

impl Page {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> PageCounts {
        self.lock().counts
    }

    pub(crate) fn histogram(&self) -> Histogram {
        self.lock().histogram.clone()
    }

    /// Whether the page's rate lets one more send pass now.
    pub(crate) fn admit(&self, rate_per_second: u32) -> bool {
        rate_per_second == 0 || self.lock().window.admit(Instant::now(), rate_per_second)
    }

    /// Counts an attempt under `key` and says whether it is one of the first `times`.
    pub(crate) fn is_among_first(&self, key: &str, times: u32) -> bool {
        let mut state = self.lock();
        let attempts = state.attempts.entry(key.to_owned()).or_default();
        *attempts = attempts.saturating_add(1);
        *attempts <= times
    }

    /// Whether `id` can be sent: the page saved it here, or it is one of those that exist from the
    /// start (digits that begin with 9).
    pub(crate) fn knows_attachment(&self, id: &str) -> bool {
        let exists_from_start = id.starts_with('9') && id.bytes().all(|byte| byte.is_ascii_digit());
        exists_from_start || self.lock().attachments.contains(id)
    }

    pub(crate) fn save_attachment(&self, id: &str) {
        self.lock().attachments.insert(id.to_owned());
    }

    /// Takes the one private reply a comment or post allows; false if it was taken before.
    pub(crate) fn take_private_reply(&self, identifier: &str) -> bool {
        self.lock().replied.insert(identifier.to_owned())
    }

    /// Counts a delivery of `body` at `now_ms`.
    pub(crate) fn deliver(&self, body: &Map<String, Value>, now_ms: u64) {
        let fingerprint = fingerprint_of_members(body);
        let mut state = self.lock();
        if !state.delivered.insert(fingerprint) {
            state.counts.duplicates += 1;
        }
        state.counts.delivered += 1;
        state.histogram.add(now_ms, 1);
    }

    /// Counts `count` deliveries at `now_ms` without looking at them.
    pub(crate) fn deliver_unseen(&self, count: u64, now_ms: u64) {
        let mut state = self.lock();
        state.counts.delivered += count;
        state.histogram.add(now_ms, count);
    }

    pub(crate) fn count_refused(&self, is_throttle: bool) {
        let mut state = self.lock();
        if is_throttle {
            state.counts.throttled += 1;
        } else {
            state.counts.refused += 1;
        }
    }
}

/// A hash that does not depend on the order of members: a retried message may be written anew.
fn fingerprint(value: &Value) -> u64 {
    match value {
        Value::Object(members) => fingerprint_of_members(members),
        Value::Array(items) => hash_of(&items.iter().map(fingerprint).collect::<Vec<u64>>()),
        Value::String(text) => hash_of(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => hash_of(&value.to_string()),
    }
}

fn fingerprint_of_members(members: &Map<String, Value>) -> u64 {
    let sum =
        members.iter().map(|(name, value)| hash_of(&(name, fingerprint(value)))).fold(0, u64::wrapping_add);
    hash_of(&("object", sum))
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(json: &str) -> Map<String, Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn duplicates_are_found_whatever_the_order_of_members() {
        let page = Page::default();
        for json in [
            r#"{"recipient":{"id":"1"},"message":{"text":"a"}}"#,
            r#"{"message":{"text":"a"},"recipient":{"id":"1"}}"#,
            r#"{"recipient":{"id":"2"},"message":{"text":"a"}}"#,
            r#"{"recipient":{"id":"1"},"message":{"text":"b"}}"#,
        ] {
            page.deliver(&body(json), 0);
        }
        assert_eq!((page.counts().delivered, page.counts().duplicates), (4, 1));
    }

    #[test]
    fn attempts_are_counted_by_key() {
        let page = Page::default();
        let verdicts =
            [("a", 2), ("a", 2), ("b", 1), ("a", 2)].map(|(key, times)| page.is_among_first(key, times));
        assert_eq!(verdicts, [true, true, true, false]);
    }

    #[test]
    fn attachments_belong_to_their_page() {
        let (page, other) = (Page::default(), Page::default());
        page.save_attachment("8000000000000001");
        assert!(page.knows_attachment("8000000000000001"));
        assert!(!other.knows_attachment("8000000000000001"));
        assert!(other.knows_attachment("9123"));
        assert!(!other.knows_attachment("9x"));
    }
}
