//! Outcomes as gRPC: the only file that names gRPC codes.

use std::borrow::Cow;

use http::HeaderMap;
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb as rpc;

use super::{convert, pb};
use crate::dispatch::{BulkItemId, Standing};
use crate::error::{GraphError, Outcome, Reason, Receipt, SendError, Violation};
use crate::limits::{ERROR_DETAILS_BYTES_MAX, ID_LENGTH_MAX, VIOLATIONS_MAX};

/// Domain of the `google.rpc.ErrorInfo` of every error.
const ERROR_DOMAIN: &str = "messenger-connector";
/// Characters that an error keeps of each of Graph's texts.
const GRAPH_TEXT_LENGTH_MAX: usize = 200;

/// The contract's table from reasons to codes.
fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidArgument => Code::InvalidArgument,
        Reason::RequestIdReused => Code::AlreadyExists,
        Reason::RequestInProgress => Code::Aborted,
        Reason::Unauthenticated => Code::Unauthenticated,
        Reason::PermissionDenied => Code::PermissionDenied,
        Reason::PageNotFound
        | Reason::BulkNotFound
        | Reason::RecipientNotFound
        | Reason::AttachmentNotFound => Code::NotFound,
        Reason::PageTokenInvalid
        | Reason::PagePermissionMissing
        | Reason::PageRestricted
        | Reason::OutsideWindow
        | Reason::RecipientUnavailable
        | Reason::ThreadControlledElsewhere
        | Reason::GraphRejected => Code::FailedPrecondition,
        Reason::RateLimited => Code::ResourceExhausted,
        Reason::GraphUnavailable | Reason::Draining | Reason::LedgerUnavailable => Code::Unavailable,
        Reason::OutcomeUnknown => Code::Unknown,
        Reason::Expired => Code::DeadlineExceeded,
        Reason::Internal => Code::Internal,
    }
}

/// The code that a call ended with, as telemetry tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallCode {
    /// The code's name in the protocol, such as `NOT_FOUND`.
    pub(super) name: &'static str,
    /// Whether it tells of a fault on this side (OpenTelemetry's conventions for gRPC servers).
    pub(super) is_error: bool,
}

/// What a call ended with whose caller did not wait for its end.
pub(super) const CALLER_LEFT: CallCode = CallCode { name: "CANCELLED", is_error: false };

/// The code in trailers, or in headers that stand for trailers.
pub(super) fn call_code(headers: &HeaderMap) -> Option<CallCode> {
    let code = Code::from_bytes(headers.get(Status::GRPC_STATUS)?.as_bytes());
    let (name, is_error) = match code {
        Code::Ok => ("OK", false),
        Code::Cancelled => ("CANCELLED", false),
        Code::Unknown => ("UNKNOWN", true),
        Code::InvalidArgument => ("INVALID_ARGUMENT", false),
        Code::DeadlineExceeded => ("DEADLINE_EXCEEDED", true),
        Code::NotFound => ("NOT_FOUND", false),
        Code::AlreadyExists => ("ALREADY_EXISTS", false),
        Code::PermissionDenied => ("PERMISSION_DENIED", false),
        Code::ResourceExhausted => ("RESOURCE_EXHAUSTED", false),
        Code::FailedPrecondition => ("FAILED_PRECONDITION", false),
        Code::Aborted => ("ABORTED", false),
        Code::OutOfRange => ("OUT_OF_RANGE", false),
        Code::Unimplemented => ("UNIMPLEMENTED", true),
        Code::Internal => ("INTERNAL", true),
        Code::Unavailable => ("UNAVAILABLE", true),
        Code::DataLoss => ("DATA_LOSS", true),
        Code::Unauthenticated => ("UNAUTHENTICATED", false),
    };
    Some(CallCode { name, is_error })
}

/// The contract's names of an outcome's state and reason.
pub(super) fn outcome_names(outcome: &Outcome) -> (&'static str, Option<&'static str>) {
    match outcome {
        Outcome::Sent(_) => ("SENT", None),
        Outcome::Rejected(error) => ("REJECTED", Some(reason_name(error.reason))),
        Outcome::Failed(error) => ("FAILED", Some(reason_name(error.reason))),
        Outcome::Unknown(error) => ("UNKNOWN", Some(reason_name(error.reason))),
        Outcome::NotSent(error) => ("NOT_SENT", Some(reason_name(error.reason))),
    }
}

fn reason_name(reason: Reason) -> &'static str {
    pb_reason(reason).as_str_name().trim_start_matches("ERROR_REASON_")
}

