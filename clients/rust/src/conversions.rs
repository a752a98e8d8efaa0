//! Short ways to write and read the contract's types: protobuf's own are long-winded in Rust.

use std::collections::BTreeMap;

use prost_types::{Struct, Value};

use crate::v1;

/// Values for template variables. Names without a dot are the usual; numbers, lists and the like are made with
/// [`Value`]'s conversions.
///
/// ```
/// let variables = messenger_connector_client::variables([("first_name", "Ann"), ("city", "Graz")]);
/// assert_eq!(variables.fields.len(), 2);
/// ```
pub fn variables<N: Into<String>, V: Into<Value>>(variables: impl IntoIterator<Item = (N, V)>) -> Struct {
    let fields: BTreeMap<String, Value> =
        variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    Struct { fields }
}

impl v1::Recipient {
    /// The person with this page-scoped id.
    pub fn id(id: impl Into<String>) -> Self {
        v1::recipient::Identifier::Id(id.into()).into()
    }
}

impl From<v1::recipient::Identifier> for v1::Recipient {
    fn from(identifier: v1::recipient::Identifier) -> Self {
        Self { identifier: Some(identifier) }
    }
}

impl From<v1::MessagingType> for v1::SendOptions {
    fn from(messaging_type: v1::MessagingType) -> Self {
        Self { messaging_type: messaging_type.into(), ..Self::default() }
    }
}

impl<T: Into<String>> From<T> for v1::TextMessage {
    fn from(text: T) -> Self {
        Self { text: text.into(), extras: None }
    }
}

impl From<v1::sender_action::Type> for v1::SenderAction {
    fn from(kind: v1::sender_action::Type) -> Self {
        Self { r#type: kind.into() }
    }
}

impl v1::MediaMessage {
    /// Media that Meta fetches from an address.
    pub fn url(kind: v1::media_message::Type, url: impl Into<String>) -> Self {
        let source = Some(v1::media_message::Source::Url(url.into()));
        Self { r#type: kind.into(), source, ..Self::default() }
    }
}

impl v1::TemplateMessage {
    /// A template payload as JSON text.
    pub fn payload_json(payload_json: impl Into<String>) -> Self {
        Self { content: Some(v1::template_message::Content::PayloadJson(payload_json.into())), extras: None }
    }
}

/// Actions of bulks, and what the responses hold.
macro_rules! kinds {
    ($($message:ident, $kind:ident, $response:ident, $module:ident;)*) => {$(
        impl From<v1::$message> for v1::Action {
            fn from(message: v1::$message) -> Self {
                Self { kind: Some(v1::action::Kind::$kind(message)) }
            }
        }

        impl v1::$response {
            /// Proof of the send; `None` only with `validate_only`.
            pub fn receipt(&self) -> Option<&v1::Receipt> {
                match &self.result {
                    Some(v1::$module::Result::Receipt(receipt)) => Some(receipt),
                    Some(v1::$module::Result::Preview(_)) | None => None,
                }
            }

            /// The call that would be made; only with `validate_only`.
            pub fn preview(&self) -> Option<&v1::Preview> {
                match &self.result {
                    Some(v1::$module::Result::Preview(preview)) => Some(preview),
                    Some(v1::$module::Result::Receipt(_)) | None => None,
                }
            }
        }
    )*};
}

kinds! {
    TextMessage, Text, SendTextMessageResponse, send_text_message_response;
    MediaMessage, Media, SendMediaMessageResponse, send_media_message_response;
    SenderAction, SenderAction, SendSenderActionResponse, send_sender_action_response;
    TemplateMessage, Template, SendTemplateMessageResponse, send_template_message_response;
}

impl v1::ItemResult {
    /// Proof of the send; with `ItemState::Sent`.
    pub fn receipt(&self) -> Option<&v1::Receipt> {
        match &self.outcome {
            Some(v1::item_result::Outcome::Receipt(receipt)) => Some(receipt),
            Some(v1::item_result::Outcome::Error(_)) | None => None,
        }
    }

    /// The reason; with every other state.
    pub fn error(&self) -> Option<&v1::SendError> {
        match &self.outcome {
            Some(v1::item_result::Outcome::Error(error)) => Some(error),
            Some(v1::item_result::Outcome::Receipt(_)) | None => None,
        }
    }
}
