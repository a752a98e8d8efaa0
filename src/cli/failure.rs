//! What a failed call tells: the contract's error if the status carries one, else the bare status.

use std::fmt::Write;
use std::process::ExitCode;

use prost::Message;
use prost_types::Any;
use serde_json::json;
use tonic::{Code, Status};

use super::connection::root_cause;
use crate::api::pb;

/// Where the details of a status keep the contract's error.
const SEND_ERROR_TYPE_URL: &str = "type.googleapis.com/messenger.v1.SendError";

/// The contract's error, if the status carries one.
pub(super) fn send_error(status: &Status) -> Option<pb::SendError> {
    let details = tonic_types::pb::Status::decode(status.details()).ok()?.details;
    let error = details.into_iter().find(|detail| detail.type_url == SEND_ERROR_TYPE_URL)?;
    pb::SendError::decode(error.value.as_slice()).ok()
}

/// The end of a stream that put rows off, for the reason that the service gave for them.
pub(super) fn unavailable(error: &pb::SendError) -> Status {
    let detail = Any { type_url: SEND_ERROR_TYPE_URL.to_owned(), value: error.encode_to_vec() };
    let (code, message) = (Code::Unavailable, error.message.clone());
    let details =
        tonic_types::pb::Status { code: code.into(), message: message.clone(), details: vec![detail] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// The error in lines for people; the first one has no indent, none has a newline behind it.
pub(super) fn describe(status: &Status) -> String {
    send_error(status).map_or_else(|| bare(status), |error| describe_error(&error))
}

/// The error of a whole stream in one line: the others are about a single message.
pub(super) fn first_line(status: &Status) -> String {
    describe(status).lines().next().unwrap_or_default().to_owned()
}

/// Prints the error on standard error, as JSON if programs read it. Returns the exit code that goes with it.
pub(super) fn tell(status: &Status, as_json: bool) -> ExitCode {
    if as_json {
        eprintln!("{:#}", json(status));
    } else {
        eprintln!("{}", describe(status));
    }
    ExitCode::FAILURE
}

/// The error as JSON for programs.
pub(super) fn json(status: &Status) -> serde_json::Value {
    let Some(error) = send_error(status) else {
        return json!({"error": {"reason": null, "message": bare(status)}});
    };
    let violations = error
        .violations
        .iter()
        .map(|violation| json!({"field": violation.field, "description": violation.description}));
    let graph = error.graph.as_ref().map(|graph| {
        json!({
            "code": graph.code, "subcode": graph.subcode, "type": graph.r#type, "message": graph.message,
            "fbtrace_id": graph.fbtrace_id, "user_title": graph.user_title, "user_message": graph.user_message,
        })
    });
    json!({"error": {
        "reason": reason(&error),
        "message": error.message,
        "retryable": error.retryable,
        "retry_after": error.retry_after.map(|wait| wait.to_string()),
        "graph": graph,
        "violations": violations.collect::<Vec<_>>(),
    }})
}

/// The reason without its prefix, for example `OUTSIDE_WINDOW`.
pub(super) fn reason(error: &pb::SendError) -> String {
    match pb::ErrorReason::try_from(error.reason) {
        Ok(reason) => reason.as_str_name().trim_start_matches("ERROR_REASON_").to_owned(),
        Err(_) => format!("REASON_{}", error.reason),
    }
}

/// The contract's error in lines for people.
pub(super) fn describe_error(error: &pb::SendError) -> String {
    let mut text = format!("{}: {}", reason(error), error.message);
    // Writing to a string cannot fail.
    for violation in &error.violations {
        // The only one is often the sentence itself.
        if error.message.starts_with(&violation.field) && error.message.ends_with(&violation.description) {
            continue;
        }
        let at = if violation.field.is_empty() { "" } else { ": " };
        let _ = write!(text, "\n  {}{at}{}", violation.field, violation.description);
    }
    if let Some(graph) = &error.graph {
        let _ = write!(
            text,
            "\n  graph: code {}, subcode {}, fbtrace_id {}",
            graph.code, graph.subcode, graph.fbtrace_id
        );
        for line in [&graph.message, &graph.user_title, &graph.user_message] {
            if !line.is_empty() {
                let _ = write!(text, "\n  graph says: {line}");
            }
        }
    }
    if let Some(wait) = &error.retry_after {
        let _ = write!(text, "\n  retry after: {wait}");
    }
    if error.retryable {
        text.push_str("\n  nothing was sent: sending it again is safe");
    }
    text
}

fn bare(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => format!("the connection to the service broke: {}", root_cause(source)),
        None => format!("the service answered {:?}: {}", status.code(), status.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status;
    use crate::error::{GraphError, Reason, SendError, Violation};

    #[test]
    fn an_error_is_found_in_the_details_of_its_status() {
        let error = SendError {
            retry_after: Some(std::time::Duration::from_secs(60)),
            graph: Some(Box::new(GraphError {
                code: 80006,
                fbtrace_id: "A1".to_owned(),
                message: "too many calls".to_owned(),
                ..GraphError::default()
            })),
            violations: vec![Violation { field: "text.text".to_owned(), description: "is long".to_owned() }],
            ..SendError::new(Reason::RateLimited, "graph throttles the page")
        };
        let status = status::status(error);
        let expected = "RATE_LIMITED: graph throttles the page\n  \
                        text.text: is long\n  \
                        graph: code 80006, subcode 0, fbtrace_id A1\n  \
                        graph says: too many calls\n  \
                        retry after: 60s\n  \
                        nothing was sent: sending it again is safe";
        assert_eq!(describe(&status), expected);
        assert_eq!(json(&status)["error"]["graph"]["code"], 80006);
    }

    #[test]
    fn why_rows_were_put_off_is_found_in_the_end_of_their_stream() {
        let retry_after = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let error = pb::SendError {
            message: "it is away".to_owned(),
            retry_after,
            ..status::send_error(SendError::new(Reason::LedgerUnavailable, ""))
        };
        let status = unavailable(&error);
        assert_eq!(first_line(&status), "LEDGER_UNAVAILABLE: it is away");
        assert_eq!((status.code(), send_error(&status)), (Code::Unavailable, Some(error)));
    }

    #[test]
    fn a_status_without_details_is_told_as_it_is() {
        let status = tonic::Status::unimplemented("no such call");
        assert_eq!(describe(&status), "the service answered Unimplemented: no such call");
    }
}
