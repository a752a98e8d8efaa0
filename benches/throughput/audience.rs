//! What is sent, and to whom. An audience of any size is made as it is sent, one item at a time.

use std::collections::BTreeMap;

use anyhow::Context;
use messenger_connector::api::pb;
use messenger_connector::api::pb::{action, media_message, recipient, template_message};
use prost_types::value::Kind as ValueKind;
use prost_types::{Struct, Value};

use crate::process::Client;

/// Id of the first recipient: as long as Meta's, and no magic one of the sandbox.
const RECIPIENT_FIRST: u64 = 1_254_477_700_000_001;
const TEXT: &str =
    "Hello from the shop: the spring sale has begun. Everything for the garden is 20 % off until Sunday.";
const MEDIA_URL: &str = "https://cdn.shop.example.com/campaigns/spring-2026/garden-sale.jpg";
/// Has two variables.
const TEMPLATE: &str = r#"{"template_type":"button","text":"Hello {{first_name}}, the spring sale has begun.","buttons":[{"type":"web_url","title":"To the sale","url":"https://shop.example.com/sale?code={{code}}"}]}"#;
const FIRST_NAMES: [&str; 8] = ["Ann", "Bela", "Chloé", "Dmitri", "Elif", "Farid", "Grace", "Hana"];

/// Kinds of message that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A text without variables.
    Text,
    /// A button template with two variables.
    Template,
    /// An image by its address.
    Media,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Text, Self::Template, Self::Media];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Template => "template with two variables",
            Self::Media => "image by address",
        }
    }

    /// The message of a whole bulk.
    pub(crate) fn action(self) -> pb::Action {
        let kind = match self {
            Self::Text => action::Kind::Text(text()),
            Self::Template => action::Kind::Template(template()),
            Self::Media => action::Kind::Media(media()),
        };
        pb::Action { kind: Some(kind) }
    }

    /// The n-th item of an audience.
    pub(crate) fn item(self, number: u64) -> pb::BulkItem {
        pb::BulkItem {
            item_id: format!("{ITEM_ID_PREFIX}{number}"),
            recipient: Some(recipient(number)),
            variables: self.variables(number),
            ..pb::BulkItem::default()
        }
    }

    fn variables(self, number: u64) -> Option<Struct> {
        let text = |text: String| Value { kind: Some(ValueKind::StringValue(text)) };
        let first_name = FIRST_NAMES[number as usize % FIRST_NAMES.len()];
        let fields = [("first_name", first_name.to_owned()), ("code", format!("SPRING-{number}"))];
        let fields = || fields.map(|(name, value)| (name.to_owned(), text(value)));
        (self == Self::Template).then(|| Struct { fields: BTreeMap::from(fields()) })
    }

    /// The Graph call that the service makes for the first recipient, as it previews it.
    pub(crate) async fn preview(self, client: &mut Client) -> anyhow::Result<pb::Preview> {
        let (recipient, options) = (Some(recipient(0)), Some(options()));
        let preview = match self {
            Self::Text => {
                let request = pb::SendTextMessageRequest { validate_only: true, ..text_request(0, "") };
                match client.send_text_message(request).await?.into_inner().result {
                    Some(pb::send_text_message_response::Result::Preview(preview)) => Some(preview),
                    Some(pb::send_text_message_response::Result::Receipt(_)) | None => None,
                }
            }
            Self::Template => {
                let (template, template_variables) = (Some(template()), self.variables(0));
                let request = pb::SendTemplateMessageRequest {
                    validate_only: true,
                    recipient,
                    options,
                    template,
                    template_variables,
                    ..Default::default()
                };
                match client.send_template_message(request).await?.into_inner().result {
                    Some(pb::send_template_message_response::Result::Preview(preview)) => Some(preview),
                    Some(pb::send_template_message_response::Result::Receipt(_)) | None => None,
                }
            }
            Self::Media => {
                let request = pb::SendMediaMessageRequest {
                    validate_only: true,
                    recipient,
                    options,
                    media: Some(media()),
                    ..Default::default()
                };
                match client.send_media_message(request).await?.into_inner().result {
                    Some(pb::send_media_message_response::Result::Preview(preview)) => Some(preview),
                    Some(pb::send_media_message_response::Result::Receipt(_)) | None => None,
                }
            }
        };
        preview.context("a request to validate was answered without a preview")
    }
}

const ITEM_ID_PREFIX: &str = "customer-";

/// The number of the item with this id.
pub(crate) fn item_number(item_id: &str) -> anyhow::Result<u64> {
    let number = item_id.strip_prefix(ITEM_ID_PREFIX).and_then(|number| number.parse().ok());
    number.with_context(|| format!("no item has the id {item_id}"))
}

/// A text to the n-th recipient; without an id if `request_id` is empty.
pub(crate) fn text_request(number: u64, request_id: &str) -> pb::SendTextMessageRequest {
    pb::SendTextMessageRequest {
        request_id: request_id.to_owned(),
        recipient: Some(recipient(number)),
        options: Some(options()),
        text: Some(text()),
        ..Default::default()
    }
}

/// The PSID of the n-th recipient.
pub(crate) fn psid(number: u64) -> String {
    (RECIPIENT_FIRST + number).to_string()
}

fn recipient(number: u64) -> pb::Recipient {
    pb::Recipient { identifier: Some(recipient::Identifier::Id(psid(number))) }
}

pub(crate) fn options() -> pb::SendOptions {
    pb::SendOptions { messaging_type: pb::MessagingType::Update.into(), ..Default::default() }
}

fn text() -> pb::TextMessage {
    pb::TextMessage { text: TEXT.to_owned(), extras: None }
}

fn template() -> pb::TemplateMessage {
    let content = template_message::Content::PayloadJson(TEMPLATE.to_owned());
    pb::TemplateMessage { content: Some(content), extras: None }
}

fn media() -> pb::MediaMessage {
    pb::MediaMessage {
        r#type: media_message::Type::Image.into(),
        source: Some(media_message::Source::Url(MEDIA_URL.to_owned())),
        ..Default::default()
    }
}
