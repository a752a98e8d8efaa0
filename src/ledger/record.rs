//! What goes into the ledger and comes out of it: keys, claims, settlements, counts.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedSender;

use super::outcome;
use crate::error::Outcome;

/// Names a message. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The page that sends it.
    pub page_id: Arc<str>,
    /// The bulk it is an item of; empty for a unary message.
    pub bulk_id: Arc<str>,
    /// The item's `item_id`, or the unary message's `request_id`.
    pub id: Arc<str>,
}

impl Key {
    /// It names no item of a bulk.
    pub(super) fn is_unary(&self) -> bool {
        self.bulk_id.is_empty()
    }

    /// Neither database keeps a NUL in a text.
    pub(super) fn has_nul(&self) -> bool {
        [&self.page_id, &self.bulk_id, &self.id].iter().any(|part| part.contains('\0'))
    }
}

/// Asks for the right to send a message.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The message.
    pub key: Key,
    /// Hash of the request. A key that comes back with another one is refused.
    pub fingerprint: [u8; 16],
    /// Claim it even if its outcome is on record as unknown, unless this run may have sent it: the recipient may get it
    /// twice, once more for each run.
    pub resend: Option<RunId>,
}

/// Names one decision to send again what is unknown. A row keeps the runs that may have sent it, so that the same
/// decision, carried on after a crash, sends nothing again that it has sent itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunId(pub(super) [u8; 8]);

impl RunId {
    /// Of the name that the caller gave the run: 8 bytes of its SHA-256.
    pub fn of(name: &str) -> Self {
        let mut short = [0; 8];
        short.iter_mut().zip(Sha256::digest(name)).for_each(|(short, byte)| *short = byte);
        Self(short)
    }
}

/// What a claim found.
#[derive(Debug)]
pub enum Claimed {
    /// The message is the caller's to send, and to settle with this ticket.
    New(Ticket),
    /// It has an outcome. Of a receipt, `replayed` is set and `recipient_id` is empty: the ledger does not store
    /// it. Of an error, the reason and Graph's codes are left, with a sentence of our own.
    Settled(Outcome),
    /// It is being sent right now, here or on another replica, or stands twice in this group of claims.
    InProgress,
    /// The key is on record for another request.
    Reused,
}

/// The number of a claim. Claims of one write are numbered one by one, no two claims share a number, and only the latest
/// claim of a message can be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClaimNumber(pub(super) i64);

impl ClaimNumber {
    /// Of a claim of a write, given the number of the first one.
    pub(super) fn nth(self, ordinal: usize) -> Self {
        Self(self.0.saturating_add_unsigned(ordinal as u64))
    }
}

/// The right to send one message and the duty to settle it. Settle it also if it was not sent. One that is dropped all the
/// same, by a bug, ends as unknown.
#[derive(Debug)]
#[must_use = "a claim that nobody settles is unknown"]
pub struct Ticket {
    key: Key,
    pub(super) claim: ClaimNumber,
    fingerprint: [u8; 16],
    /// Where settlements go that nobody made; set as long as someone must make one.
    unsettled: Option<UnboundedSender<Settlement>>,
}

impl Ticket {
    pub(super) fn new(key: Key, claim: ClaimNumber, fingerprint: [u8; 16]) -> Self {
        Self { key, claim, fingerprint, unsettled: None }
    }

    /// From now on, dropping it settles it.
    pub(super) fn settle_on_drop(&mut self, unsettled: UnboundedSender<Settlement>) {
        self.unsettled = Some(unsettled);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(unsettled) = self.unsettled.take() {
            tracing::error!("a message was not settled: its outcome is unknown");
            let ticket = Self::new(self.key.clone(), self.claim, self.fingerprint);
            // Fails if the ledger is closed: then it is unknown anyway.
            drop(unsettled.send(Settlement::unknown(ticket)));
        }
    }
}

/// What became of a message that was claimed.
#[derive(Debug)]
pub struct Settlement {
    ticket: Ticket,
    pub(super) end: End,
}

