//! How fast a page may send: a bucket for an even flow, under a hard limit on every window of one second.
//!
//! A token bucket alone lets its whole capacity go on top of a second's worth of tokens. Meta counts calls per
//! second, so what was sent in the last second is counted too, and nothing may go beyond the rate.
//!
//! Unary messages may overdraw the bucket a little, and bulk ones leave a little of the window to them: a bulk that uses
//! up a page's rate hardly delays them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::{BATCH_SIZE_MAX, RATE_WINDOW, SHARE_INTERVAL};

/// The bucket's share of the rate. What it leaves lets the flow even out again after a burst.
const FLOW: f64 = 0.9925;
/// Bulk messages are collected for this long when the rate holds them back, so that they share calls.
const COLLECT: Duration = Duration::from_millis(20);
/// Share of a second's messages that unary ones may take before the bucket has them.
const OVERDRAFT: f64 = 0.02;
/// Share of the window that bulk messages leave to unary ones: a little always, and more while there are some.
const RESERVED: f64 = 1.0 / 300.0;
const RESERVED_WHILE_UNARY: f64 = 0.01;
/// How long there are unary messages after the last one.
const UNARY_MEMORY: Duration = Duration::from_secs(10);

/// Who wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    Unary,
    Bulk,
}

/// The pace of one kind of message on one page.
#[derive(Debug)]
pub(super) struct Pace {
    /// Messages per second; `None` for no limit.
    rate_per_second: Option<f64>,
    tokens: f64,
    refilled: Instant,
    /// What went out during the last window, in the order it was taken.
    sent: VecDeque<Sent>,
    sent_in_window: usize,
    /// Number of the first of them.
    first_number: u64,
    /// When a unary message last wanted to go.
    unary_wanted: Option<Instant>,
    /// When something last had to wait.
    held_back: Option<Instant>,
}

/// Messages that went together.
#[derive(Debug)]
struct Sent {
    count: usize,
    /// When their call began; `None` as long as it has not.
    at: Option<Instant>,
}

impl Pace {
    /// A pace that starts with a full bucket.
    pub(super) fn new(rate_per_second: Option<f64>, now: Instant) -> Self {
        let mut pace = Self {
            rate_per_second,
            tokens: 0.0,
            refilled: now,
            sent: VecDeque::new(),
            sent_in_window: 0,
            first_number: 0,
            unary_wanted: None,
            held_back: None,
        };
        pace.tokens = rate_per_second.map_or(0.0, capacity);
        pace
    }

    pub(super) fn rate_per_second(&self) -> Option<f64> {
        self.rate_per_second
    }

    /// Changes the rate; what was sent stays counted.
    pub(super) fn set_rate(&mut self, rate_per_second: Option<f64>, now: Instant) {
        if rate_per_second == self.rate_per_second {
            return;
        }
        self.refill(now);
        self.tokens = match (self.rate_per_second, rate_per_second) {
            (_, None) => 0.0,
            (None, Some(rate)) => capacity(rate),
            (Some(_), Some(rate)) => self.tokens.min(capacity(rate)),
        };
        self.rate_per_second = rate_per_second;
    }

    /// How many tokens a bulk waits for before it sends.
    pub(super) fn collected(&self) -> usize {
        let rate = self.rate_per_second.unwrap_or_default();
        ((rate * COLLECT.as_secs_f64()) as usize).clamp(1, BATCH_SIZE_MAX)
    }

    /// Brings the bucket and the window up to a time. What the others say holds for that time.
    pub(super) fn advance(&mut self, now: Instant) {
        self.refill(now);
        self.forget(now);
    }

    /// Notes that a unary message wants to go.
    pub(super) fn note_unary(&mut self, now: Instant) {
        self.unary_wanted = Some(now);
    }

    /// Notes that something had to wait for this pace.
    pub(super) fn note_held_back(&mut self, now: Instant) {
        self.held_back = Some(now);
    }

    /// How many messages may go now: none before there are tokens for `wanted`.
    pub(super) fn available(&self, rank: Rank, wanted: usize, now: Instant) -> usize {
        let Some(rate) = self.rate_per_second else { return usize::MAX };
        let tokens = (self.tokens + overdraft(rank, rate)) as usize;
        if tokens < wanted {
            return 0;
        }
        tokens.min(self.window_limit(rank, rate, now).saturating_sub(self.sent_in_window))
    }

