//! What a failed call tells.

use std::fmt::Write;
use std::process::ExitCode;

use messenger_connector_client::v1::ErrorReason;
use messenger_connector_client::{Code, MessengerError, prost_types, v1};
use serde_json::json;

/// The error in lines for people; the first one has no indent, none has a newline behind it.
pub(super) fn describe(error: &MessengerError) -> String {
    let mut text = first_line(error);
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
    if let Some(wait) = retry_after(error) {
        let _ = write!(text, "\n  retry after: {wait}");
    }
    if is_open(error) && !error.request_id.is_empty() {
        let id = &error.request_id;
        let _ = write!(
            text,
            "\n  with --request-id {id} the same command sends it once, or tells what became of it"
        );
    } else if error.retryable && error.reason != ErrorReason::Unspecified {
        text.push_str("\n  nothing was sent: sending it again is safe");
    }
    text
}

/// The error in one line: the others are about a single message.
pub(super) fn first_line(error: &MessengerError) -> String {
    let MessengerError { code, reason, message, .. } = error;
    match (reason, code) {
        (ErrorReason::Unspecified, Code::Unavailable) => {
            format!("{message}: is `messenger-connector serve` running there?")
        }
        // Made on this side.
        (ErrorReason::Unspecified, Code::DeadlineExceeded | Code::Cancelled) => message.clone(),
        (ErrorReason::Unspecified, code) => format!("the service answered {code:?}: {message}"),
        (reason, _) => format!("{}: {message}", name(*reason)),
    }
}

/// True if the message may have been sent, or is being sent.
fn is_open(error: &MessengerError) -> bool {
    use ErrorReason::{OutcomeUnknown, RequestInProgress, Unspecified};

    matches!(error.reason, Unspecified | OutcomeUnknown | RequestInProgress)
}

/// Prints the error on standard error, as JSON if programs read it. Returns the exit code that goes with it.
pub(super) fn tell(error: &MessengerError, as_json: bool) -> ExitCode {
    if as_json {
        eprintln!("{:#}", json(error));
    } else {
        eprintln!("{}", describe(error));
    }
    ExitCode::FAILURE
}

/// The error as JSON for programs; the reason is null if the service did not make the error.
pub(super) fn json(error: &MessengerError) -> serde_json::Value {
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
    let is_made_by_service = error.reason != ErrorReason::Unspecified;
    json!({"error": {
        "reason": is_made_by_service.then(|| name(error.reason)),
        "message": if is_made_by_service { error.message.clone() } else { first_line(error) },
        "retryable": error.retryable,
        "retry_after": retry_after(error),
        "graph": graph,
        "violations": violations.collect::<Vec<_>>(),
        "request_id": error.request_id,
    }})
}

fn retry_after(error: &MessengerError) -> Option<String> {
    prost_types::Duration::try_from(error.retry_after?).ok().map(|wait| wait.to_string())
}

/// The reason of a result without its prefix, for example `OUTSIDE_WINDOW`; empty if there is none.
pub(super) fn reason(error: &v1::SendError) -> String {
    match ErrorReason::try_from(error.reason) {
        Ok(ErrorReason::Unspecified) => String::new(),
        Ok(reason) => name(reason).to_owned(),
        Err(_) => format!("REASON_{}", error.reason),
    }
}

fn name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status;
    use crate::error::{GraphError, Reason, SendError, Violation};

    #[test]
    fn an_error_of_the_service_is_told_in_full() {
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
        let error = MessengerError::from(status::status(error));
        let expected = "RATE_LIMITED: graph throttles the page\n  \
                        text.text: is long\n  \
                        graph: code 80006, subcode 0, fbtrace_id A1\n  \
                        graph says: too many calls\n  \
                        retry after: 60s\n  \
                        nothing was sent: sending it again is safe";
        assert_eq!(describe(&error), expected);
        assert_eq!(json(&error)["error"]["graph"]["code"], 80006);
    }

    /// Nobody but the service can say that nothing was sent.
    #[test]
    fn an_error_that_the_service_did_not_make_promises_nothing() {
        let told = |status: tonic::Status| {
            let mut error = MessengerError::from(status);
            error.request_id = "17".to_owned();
            assert!(json(&error)["error"]["reason"].is_null());
            describe(&error)
        };
        let how = "\n  with --request-id 17 the same command sends it once, or tells what became of it";
        let unimplemented = told(tonic::Status::unimplemented("no such call"));
        assert_eq!(unimplemented, format!("the service answered Unimplemented: no such call{how}"));
        let unavailable = told(tonic::Status::unavailable("cut"));
        assert_eq!(unavailable, format!("cut: is `messenger-connector serve` running there?{how}"));
    }
}
