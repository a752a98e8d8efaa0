//! Why a call failed.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use prost::Message;
use tonic::{Code, Status, TimeoutExpired};

use crate::v1;

/// Where the details of a status keep the contract's error.
const SEND_ERROR_TYPE_URL: &str = "type.googleapis.com/messenger.v1.SendError";

/// Why a call failed, in fields. Decide by `reason` (or by `code`, if the service did not say a reason), never by a
/// text.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MessengerError {
    /// The gRPC status code. A connection that cannot be made, or that breaks, is `Unavailable`: of itself the code does
    /// not say that nothing was sent.
    pub code: Code,
    /// Why, as the service says; `Unspecified` if the service did not make this error: there is no connection, or it
    /// broke, or a deadline passed on this side. `Unavailable` with a reason means that nothing was sent; without one the
    /// message may have been sent, and only its id makes another try safe.
    pub reason: v1::ErrorReason,
    /// One English sentence for a developer's log. Contains no token, recipient or message text.
    pub message: String,
    /// True if sending the same message again, unchanged and with the same id, may succeed and cannot deliver it
    /// twice: with this error's `request_id`, if the request had none.
    pub retryable: bool,
    /// How long to wait before a retry, if that is known.
    pub retry_after: Option<Duration>,
    /// What Graph answered, if it answered with an error.
    pub graph: Option<Box<v1::GraphError>>,
    /// Every rule that the request breaks.
    pub violations: Vec<v1::FieldViolation>,
    /// The id that the request was sent with, also if the client made it up: the same request with it repeats the call,
    /// or tells what became of it. Empty if the request has none, as that of a bulk.
    pub request_id: String,
}

impl MessengerError {
    /// An error that is made on this side.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: v1::ErrorReason::Unspecified,
            message: message.into(),
            retryable: code == Code::Unavailable,
            retry_after: None,
            graph: None,
            violations: Vec::new(),
            request_id: String::new(),
        }
    }

    /// The contract's error, under a code.
    pub(crate) fn from_send_error(code: Code, error: v1::SendError) -> Self {
        Self {
            code,
            reason: error.reason(),
            message: error.message,
            retryable: error.retryable,
            retry_after: error.retry_after.and_then(|wait| wait.try_into().ok()),
            graph: error.graph.map(Box::new),
            violations: error.violations,
            request_id: String::new(),
        }
    }

    /// The contract's error: the reason of a stream's end, as that of its items.
    pub(crate) fn to_send_error(&self) -> v1::SendError {
        v1::SendError {
            reason: self.reason.into(),
            message: self.message.clone(),
            retryable: self.retryable,
            retry_after: self.retry_after.and_then(|wait| wait.try_into().ok()),
            graph: self.graph.as_deref().cloned(),
            violations: self.violations.clone(),
        }
    }
}

impl From<Status> for MessengerError {
    fn from(status: Status) -> Self {
        if let Some(error) = send_error(&status) {
            return Self::from_send_error(status.code(), error);
        }
        // A status with a source is none of the service's: the transport made it up.
        match status.source() {
            None => Self::new(status.code(), status.message()),
            Some(source) if is_caused_by::<TimeoutExpired>(source) => Self::deadline_exceeded(),
            Some(source) => {
                let is_unconnected = is_caused_by::<tonic::ConnectError>(source);
                let what =
                    if is_unconnected { "the service cannot be reached" } else { "the connection broke" };
                Self::new(Code::Unavailable, format!("{what}: {}", root_cause(source)))
            }
        }
    }
}

impl MessengerError {
    /// A deadline that passed on this side.
    pub(crate) fn deadline_exceeded() -> Self {
        Self::new(
            Code::DeadlineExceeded,
            "no answer came before the deadline: the message may have been sent",
        )
    }
}

impl fmt::Display for MessengerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason == v1::ErrorReason::Unspecified {
            return write!(formatter, "{:?}: {}", self.code, self.message);
        }
        let reason = self.reason.as_str_name().trim_start_matches("ERROR_REASON_");
        write!(formatter, "{reason}: {}", self.message)
    }
}

impl Error for MessengerError {}

fn send_error(status: &Status) -> Option<v1::SendError> {
    let details = tonic_types::pb::Status::decode(status.details()).ok()?.details;
    let error = details.into_iter().find(|detail| detail.type_url == SEND_ERROR_TYPE_URL)?;
    v1::SendError::decode(error.value.as_slice()).ok()
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn is_caused_by<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<E>())
}

/// The innermost cause: transports wrap "connection refused" in words that tell nothing.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
