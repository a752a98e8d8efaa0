//! Graph's errors: what one consists of, and its envelope on the wire.
//!
//! Codes, subcodes and texts are those of Meta's error tables (Messenger, 2026-06-25; Graph API)
//! and of recorded answers. HTTP statuses are not documented, so they vary here as they do in
//! recordings: nobody should decide by them.

use serde::Serialize;

/// A Graph error as it is answered; the `fbtrace_id` is added when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GraphError {
    pub(crate) code: i64,
    pub(crate) subcode: Option<i64>,
    message: String,
    kind: &'static str,
    status: u16,
    is_transient: bool,
}

impl GraphError {
    /// Error 100, Graph's answer to most malformed requests.
    pub(crate) fn parameter(text: &str) -> Self {
        Self::with_text(100, text)
    }

    /// `code` with a text of its own, which Graph prefixes with the code.
    pub(crate) fn with_text(code: i64, text: &str) -> Self {
        Self { message: format!("(#{code}) {text}"), ..Self::known(code, None) }
    }

    /// `code` and `subcode` with the text Meta gives them, or a plain one.
    pub(crate) fn known(code: i64, subcode: Option<i64>) -> Self {
        Self {
            code,
            subcode,
            message: known_message(code, subcode),
            kind: "OAuthException",
            status: status(code),
            is_transient: matches!(code, 2 | 4 | 1200),
        }
    }

    /// An error that Graph marks as transient, with a code no table lists and a status that is no server error's: nothing
    /// was sent.
    pub(crate) fn transient() -> Self {
        Self {
            message: "An unexpected error has occurred. Please retry your request later.".to_owned(),
            is_transient: true,
            ..Self::known(4200, None)
        }
    }

    /// The same error with a subcode.
    pub(crate) fn subcode(mut self, subcode: i64) -> Self {
        self.subcode = Some(subcode);
        self
    }

    /// The same error with another `type` than `OAuthException`.
    pub(crate) fn kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// The same error with a text that carries no code, as some of Graph's do.
    pub(crate) fn bare_text(mut self, text: String) -> Self {
        self.message = text;
        self
    }

    /// The HTTP status it is answered with.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Whether it says that too many calls were made.
    pub(crate) fn is_throttle(&self) -> bool {
        matches!(self.code, 4 | 17 | 32 | 341 | 613 | 80001 | 80002 | 80006)
    }

    /// The error envelope, one JSON object.
    pub(crate) fn envelope(&self, fbtrace_id: &str) -> String {
        let (error_user_title, error_user_msg) = match (self.code, self.subcode) {
            (551, _) => (Some("Person unavailable"), Some("This person can't reply right now.")),
            _ => (None, None),
        };
        let envelope = Envelope {
            error: Body {
                message: &self.message,
                kind: self.kind,
                code: self.code,
                error_subcode: self.subcode,
                is_transient: self.is_transient.then_some(true),
                error_user_title,
                error_user_msg,
                fbtrace_id,
            },
        };
        serde_json::to_string(&envelope).unwrap_or_default()
    }
}

/// The HTTP status recordings show for a code; 400 for most.
fn status(code: i64) -> u16 {
    match code {
        1 | 2 | 1200 => 500,
        4 | 10 | 200..=299 => 403,
        613 | 80001 | 80002 | 80006 => 429,
        _ => 400,
    }
}

fn known_message(code: i64, subcode: Option<i64>) -> String {
    match known_text(code, subcode) {
        Some(text) => text.to_owned(),
        None => format!("(#{code}) The request was refused."),
    }
}

fn known_text(code: i64, subcode: Option<i64>) -> Option<&'static str> {
    let text = match (code, subcode) {
        (1, Some(1357046)) => "Received Invalid JSON reply.",
        (1, _) => "An unknown error occurred",
        (2, _) => "Service temporarily unavailable",
        (4, _) => "(#4) Application request limit reached",
        (10, Some(2018278)) => "(#10) This message is sent outside of allowed window.",
        (10, Some(2018108)) => {
            "(#10) This Person Cannot Receive Messages: This person isn't receiving messages from \
             you right now."
        }
        (10, Some(2018300)) => "(#10) Message not sent: another app is controlling this thread now.",
        (10, Some(1893063)) => "(#10) This Page is temporarily restricted from sending messages.",
        (10, _) => "(#10) Application does not have permission for this action",
        (100, Some(33)) => {
            "Unsupported post request. Object does not exist, cannot be loaded due to missing \
             permissions, or does not support this operation."
        }
        (100, Some(2018001)) => "(#100) No matching user found",
        (100, Some(2018008)) => "(#100) Failed to fetch the file from the url",
        (100, Some(2018014)) => "(#100) Cannot send both message and sender_action",
        (100, Some(2018015)) => "(#100) Must send either message or state",
        (100, Some(2018034)) => "(#100) Message cannot be empty, must provide valid attachment or text",
        (100, Some(2018047)) => "(#100) Upload attachment failure.",
        (100, Some(2018074)) => "(#100) Cannot find attachment: the attachment id is not valid",
        (100, None) => "(#100) Invalid parameter",
        (104, _) => "An access token is required to request this resource.",
        (190, Some(460)) => {
            "Error validating access token: The session has been invalidated because the user \
             changed their password or Facebook has changed the session for security reasons."
        }
        (190, Some(463)) => "Error validating access token: Session has expired.",
        (190, _) => "Invalid OAuth access token - Cannot parse access token",
        (200, None) => "(#200) Requires pages_messaging permission to manage the object",
        (368, _) => "The action attempted has been deemed abusive or is otherwise disallowed",
        (551, _) => "(#551) This person isn't available right now.",
        (613, _) => "(#613) Calls to this api have exceeded the rate limit.",
        (1200, _) => "(#1200) Temporary send message failure. Please try again later.",
        (10900, _) => "(#10900) Activity already replied to",
        (80006, _) => {
            "(#80006) There have been too many calls to this Page account. Wait a bit and try \
             again. For more info, please refer to \
             https://developers.facebook.com/docs/graph-api/overview/rate-limiting."
        }
        _ => return None,
    };
    Some(text)
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

/// The members in the order recordings have them; only message, type and code are always there.
#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_subcode: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_transient: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_user_title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_user_msg: Option<&'a str>,
    fbtrace_id: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelope_has_only_the_members_that_apply() {
        let error = GraphError::known(10, Some(2018278));
        assert_eq!(
            error.envelope("A1"),
            concat!(
                r##"{"error":{"message":"(#10) This message is sent outside of allowed window.","##,
                r##""type":"OAuthException","code":10,"error_subcode":2018278,"fbtrace_id":"A1"}}"##
            )
        );
        let transient = GraphError::transient().envelope("A2");
        assert!(transient.contains(r#""is_transient":true"#), "{transient}");
        assert!(!transient.contains("error_subcode"), "{transient}");
    }

    #[test]
    fn statuses_follow_the_recordings() {
        for (code, status) in [(1, 500), (4, 403), (100, 400), (190, 400), (80006, 429), (999, 400)] {
            assert_eq!(GraphError::known(code, None).status(), status, "{code}");
        }
    }
}