/// How a claim ends.
#[derive(Debug)]
pub(super) enum End {
    /// With an outcome, and the time that it names itself, if it does.
    Recorded { state: State, time_ms: Option<i64>, outcome: Box<RawValue> },
    /// Surely not sent.
    Released,
    /// Surely not sent, because nobody heard that the claim succeeded, if it did. Its transaction may still be going on.
    Voided,
}

impl Settlement {
    fn end(mut ticket: Ticket, end: End) -> Self {
        ticket.unsettled = None;
        Self { ticket, end }
    }

    pub(super) fn key(&self) -> &Key {
        &self.ticket.key
    }

    pub(super) fn claim(&self) -> ClaimNumber {
        self.ticket.claim
    }

    pub(super) fn fingerprint(&self) -> &[u8; 16] {
        &self.ticket.fingerprint
    }

    /// Records the outcome of a message, or releases the claim if [`Outcome::is_recorded`] says no: the message can then
    /// be claimed anew.
    pub fn new(ticket: Ticket, outcome: &Outcome) -> Self {
        let end = match outcome {
            _ if !outcome.is_recorded() => End::Released,
            Outcome::Sent(receipt) => End::Recorded {
                state: State::Sent,
                time_ms: Some(to_ms(receipt.sent_time)),
                outcome: outcome::of_receipt(receipt),
            },
            Outcome::Failed(error) => End::recorded_now(State::Failed, outcome::of_error(error)),
            Outcome::Unknown(error) => End::recorded_now(State::Unknown, outcome::of_error(error)),
            Outcome::NotSent(_) | Outcome::Rejected(_) => End::Released,
        };
        Self::end(ticket, end)
    }

    pub(super) fn release(ticket: Ticket) -> Self {
        Self::end(ticket, End::Released)
    }

    /// Nobody knows what became of it.
    pub(super) fn unknown(ticket: Ticket) -> Self {
        Self::new(ticket, &Outcome::unknown("nobody settled it"))
    }

    /// The same message, as unknown: the database does not take the outcome that it had.
    pub(super) fn into_unknown(self) -> Self {
        Self::unknown(self.ticket)
    }

    /// Undoes a claim of a write that failed.
    pub(super) fn void(key: Key, claim: ClaimNumber) -> Self {
        Self::end(Ticket::new(key, claim, [0; 16]), End::Voided)
    }
}

impl End {
    fn recorded_now(state: State, outcome: Box<RawValue>) -> Self {
        Self::Recorded { state, time_ms: None, outcome }
    }
}

/// How a message is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Graph accepted it.
    Sent,
    /// Graph refused it.
    Failed,
    /// It may have been sent.
    Unknown,
}

/// Counts of one bulk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkRecord {
    /// Items that Graph accepted.
    pub sent: u64,
    /// Items that Graph refused.
    pub failed: u64,
    /// Items that may have been sent.
    pub unknown: u64,
    /// Items that are claimed right now.
    pub in_flight: u64,
    /// When the first of them was claimed.
    pub create_time: SystemTime,
    /// When one of them last changed.
    pub update_time: SystemTime,
}

/// Asks for a page of a bulk's results.
#[derive(Clone, Debug)]
pub struct ResultsQuery {
    /// The page that sends.
    pub page_id: String,
    /// The bulk.
    pub bulk_id: String,
    /// Only results in this state.
    pub state: Option<State>,
    /// Only ids after this one; empty for all.
    pub after: String,
    /// How many at most.
    pub limit: u32,
}

/// Some results of a bulk.
#[derive(Clone, Debug, Default)]
pub struct ResultsPage {
    /// Item ids and outcomes, in the order of the ids' bytes. Outcomes are as in [`Claimed::Settled`].
    pub results: Vec<(String, Outcome)>,
    /// True if there are more after the last one.
    pub has_more: bool,
}

pub(super) fn now_ms() -> i64 {
    to_ms(SystemTime::now())
}

pub(super) fn to_ms(time: SystemTime) -> i64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn from_ms(time_ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(time_ms).unwrap_or_default())
}
