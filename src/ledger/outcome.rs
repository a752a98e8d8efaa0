//! Outcomes as the ledger keeps them: JSON without any text of the message, its recipient, or Graph.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::record::{State, from_ms};
use crate::error::{GraphError, Outcome, Reason, Receipt, SendError};

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct ReceiptRecord<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    message_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    attachment_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "is_one")]
    attempts: u32,
}

impl Default for ReceiptRecord<'_> {
    fn default() -> Self {
        Self { message_id: Cow::default(), attachment_id: Cow::default(), attempts: 1 }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the form that serde calls
fn is_one(attempts: &u32) -> bool {
    *attempts == 1
}

#[derive(Serialize, Deserialize)]
struct ErrorRecord<'a> {
    reason: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    graph: Option<GraphRecord<'a>>,
}

#[derive(Serialize, Deserialize)]
struct GraphRecord<'a> {
    code: i32,
    subcode: i32,
    r#type: Cow<'a, str>,
    fbtrace_id: Cow<'a, str>,
}

/// The record of a receipt; when it was sent is the row's time.
pub(super) fn of_receipt(receipt: &Receipt) -> Box<RawValue> {
    raw(&ReceiptRecord {
        message_id: storable(&receipt.message_id),
        attachment_id: storable(&receipt.attachment_id),
        attempts: receipt.attempts,
    })
}

/// The record of an error.
pub(super) fn of_error(error: &SendError) -> Box<RawValue> {
    let graph = error.graph.as_ref().map(|graph| GraphRecord {
        code: graph.code,
        subcode: graph.subcode,
        r#type: storable(&graph.kind),
        fbtrace_id: storable(&graph.fbtrace_id),
    });
    raw(&ErrorRecord { reason: name(error.reason).into(), graph })
}

/// Graph's identifiers have no NUL; one that had would not fit into a database's text.
fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "")) } else { Cow::Borrowed(text) }
}

fn raw(record: &impl Serialize) -> Box<RawValue> {
    // Strings and numbers always make JSON.
    to_raw_value(record).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The outcome of a record. Without JSON, nobody settled it.
pub(super) fn read(state: State, time_ms: i64, json: Option<&str>) -> Outcome {
    match state {
        State::Sent => {
            let record: ReceiptRecord =
                json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
            Outcome::Sent(Receipt {
                message_id: record.message_id.into_owned(),
                recipient_id: String::new(),
                attachment_id: record.attachment_id.into_owned(),
                replayed: true,
                attempts: record.attempts,
                sent_time: from_ms(time_ms),
            })
        }
        State::Failed => {
            let mut error = read_error(json, Reason::GraphRejected, "graph refused it");
            // What is on record cannot be sent again, so it must not say so.
            if error.reason.is_retryable() {
                error.reason = Reason::GraphRejected;
            }
            Outcome::Failed(error)
        }
        State::Unknown => Outcome::Unknown(match json {
            Some(_) => read_error(json, Reason::OutcomeUnknown, "it may have been sent"),
            None => SendError::new(
                Reason::OutcomeUnknown,
                "who was sending it stopped before its outcome was on record: it may have been sent",
            ),
        }),
    }
}

/// The error of a record; `sentence` says what it means.
pub(super) fn read_error(json: Option<&str>, otherwise: Reason, sentence: &'static str) -> SendError {
    let record: Option<ErrorRecord> = json.and_then(|json| serde_json::from_str(json).ok());
    let reason = record.as_ref().and_then(|record| reason(&record.reason)).unwrap_or(otherwise);
    let Some(graph) = record.and_then(|record| record.graph) else {
        return SendError::new(reason, format!("{sentence} (from the record)"));
    };
    let message = format!(
        "{sentence}: graph's code {}, subcode {} (from the record, which keeps none of graph's texts)",
        graph.code, graph.subcode
    );
    let graph = GraphError {
        code: graph.code,
        subcode: graph.subcode,
        kind: graph.r#type.into_owned(),
        fbtrace_id: graph.fbtrace_id.into_owned(),
        ..GraphError::default()
    };
    SendError { graph: Some(Box::new(graph)), ..SendError::new(reason, message) }
}

macro_rules! reasons {
    ($($variant:ident $name:literal,)*) => {
        /// The contract's name of a reason.
        fn name(reason: Reason) -> &'static str {
            match reason {
                $(Reason::$variant => $name,)*
            }
        }

        fn reason(name: &str) -> Option<Reason> {
            match name {
                $($name => Some(Reason::$variant),)*
                _ => None,
            }
        }
    };
}

reasons! {
    InvalidArgument "INVALID_ARGUMENT",
    RequestIdReused "REQUEST_ID_REUSED",
    RequestInProgress "REQUEST_IN_PROGRESS",
    Unauthenticated "UNAUTHENTICATED",
    PermissionDenied "PERMISSION_DENIED",
    PageNotFound "PAGE_NOT_FOUND",
    PageTokenInvalid "PAGE_TOKEN_INVALID",
    PagePermissionMissing "PAGE_PERMISSION_MISSING",
    PageRestricted "PAGE_RESTRICTED",
    OutsideWindow "OUTSIDE_WINDOW",
    RecipientUnavailable "RECIPIENT_UNAVAILABLE",
    ThreadControlledElsewhere "THREAD_CONTROLLED_ELSEWHERE",
    RecipientNotFound "RECIPIENT_NOT_FOUND",
    AttachmentNotFound "ATTACHMENT_NOT_FOUND",
    RateLimited "RATE_LIMITED",
    GraphUnavailable "GRAPH_UNAVAILABLE",
    OutcomeUnknown "OUTCOME_UNKNOWN",
    GraphRejected "GRAPH_REJECTED",
    Draining "DRAINING",
    LedgerUnavailable "LEDGER_UNAVAILABLE",
    Expired "EXPIRED",
    Internal "INTERNAL",
    BulkNotFound "BULK_NOT_FOUND",
}
