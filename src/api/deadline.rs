//! The deadline of a unary call.

use std::time::{Duration, Instant};

use http::HeaderMap;
use tonic::Request;

use crate::limits::{UNARY_DEADLINE_DEFAULT, UNARY_DEADLINE_MAX};

/// The share of its time that a call leaves to the way back, so that its caller gets the answer: one in so many. The
/// caller's clock began to run before ours, and either machine may be busy.
const ANSWER_SHARE: u32 = 10;
/// As long as that way may reasonably take.
const ANSWER_MARGIN_MAX: Duration = Duration::from_secs(2);

/// When a call must have been answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    /// How long before that the caller is answered.
    margin: Duration,
}

impl Deadline {
    /// The deadline that the caller set, within the limits.
    pub(super) fn of_headers(headers: &HeaderMap) -> Self {
        let timeout = timeout(headers).unwrap_or(UNARY_DEADLINE_DEFAULT).min(UNARY_DEADLINE_MAX);
        Self { at: Instant::now() + timeout, margin: (timeout / ANSWER_SHARE).min(ANSWER_MARGIN_MAX) }
    }

    /// The deadline of a call, as the middleware left it.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().copied().unwrap_or_else(|| Self::of_headers(&HeaderMap::new()))
    }

    /// A message that still waits is not sent after this. Earlier than [`of_answer`](Self::of_answer), so that what was
    /// given up is told as that.
    pub(super) fn of_waiting(&self) -> Instant {
        self.before(self.margin * 2)
    }

    /// The caller is answered by this, even if its message is still being sent.
    pub(super) fn of_answer(&self) -> Instant {
        self.before(self.margin)
    }

    fn before(&self, margin: Duration) -> Instant {
        self.at.checked_sub(margin).unwrap_or(self.at)
    }
}

/// The timeout that the caller set, if any (gRPC over HTTP/2, `grpc-timeout`).
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let timeout = headers.get("grpc-timeout")?.to_str().ok()?;
    let (amount, unit) = timeout.split_at_checked(timeout.len().checked_sub(1)?)?;
    let amount: u64 = amount.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount.checked_mul(3600)?)),
        "M" => Some(Duration::from_secs(amount.checked_mul(60)?)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_a_share_of_its_time_left_when_it_is_answered() {
        // The caller's time, what is left at the answer, and what is left when waiting ends, in milliseconds.
        for (timeout, answer, waiting) in [(100, 10, 20), (2000, 200, 400), (30_000, 2000, 4000)] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", format!("{timeout}m").parse().unwrap());
            let deadline = Deadline::of_headers(&headers);
            let left = |at: Instant| (deadline.at - at).as_millis();
            assert_eq!((left(deadline.of_answer()), left(deadline.of_waiting())), (answer, waiting));
        }
    }

    #[test]
    fn timeouts_are_read_and_bounded() {
        let table = [
            (None, 30_000),
            (Some("1500m"), 1500),
            (Some("2S"), 2000),
            (Some("0n"), 0),
            (Some("1M"), 60_000),
            (Some("99999999H"), 60_000),
            (Some("18446744073709551615H"), 30_000),
            (Some("5"), 30_000),
            (Some(""), 30_000),
            (Some("5x"), 30_000),
            (Some("\u{e9}"), 30_000),
        ];
        for (text, expected_ms) in table {
            let mut headers = HeaderMap::new();
            if let Some(text) = text {
                headers.insert("grpc-timeout", http::HeaderValue::from_bytes(text.as_bytes()).unwrap());
            }
            let before = Instant::now();
            let deadline = Deadline::of_headers(&headers);
            let expected = Duration::from_millis(expected_ms);
            let left = deadline.at.duration_since(before);
            assert!(left >= expected && left < expected + Duration::from_secs(5), "{text:?}: {left:?}");
            assert!(deadline.of_waiting() <= deadline.of_answer() && deadline.of_answer() <= deadline.at);
        }
    }
}
