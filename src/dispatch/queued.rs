//! A message on its way, and the promise that whoever queued it gets exactly one outcome.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use crate::error::{Outcome, Reason, SendError};
use crate::ledger::Claim;
use crate::message::Message;
use crate::telemetry::traces;

/// Recipients by a hash under a random key. Two that collide are merely sent one after the other.
pub(crate) type RecipientHash = u64;

/// A message that waits to be sent.
#[derive(Debug)]
pub struct Queued {
    /// The message.
    pub message: Message,
    /// Names it in the ledger; `None` for a message without an id, which is not recorded.
    pub claim: Option<Claim>,
    /// Who queued it.
    pub source: Source,
    /// Calls that carried it so far.
    pub attempts: u32,
    /// Of these, the ones after which Graph throttled it.
    pub(super) throttled: u32,
    /// It is not sent after this.
    pub deadline: Option<Instant>,
    /// Where its outcome goes.
    pub reply: Reply,
    /// Whom it is for, once it is in a queue.
    pub(super) recipient: RecipientHash,
}

impl Queued {
    /// A message that no call has carried yet.
    pub fn new(
        message: Message,
        claim: Option<Claim>,
        source: Source,
        deadline: Option<Instant>,
        reply: Reply,
    ) -> Self {
        Self {
            message,
            claim,
            source,
            attempts: 0,
            throttled: 0,
            deadline,
            reply,
            recipient: RecipientHash::default(),
        }
    }
}

/// Who queued a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A unary call.
    Unary,
    /// The bulk stream with this number.
    Bulk(u64),
}

/// Name of an item within its bulk.
pub type BulkItemId = Arc<str>;

/// Where an outcome goes. Dropped without an answer, it answers by itself.
#[derive(Debug)]
pub struct Reply {
    to: Option<ReplyTo>,
    /// The span that the message is part of. Most are part of none, and are moved often.
    span: Option<Box<Span>>,
}

#[derive(Debug)]
enum ReplyTo {
    Unary(oneshot::Sender<Outcome>),
    Bulk(BulkItemId, mpsc::UnboundedSender<(BulkItemId, Outcome)>),
}

impl Reply {
    /// To a unary call.
    pub fn to_unary(sender: oneshot::Sender<Outcome>) -> Self {
        Self { to: Some(ReplyTo::Unary(sender)), span: None }
    }

    /// To a bulk stream.
    pub fn to_bulk(item_id: BulkItemId, sender: mpsc::UnboundedSender<(BulkItemId, Outcome)>) -> Self {
        Self { to: Some(ReplyTo::Bulk(item_id, sender)), span: None }
    }

    /// What happens to the message is told in this span.
    pub fn in_span(mut self, span: Span) -> Self {
        self.span = (!span.is_disabled()).then(|| Box::new(span));
        self
    }

    /// Hands over the outcome. Whoever waited for it may have left.
    pub fn answer(mut self, outcome: Outcome) {
        self.deliver(outcome);
    }

    /// True if nobody waits for the outcome any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.to {
            Some(ReplyTo::Unary(sender)) => sender.is_closed(),
            Some(ReplyTo::Bulk(_, sender)) => sender.is_closed(),
            None => true,
        }
    }

    /// The span that the message is part of, if it is traced.
    pub(super) fn span(&self) -> Option<&Span> {
        self.span.as_deref()
    }

    fn deliver(&mut self, outcome: Outcome) {
        if let Some(span) = self.span() {
            traces::note_outcome(span, &outcome);
        }
        match self.to.take() {
            Some(ReplyTo::Unary(sender)) => drop(sender.send(outcome)),
            Some(ReplyTo::Bulk(item_id, sender)) => drop(sender.send((item_id, outcome))),
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.to.is_some() {
            self.deliver(Outcome::Unknown(SendError::new(
                Reason::Internal,
                "the message was lost on its way by a bug: it may have been sent",
            )));
        }
    }
}
