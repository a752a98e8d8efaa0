//! One message through the unary call that its kind needs.

use std::time::Duration;

use messenger_connector_client::v1::action::Kind;
use messenger_connector_client::{MessengerClient, MessengerError, prost_types, v1};

/// A message, with the frame that the four unary requests share.
#[derive(Clone, Debug)]
pub(super) struct UnaryMessage {
    pub(super) request_id: String,
    pub(super) page_id: String,
    pub(super) recipient: v1::Recipient,
    pub(super) options: v1::SendOptions,
    pub(super) kind: Kind,
    pub(super) template_variables: Option<prost_types::Struct>,
    pub(super) validate_only: bool,
    /// How long the service may take, retries included.
    pub(super) timeout: Duration,
}

/// What a unary call ends with, if not with an error.
#[derive(Debug)]
pub(super) enum Answer {
    /// The message was sent.
    Receipt(v1::Receipt),
    /// The call that would be made.
    Preview(v1::Preview),
}

/// Makes one call. The four differ in the message's field and in names only.
macro_rules! call {
    ($client:ident, $message:ident, $method:ident, $request:ident, $field:ident: $value:expr) => {{
        let response = $client
            .with_timeout($message.timeout)
            .$method(v1::$request {
                request_id: $message.request_id,
                page_id: $message.page_id,
                recipient: Some($message.recipient),
                options: Some($message.options),
                $field: Some($value),
                template_variables: $message.template_variables,
                validate_only: $message.validate_only,
            })
            .await
            .map_err(|mut error| {
                // What is not sent needs no id to be asked for again.
                if $message.validate_only {
                    error.request_id.clear();
                }
                error
            })?;
        Ok(match response.preview() {
            Some(preview) => Answer::Preview(preview.clone()),
            None => Answer::Receipt(response.receipt().cloned().unwrap_or_default()),
        })
    }};
}

/// Sends the message, or asks for its preview.
///
/// # Errors
/// What the call ends with.
pub(super) async fn send(client: &MessengerClient, message: UnaryMessage) -> Result<Answer, MessengerError> {
    match message.kind {
        Kind::Text(text) => call!(client, message, send_text_message, SendTextMessageRequest, text: text),
        Kind::Media(media) => {
            call!(client, message, send_media_message, SendMediaMessageRequest, media: media)
        }
        Kind::SenderAction(action) => {
            call!(client, message, send_sender_action, SendSenderActionRequest, sender_action: action)
        }
        Kind::Template(template) => {
            call!(client, message, send_template_message, SendTemplateMessageRequest, template: template)
        }
    }
}

/// The preview as text for people: the call, and its body as pretty JSON.
pub(super) fn preview_text(preview: &v1::Preview) -> String {
    let body = match serde_json::from_str::<serde_json::Value>(&preview.body_json) {
        Ok(body) => format!("{body:#}"),
        Err(_) => preview.body_json.clone(),
    };
    format!("POST {}\n{body}\n", preview.url)
}
