//! `message`: one kind of content, quick replies, metadata.

use super::attachment::{self, Media};
use super::field::Field;
use super::{quick_reply, template};
use crate::sandbox::graph_error::GraphError;

/// What the other rules need to know of a message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) media: Media,
    pub(super) template: Template,
}

/// The template in a message.
#[derive(Debug)]
pub(super) enum Template {
    None,
    /// An attachment with this `template_type`.
    Attached(String),
    /// `message.template`.
    Utility,
}

/// Characters of a text: the reference says "less than 2000", the API's own error "less than or
/// equal to".
const MAX_TEXT: usize = 2000;

/// Characters of `metadata`.
const MAX_METADATA: usize = 1000;

/// The contents, of which a message has exactly one.
const CONTENTS: [&str; 5] = ["text", "attachment", "attachments", "sticker_id", "template"];

pub(super) fn check(message: &Field<'_>) -> Result<Message, GraphError> {
    message.members(&[
        "text",
        "attachment",
        "attachments",
        "sticker_id",
        "template",
        "quick_replies",
        "metadata",
    ])?;
    let mut contents = CONTENTS.iter().filter_map(|key| message.get(key).map(|field| (*key, field)));
    let Some((key, content)) = contents.next() else {
        return Err(GraphError::known(100, Some(2018034)));
    };
    if contents.next().is_some() {
        return Err(GraphError::parameter(
            "Only one of the text, attachment, and template fields can be specified",
        ));
    }
    let mut checked = Message { media: Media::default(), template: Template::None };
    match key {
        "text" => check_text(&content)?,
        "attachment" => (checked.media, checked.template) = attachment::check(&content)?,
        "attachments" => checked.media = attachment::check_images(&content)?,
        "sticker_id" => check_sticker(&content)?,
        _ => {
            template::check_utility(&content)?;
            checked.template = Template::Utility;
        }
    }
    if let Some(replies) = message.get("quick_replies") {
        quick_reply::check(&replies)?;
    }
    if let Some(metadata) = message.get("metadata") {
        metadata.length_up_to(metadata.string()?, MAX_METADATA)?;
    }
    Ok(checked)
}

fn check_text(text: &Field<'_>) -> super::field::Verdict {
    let content = text.string()?;
    if content.is_empty() {
        return Err(GraphError::known(100, Some(2018034)));
    }
    text.length_up_to(content, MAX_TEXT)
}

fn check_sticker(sticker: &Field<'_>) -> super::field::Verdict {
    if sticker.is_number() {
        return sticker.whole_number(1, u64::MAX);
    }
    let id = sticker.text()?;
    if id.bytes().all(|byte| byte.is_ascii_digit()) { Ok(()) } else { Err(sticker.error("must be a number")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{accepted, message, refused, text_with};

    #[test]
    fn contents_are_accepted() {
        for content in [
            json!({"text": "Hello", "metadata": "x".repeat(1000)}),
            json!({"text": "ä".repeat(2000)}),
            json!({"attachments": [{"type": "image", "payload": {"url": "https://a.example/1.png"}}]}),
            json!({"sticker_id": 369239263222822_u64}),
            json!({"sticker_id": "369239263222822"}),
            json!({"attachment": {"type": "file", "payload": {"url": "http://a.example/f.pdf", "is_reusable": true}}}),
            json!({"attachment": {"type": "audio", "payload": {"attachment_id": "9123"}}}),
        ] {
            accepted(&message(content));
        }
    }

    #[test]
    fn contents_are_refused() {
        refused(&json!({"recipient": {"id": "1"}}), 100, Some(2018015), "Must send either message or state");
        refused(&text_with("sender_action", json!("typing_on")), 100, Some(2018014), "");
        let empty = "(#100) Message cannot be empty, must provide valid attachment or text";
        refused(&message(json!({"text": null, "quick_replies": null})), 100, Some(2018034), empty);
        refused(&message(json!({"text": ""})), 100, Some(2018034), empty);
        for (content, text) in [
            (
                json!({"text": "a".repeat(2001)}),
                "(#100) Length of param message[text] must be less than or equal to 2000",
            ),
            (json!({"text": 5}), "message[text] must be a string"),
            (json!({"text": "a", "metadata": "x".repeat(1001)}), "Length of param message[metadata]"),
            (json!({"text": "a", "attachment": {}}), "Only one of"),
            (
                json!({"text": "a", "reply_to": {"mid": "m"}}),
                "Invalid keys \"reply_to\" were found in param \"message\"",
            ),
            (json!({"sticker_id": "thumb"}), "must be a number"),
        ] {
            refused(&message(content), 100, None, text);
        }
    }
}
