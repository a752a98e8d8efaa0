//! Ids that never repeat: of messages, saved attachments, people, and Graph's trace ids.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Digits in base 62 that hold any `u64`.
const WIDTH: usize = 11;

/// A source of ids. Two sandboxes give different ids, because each begins with the nanosecond it
/// was made in.
#[derive(Debug)]
pub(crate) struct Ids {
    seed: String,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut seed = String::with_capacity(WIDTH);
        push_base62(&mut seed, u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX));
        Self { seed, next: AtomicU64::new(1) }
    }

    /// `m_…`, as Graph writes message ids today.
    pub(crate) fn message(&self) -> String {
        self.prefixed("m_")
    }

    /// The `fbtrace_id` of an error.
    pub(crate) fn trace(&self) -> String {
        self.prefixed("A")
    }

    /// The id of a saved attachment: 16 digits that start with 8, so that they are never taken for
    /// the ids which exist from the start (those start with 9).
    pub(crate) fn attachment(&self) -> String {
        format!("8{:015}", self.take())
    }

    /// A page-scoped id for a person who was not addressed by one.
    pub(crate) fn person(&self) -> String {
        format!("7{:015}", self.take())
    }

    fn prefixed(&self, prefix: &str) -> String {
        let mut id = String::with_capacity(prefix.len() + 2 * WIDTH);
        id.push_str(prefix);
        id.push_str(&self.seed);
        push_base62(&mut id, self.take());
        id
    }

    fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

fn push_base62(text: &mut String, mut number: u64) {
    let mut digits = [b'0'; WIDTH];
    for digit in digits.iter_mut().rev() {
        let index = usize::try_from(number % 62).unwrap_or_default();
        *digit = ALPHABET.get(index).copied().unwrap_or(b'0');
        number /= 62;
    }
    text.extend(digits.iter().map(|&digit| char::from(digit)));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_sort_by_their_kind() {
        let ids = Ids::new();
        let messages: HashSet<String> = (0..1000).map(|_| ids.message()).collect();
        assert_eq!(messages.len(), 1000);
        assert!(messages.iter().all(|id| id.starts_with("m_") && id.len() == 24));
        assert!(ids.attachment().starts_with('8'));
        assert_eq!(ids.attachment().len(), 16);
    }
}
