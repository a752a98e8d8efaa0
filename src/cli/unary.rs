//! One message through the unary call that its kind needs.

use std::time::Duration;

use tonic::{Request, Status};

use super::connection::Client;
use crate::api::pb;
use crate::api::pb::action::Kind;

/// A message, with the frame that the four unary requests share.
#[derive(Clone, Debug)]
pub(super) struct UnaryMessage {
    pub(super) request_id: String,
    pub(super) page_id: String,
    pub(super) recipient: pb::Recipient,
    pub(super) options: pb::SendOptions,
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
    Receipt(pb::Receipt),
    /// The call that would be made.
    Preview(pb::Preview),
}

/// Makes one call. The four differ in the message's field and in names only.
macro_rules! call {
    ($client:ident, $message:ident, $method:ident, $request:ident, $field:ident: $value:expr, $result:ident) => {{
        let mut request = Request::new(pb::$request {
            request_id: $message.request_id,
            page_id: $message.page_id,
            recipient: Some($message.recipient),
            options: Some($message.options),
            $field: Some($value),
            template_variables: $message.template_variables,
            validate_only: $message.validate_only,
        });
        request.set_timeout($message.timeout);
        match $client.$method(request).await?.into_inner().result {
            Some(pb::$result::Result::Receipt(receipt)) => Ok(Answer::Receipt(receipt)),
            Some(pb::$result::Result::Preview(preview)) => Ok(Answer::Preview(preview)),
            None => Ok(Answer::Receipt(pb::Receipt::default())),
        }
    }};
}

/// Sends the message, or asks for its preview.
///
/// # Errors
/// The status that the call ends with.
pub(super) async fn send(client: &mut Client, message: UnaryMessage) -> Result<Answer, Status> {
    match message.kind {
        Kind::Text(text) => call!(
            client, message, send_text_message, SendTextMessageRequest, text: text, send_text_message_response
        ),
        Kind::Media(media) => call!(
            client, message, send_media_message, SendMediaMessageRequest, media: media, send_media_message_response
        ),
        Kind::SenderAction(action) => call!(
            client, message, send_sender_action, SendSenderActionRequest, sender_action: action,
            send_sender_action_response
        ),
        Kind::Template(template) => call!(
            client, message, send_template_message, SendTemplateMessageRequest, template: template,
            send_template_message_response
        ),
    }
}

/// The preview as text for people: the call, and its body as pretty JSON.
pub(super) fn preview_text(preview: &pb::Preview) -> String {
    let body = match serde_json::from_str::<serde_json::Value>(&preview.body_json) {
        Ok(body) => format!("{body:#}"),
        Err(_) => preview.body_json.clone(),
    };
    format!("POST {}\n{body}\n", preview.url)
}