fn pb_reason(reason: Reason) -> pb::ErrorReason {
    match reason {
        Reason::InvalidArgument => pb::ErrorReason::InvalidArgument,
        Reason::RequestIdReused => pb::ErrorReason::RequestIdReused,
        Reason::RequestInProgress => pb::ErrorReason::RequestInProgress,
        Reason::Unauthenticated => pb::ErrorReason::Unauthenticated,
        Reason::PermissionDenied => pb::ErrorReason::PermissionDenied,
        Reason::PageNotFound => pb::ErrorReason::PageNotFound,
        Reason::BulkNotFound => pb::ErrorReason::BulkNotFound,
        Reason::PageTokenInvalid => pb::ErrorReason::PageTokenInvalid,
        Reason::PagePermissionMissing => pb::ErrorReason::PagePermissionMissing,
        Reason::PageRestricted => pb::ErrorReason::PageRestricted,
        Reason::OutsideWindow => pb::ErrorReason::OutsideWindow,
        Reason::RecipientUnavailable => pb::ErrorReason::RecipientUnavailable,
        Reason::ThreadControlledElsewhere => pb::ErrorReason::ThreadControlledElsewhere,
        Reason::RecipientNotFound => pb::ErrorReason::RecipientNotFound,
        Reason::AttachmentNotFound => pb::ErrorReason::AttachmentNotFound,
        Reason::RateLimited => pb::ErrorReason::RateLimited,
        Reason::GraphUnavailable => pb::ErrorReason::GraphUnavailable,
        Reason::OutcomeUnknown => pb::ErrorReason::OutcomeUnknown,
        Reason::GraphRejected => pb::ErrorReason::GraphRejected,
        Reason::Draining => pb::ErrorReason::Draining,
        Reason::LedgerUnavailable => pb::ErrorReason::LedgerUnavailable,
        Reason::Expired => pb::ErrorReason::Expired,
        Reason::Internal => pb::ErrorReason::Internal,
    }
}

/// The error that a unary call ends with: standard details for generic tooling, and our own for typed clients.
pub fn status(error: SendError) -> Status {
    status_with(code(error.reason), error)
}

/// The deadline of a call passed while it was being worked on. What it sends goes on, and is recorded if it has an id.
pub fn deadline_exceeded() -> Status {
    let message =
        "the deadline passed before the outcome was known: ask for it again with the same request_id";
    status_with(Code::DeadlineExceeded, SendError::new(Reason::OutcomeUnknown, message))
}

fn status_with(code: Code, error: SendError) -> Status {
    let error = send_error(error);
    let reason = error.reason().as_str_name().trim_start_matches("ERROR_REASON_").to_owned();
    let metadata = error.graph.iter().flat_map(|graph| {
        [
            ("graphCode".to_owned(), graph.code.to_string()),
            ("graphSubcode".to_owned(), graph.subcode.to_string()),
        ]
    });
    let info = rpc::ErrorInfo { reason, domain: ERROR_DOMAIN.to_owned(), metadata: metadata.collect() };
    let mut details = vec![any("google.rpc.ErrorInfo", &info)];
    if !error.violations.is_empty() {
        let field_violations = error.violations.iter().map(|violation| rpc::bad_request::FieldViolation {
            field: violation.field.clone(),
            description: violation.description.clone(),
            ..Default::default()
        });
        let bad_request = rpc::BadRequest { field_violations: field_violations.collect() };
        details.push(any("google.rpc.BadRequest", &bad_request));
    }
    if let Some(retry_delay) = error.retry_after {
        details.push(any("google.rpc.RetryInfo", &rpc::RetryInfo { retry_delay: Some(retry_delay) }));
    }
    details.push(any("messenger.v1.SendError", &error));
    let status = rpc::Status { code: code.into(), message: error.message.clone(), details };
    Status::with_details(code, error.message, status.encode_to_vec().into())
}

/// The answer to a health check of something that there is not, as its protocol wants it.
pub fn unknown_health_name() -> Status {
    Status::not_found("unknown name: ask for liveness, readiness, messenger.v1.MessengerService or nothing")
}

