//! What can become of a message, in our own words: [`Outcome`], [`SendError`], [`Reason`].
//!
//! `api/status.rs` turns these into gRPC; nothing here knows about gRPC or Graph.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use crate::limits::VIOLATIONS_MAX;

/// Why a message was not sent, or why its outcome is not known. The contract documents each value
/// (`proto/messenger/v1/error.proto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // one-to-one with the documented ErrorReason of the contract
pub enum Reason {
    InvalidArgument,
    RequestIdReused,
    RequestInProgress,
    Unauthenticated,
    PermissionDenied,
    PageNotFound,
    PageTokenInvalid,
    PagePermissionMissing,
    PageRestricted,
    OutsideWindow,
    RecipientUnavailable,
    ThreadControlledElsewhere,
    RecipientNotFound,
    AttachmentNotFound,
    RateLimited,
    GraphUnavailable,
    OutcomeUnknown,
    GraphRejected,
    Draining,
    LedgerUnavailable,
    Expired,
    Internal,
    BulkNotFound,
}

impl Reason {
    /// True if the same message, sent again unchanged, may succeed and cannot be delivered twice.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::RequestInProgress
            | Self::ThreadControlledElsewhere
            | Self::RateLimited
            | Self::GraphUnavailable
            | Self::Draining
            | Self::LedgerUnavailable
            | Self::Expired => true,
            Self::InvalidArgument
            | Self::RequestIdReused
            | Self::Unauthenticated
            | Self::PermissionDenied
            | Self::PageNotFound
            | Self::PageTokenInvalid
            | Self::PagePermissionMissing
            | Self::PageRestricted
            | Self::OutsideWindow
            | Self::RecipientUnavailable
            | Self::RecipientNotFound
            | Self::AttachmentNotFound
            | Self::OutcomeUnknown
            | Self::GraphRejected
            | Self::BulkNotFound
            | Self::Internal => false,
        }
    }
}

/// A broken rule: which field, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field within the request, for example `text.extras.quick_replies[2].title`.
    pub field: String,
    /// What is wrong. Never quotes the field's value.
    pub description: String,
}

/// Collects every broken rule of a request, so that a caller mends all of them at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Notes that `field` breaks a rule. What is beyond [`VIOLATIONS_MAX`] is counted, and not told.
    pub fn add(&mut self, field: impl fmt::Display, description: impl Into<String>) {
        let violation = if self.0.len() < VIOLATIONS_MAX {
            Violation { field: field.to_string(), description: description.into() }
        } else {
            Violation { field: String::new(), description: String::new() }
        };
        self.0.push(violation);
    }

    /// How many rules are broken so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if no rule is broken so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The error that names them all.
    pub fn into_error(self) -> SendError {
        let message = match self.0.as_slice() {
            [only] => format!("{}: {}", only.field, only.description),
            many => format!(
                "{} fields break a rule, the first is {}",
                many.len(),
                many.first().map_or("", |v| &v.field)
            ),
        };
        SendError { violations: self.0, ..SendError::new(Reason::InvalidArgument, message) }
    }
}

/// The error object of a Graph answer. Its texts may be in any language.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GraphError {
    /// Graph's error code.
    pub code: i32,
    /// Graph's error_subcode, 0 if there is none.
    pub subcode: i32,
    /// Graph's error type, for example `OAuthException`.
    pub kind: String,
    /// Graph's message for developers.
    pub message: String,
    /// The id to give to Meta's support.
    pub fbtrace_id: String,
    /// Title meant for the end user.
    pub user_title: String,
    /// Text meant for the end user.
    pub user_message: String,
}

/// What went wrong with one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    /// The machine-readable reason.
    pub reason: Reason,
    /// One sentence for a developer. Holds no token, recipient or message text.
    pub message: Cow<'static, str>,
    /// How long to wait before a retry, if known.
    pub retry_after: Option<Duration>,
    /// What Graph answered, if it answered with an error.
    pub graph: Option<Box<GraphError>>,
    /// Every rule that the request breaks.
    pub violations: Vec<Violation>,
}

impl SendError {
    /// An error with a reason and a sentence.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), retry_after: None, graph: None, violations: Vec::new() }
    }

    /// The error of one broken rule.
    pub fn violation(field: impl fmt::Display, description: impl Into<String>) -> Self {
        let mut violations = Violations::default();
        violations.add(field, description);
        violations.into_error()
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SendError {}

/// Proof of a send: Graph accepted the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Graph's id of the message; empty for a sender action.
    pub message_id: String,
    /// The recipient's PSID; empty for user_ref and phone recipients.
    pub recipient_id: String,
    /// Id of the media that Meta kept; empty if it kept none.
    pub attachment_id: String,
    /// True if this is the recorded outcome of an earlier send.
    pub replayed: bool,
    /// HTTP calls that carried the message.
    pub attempts: u32,
    /// When Graph's answer arrived.
    pub sent_time: SystemTime,
}

/// Where a message ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Graph accepted it.
    Sent(Receipt),
    /// It is invalid and nothing was sent.
    Rejected(SendError),
    /// Graph refused it.
    Failed(SendError),
    /// It may have been sent.
    Unknown(SendError),
    /// It was surely not sent; sending it again is safe.
    NotSent(SendError),
}

impl Outcome {
    /// Nothing was sent, for a reason and with a sentence.
    pub fn not_sent(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self::NotSent(SendError::new(reason, message))
    }

    /// It may have been sent, for the reason that the sentence gives.
    pub fn unknown(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Unknown(SendError::new(Reason::OutcomeUnknown, message))
    }

    /// The receipt, or the error whatever the state.
    pub fn into_result(self) -> Result<Receipt, SendError> {
        match self {
            Self::Sent(receipt) => Ok(receipt),
            Self::Rejected(error) | Self::Failed(error) | Self::Unknown(error) | Self::NotSent(error) => {
                Err(error)
            }
        }
    }
}