    /// Notes that messages are about to go, and returns the number under which [`Pace::began`] is told when they do. Until
    /// then, and for a window from then on, they are counted.
    pub(super) fn take(&mut self, count: usize) -> u64 {
        let number = self.first_number + self.sent.len() as u64;
        if self.rate_per_second.is_some() {
            self.tokens -= count as f64;
            self.sent.push_back(Sent { count, at: None });
            self.sent_in_window += count;
        }
        number
    }

    /// The call of what was taken under this number begins, with `count` of the messages: the others need not be sent.
    pub(super) fn began(&mut self, number: u64, count: usize, at: Instant) {
        let index = number.checked_sub(self.first_number).and_then(|index| usize::try_from(index).ok());
        if let Some(sent) = index.and_then(|index| self.sent.get_mut(index)).filter(|sent| sent.at.is_none())
        {
            let spared = sent.count.saturating_sub(count);
            sent.count -= spared;
            sent.at = Some(at);
            self.sent_in_window -= spared;
            self.tokens += spared as f64;
        }
    }

    /// When messages may go that have to wait for `wanted` tokens now. `None` if time alone does not tell.
    pub(super) fn ready_at(&self, rank: Rank, wanted: usize, now: Instant) -> Option<Instant> {
        let rate = self.rate_per_second.filter(|rate| *rate > 0.0)?;
        let missing = (wanted as f64 - overdraft(rank, rate) - self.tokens).max(0.0);
        let by_bucket = now + Duration::from_secs_f64(missing / (rate * FLOW));
        if self.sent_in_window < self.window_limit(rank, rate, now) {
            return Some(by_bucket);
        }
        let first = self.sent.front().and_then(|sent| sent.at)?;
        Some(by_bucket.max(first + window(rate)))
    }

    /// Messages per second that it could use: its whole rate if something has to wait, or had to since the replicas last
    /// shared, or else a little more than it sends.
    pub(super) fn wanted(&self, rate: f64, is_waiting: bool, now: Instant) -> f64 {
        let is_recent = |at: Instant| now.saturating_duration_since(at) <= SHARE_INTERVAL;
        if is_waiting || self.held_back.is_some_and(is_recent) {
            return rate;
        }
        let sent =
            self.sent.iter().filter(|sent| !self.is_past(sent, now)).map(|sent| sent.count).sum::<usize>();
        (sent as f64 * 1.2 + 2.0).min(rate)
    }

    /// Messages that may go in one window. A replica's share of a rate need not be a whole number.
    fn window_limit(&self, rank: Rank, rate: f64, now: Instant) -> usize {
        let is_recent = |wanted: Instant| now.saturating_duration_since(wanted) < UNARY_MEMORY;
        let reserved = match rank {
            Rank::Unary => 0.0,
            Rank::Bulk if self.unary_wanted.is_some_and(is_recent) => rate * RESERVED_WHILE_UNARY,
            Rank::Bulk => rate * RESERVED,
        };
        (rate.ceil() - reserved.floor()) as usize
    }

    fn refill(&mut self, now: Instant) {
        let Some(rate) = self.rate_per_second else { return };
        let elapsed = now.saturating_duration_since(self.refilled);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * rate * FLOW).min(capacity(rate));
        self.refilled = now;
    }

    fn forget(&mut self, now: Instant) {
        while let Some(first) = self.sent.front()
            && self.is_past(first, now)
        {
            self.sent_in_window -= first.count;
            self.sent.pop_front();
            self.first_number += 1;
        }
    }

    /// Whether what was sent has left the window.
    fn is_past(&self, sent: &Sent, now: Instant) -> bool {
        let window = window(self.rate_per_second.unwrap_or_default());
        sent.at.is_some_and(|at| now.saturating_duration_since(at) >= window)
    }
}

/// Tokens that the bucket holds at most: a tenth of a second's worth, and no more than two batches.
fn capacity(rate: f64) -> f64 {
    if rate > 0.0 { (rate * 0.1).clamp(1.0, 2.0 * BATCH_SIZE_MAX as f64) } else { 0.0 }
}

/// Tokens below zero that messages of this rank may use.
fn overdraft(rank: Rank, rate: f64) -> f64 {
    match rank {
        Rank::Unary if rate > 0.0 => (rate * OVERDRAFT).max(1.0),
        Rank::Unary | Rank::Bulk => 0.0,
    }
}

/// The window in which a rate's whole number of messages may go.
fn window(rate: f64) -> Duration {
    if rate > 0.0 { RATE_WINDOW.mul_f64((rate.ceil() / rate).min(1000.0)) } else { RATE_WINDOW }
}

#[cfg(test)]
mod tests;