/// The protocol of the bulk stream was broken.
pub fn protocol_violation(message: impl Into<Cow<'static, str>>) -> Status {
    status(SendError::new(Reason::InvalidArgument, message))
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

/// The error as the contract has it.
pub fn send_error(error: SendError) -> pb::SendError {
    pb::SendError {
        reason: pb_reason(error.reason).into(),
        retryable: error.reason.is_retryable(),
        message: error.message.into_owned(),
        retry_after: error.retry_after.and_then(|wait| wait.try_into().ok()),
        graph: error.graph.map(|graph| graph_error(*graph)),
        violations: capped(error.violations).into_iter().map(field_violation).collect(),
    }
}

fn graph_error(graph: GraphError) -> pb::GraphError {
    let cut = |text: String| text.chars().take(GRAPH_TEXT_LENGTH_MAX).collect();
    pb::GraphError {
        code: graph.code,
        subcode: graph.subcode,
        r#type: cut(graph.kind),
        message: cut(graph.message),
        fbtrace_id: cut(graph.fbtrace_id),
        user_title: cut(graph.user_title),
        user_message: cut(graph.user_message),
    }
}

fn field_violation(violation: Violation) -> pb::FieldViolation {
    pb::FieldViolation { field: violation.field, description: violation.description }
}

/// As many violations as fit, and one more that counts the rest. They go over the wire twice. What was capped stays as
/// it is.
fn capped(mut violations: Vec<Violation>) -> Vec<Violation> {
    let (total, mut bytes) = (violations.len(), 0);
    if violations.last().is_some_and(|last| last.field.is_empty() && last.description.starts_with("and ")) {
        return violations;
    }
    let mut fits = |violation: &Violation| {
        // Two strings in a message in a list.
        bytes += 2 * (violation.field.len() + violation.description.len() + 16);
        bytes <= ERROR_DETAILS_BYTES_MAX - 1024
    };
    let kept =
        violations.iter().map_while(|violation| fits(violation).then_some(())).take(VIOLATIONS_MAX).count();
    violations.truncate(kept);
    if kept < total {
        let description = format!("and {} more", total - kept);
        violations.push(Violation { field: String::new(), description });
    }
    violations
}

/// An error that waits to be told, with no more violations than will be told.
pub(super) fn capped_error(error: SendError) -> SendError {
    SendError { violations: capped(error.violations), ..error }
}

/// A receipt as the contract has it.
pub fn receipt(receipt: Receipt) -> pb::Receipt {
    pb::Receipt {
        message_id: receipt.message_id,
        recipient_id: receipt.recipient_id,
        attachment_id: receipt.attachment_id,
        replayed: receipt.replayed,
        attempts: i32::try_from(receipt.attempts).unwrap_or(i32::MAX),
        sent_time: Some(convert::timestamp(receipt.sent_time)),
    }
}

/// The result of a bulk item.
pub fn item_result(item_id: String, outcome: Outcome) -> pb::ItemResult {
    use pb::item_result::Outcome as Pb;

    let (state, outcome) = match outcome {
        Outcome::Sent(proof) => (pb::ItemState::Sent, Pb::Receipt(receipt(proof))),
        Outcome::Rejected(error) => (pb::ItemState::Rejected, Pb::Error(send_error(error))),
        Outcome::Failed(error) => (pb::ItemState::Failed, Pb::Error(send_error(error))),
        Outcome::Unknown(error) => (pb::ItemState::Unknown, Pb::Error(send_error(error))),
        Outcome::NotSent(error) => (pb::ItemState::NotSent, Pb::Error(send_error(error))),
    };
    pb::ItemResult { item_id, state: state.into(), outcome: Some(outcome) }
}

/// At least the bytes that [`item_result`] takes in a frame.
pub(super) fn item_result_bytes(item_id: &BulkItemId, outcome: &Outcome) -> usize {
    /// Numbers, times and lengths.
    const REST: usize = 128;
    let bytes = match outcome {
        Outcome::Sent(receipt) => {
            receipt.message_id.len() + receipt.recipient_id.len() + receipt.attachment_id.len()
        }
        Outcome::Rejected(error)
        | Outcome::Failed(error)
        | Outcome::Unknown(error)
        | Outcome::NotSent(error) => {
            let texts = error.graph.iter().flat_map(|graph| {
                [&graph.kind, &graph.message, &graph.fbtrace_id, &graph.user_title, &graph.user_message]
            });
            // Characters of four bytes at most.
            let graph: usize = texts.map(|text| text.len().min(4 * GRAPH_TEXT_LENGTH_MAX) + 4).sum();
            let violations = if error.violations.is_empty() { 0 } else { ERROR_DETAILS_BYTES_MAX };
            error.message.len() + graph + violations
        }
    };
    item_id.len() + bytes + REST
}

/// An item's id as its result tells it: one that is too long is cut.
pub(super) fn echoed_id(item_id: &str) -> &str {
    let end = item_id.char_indices().nth(ID_LENGTH_MAX).map_or(item_id.len(), |(end, _)| end);
    item_id.get(..end).unwrap_or_default()
}

/// A page's standing as the contract has it.
pub fn page_state(standing: &Standing) -> (pb::page::State, pb::ErrorReason) {
    match standing {
        Standing::Open => (pb::page::State::Active, pb::ErrorReason::Unspecified),
        Standing::Paused { error, .. } => (pb::page::State::Paused, pb_reason(error.reason)),
        Standing::Suspended { error, .. } => (pb::page::State::Suspended, pb_reason(error.reason)),
    }
}
