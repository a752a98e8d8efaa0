//! What can become of a message, in our own words: [`Outcome`], [`SendError`], [`Reason`].
//!
//! `api/status.rs` turns these into gRPC; nothing here knows about gRPC or Graph.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use crate::limits::VIOLATIONS_MAX;

/// What a reason means for the message's id. The record in the ledger and what the contract calls `retryable` both
/// follow from it, so that nothing on record can claim to be retryable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Surely not sent and not on record; the same message may succeed by itself, later or elsewhere.
    Retryable,
    /// Surely not sent and not on record; the same message may succeed after somebody has acted.
    Released,
    /// Refused for good: on record if Graph refused it.
    Failed,
    /// Maybe sent: on record, and never sent again unless the caller decides so.
    Unknown,
}

/// The one table from reasons to fates.
macro_rules! reasons {
    ($($reason:ident => $fate:ident,)*) => {
        /// Why a message was not sent, or why its outcome is not known. The contract documents each value
        /// (`proto/messenger/v1/error.proto`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // one-to-one with the documented ErrorReason of the contract
        pub enum Reason {
            $($reason,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// What it means for the message's id.
            pub fn fate(self) -> Fate {
                match self {
                    $(Self::$reason => Fate::$fate,)*
                }
            }
        }
    };
}

reasons! {
    InvalidArgument => Failed,
    RequestIdReused => Released,
    RequestInProgress => Retryable,
    Unauthenticated => Released,
    PermissionDenied => Released,
    PageNotFound => Released,
    PageTokenInvalid => Released,
    PagePermissionMissing => Released,
    PageRestricted => Released,
    OutsideWindow => Failed,
    RecipientUnavailable => Failed,
    ThreadControlledElsewhere => Retryable,
    RecipientNotFound => Failed,
    AttachmentNotFound => Failed,
    RateLimited => Retryable,
    GraphUnavailable => Retryable,
    OutcomeUnknown => Unknown,
    GraphRejected => Failed,
    Draining => Retryable,
    LedgerUnavailable => Retryable,
    Expired => Retryable,
    Internal => Released,
    BulkNotFound => Released,
}

impl Reason {
    /// True if the same message, sent again unchanged and with the same id, may succeed and cannot be delivered twice.
    pub fn is_retryable(self) -> bool {
        self.fate() == Fate::Retryable
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

    /// The end of a message that Graph did not take, in the state that its reason has.
    pub fn refused(error: SendError) -> Self {
        match error.reason.fate() {
            Fate::Failed => Self::Failed(error),
            Fate::Unknown => Self::Unknown(error),
            Fate::Retryable | Fate::Released => Self::NotSent(error),
        }
    }

    /// True if the ledger keeps it, so that the same id gets it again.
    pub fn is_recorded(&self) -> bool {
        match self {
            Self::Sent(_) => true,
            Self::Failed(error) | Self::Unknown(error) => !error.reason.is_retryable(),
            Self::Rejected(_) | Self::NotSent(_) => false,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_outcome_is_recorded_and_retryable() {
        for reason in Reason::ALL {
            let error = || SendError::new(*reason, "x");
            let refused = Outcome::refused(error());
            let outcomes = [
                Outcome::Rejected(error()),
                Outcome::Failed(error()),
                Outcome::Unknown(error()),
                Outcome::NotSent(error()),
            ];
            for outcome in outcomes.iter().chain([&refused]) {
                assert!(!(outcome.is_recorded() && reason.is_retryable()), "{outcome:?}");
            }
            let is_kept = matches!(reason.fate(), Fate::Failed | Fate::Unknown);
            assert_eq!(refused.is_recorded(), is_kept, "{reason:?}");
        }
    }
}
