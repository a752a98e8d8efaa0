//! One message as Graph JSON (Send API reference).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::message::{
    Action, Extras, Media, MediaSource, MediaType, Message, MessagingType, NotificationType, Options,
    QuickReply, Recipient, SenderAction, Template,
};

/// The body of `POST /{version}/{page-id}/messages`. What is `None` or empty is left out.
#[derive(Debug, Serialize)]
struct SendBody<'a> {
    recipient: RecipientBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messaging_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    persona_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<ReplyTo<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<MessageBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_action: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
struct RecipientBody<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    phone_number: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<NameBody<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    user_ref: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    comment_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    post_id: &'a str,
}

#[derive(Debug, Serialize)]
struct NameBody<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    first_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_name: &'a str,
}

#[derive(Debug, Serialize)]
struct ReplyTo<'a> {
    mid: &'a str,
}

#[derive(Debug, Default, Serialize)]
struct MessageBody<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachment: Option<AttachmentBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quick_replies: Vec<QuickReplyBody<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
}

#[derive(Debug, Serialize)]
struct AttachmentBody<'a> {
    r#type: &'static str,
    payload: AttachmentPayload<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum AttachmentPayload<'a> {
    Url {
        url: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_reusable: Option<bool>,
    },
    Id {
        attachment_id: &'a str,
    },
    Template(&'a RawValue),
}

#[derive(Debug, Serialize)]
struct QuickReplyBody<'a> {
    content_type: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    payload: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    image_url: &'a str,
}

impl<'a> SendBody<'a> {
    fn new(message: &'a Message) -> serde_json::Result<Self> {
        let recipient = recipient(&message.recipient);
        let options: &Options = &message.options;
        let persona_id = options.persona_id.as_deref();
        let (extras, content) = match message.action.as_ref() {
            Action::SenderAction(sender_action) => {
                // Graph takes no messaging_type, tag or notification_type beside a sender action.
                return Ok(Self {
                    recipient,
                    messaging_type: None,
                    tag: None,
                    notification_type: None,
                    persona_id,
                    reply_to: None,
                    message: None,
                    sender_action: Some(sender_action_name(*sender_action)),
                });
            }
            Action::Text { text, extras } => {
                (extras, MessageBody { text: text.as_str(), ..MessageBody::default() })
            }
            Action::Media { media, extras } => {
                (extras, MessageBody { attachment: Some(media_attachment(media)), ..MessageBody::default() })
            }
            Action::Template { template, extras } => (extras, template_message(template)?),
        };
        Ok(Self {
            recipient,
            messaging_type: options.messaging_type.map(messaging_type_name),
            tag: options.tag.as_deref(),
            notification_type: options.notification_type.map(notification_type_name),
            persona_id,
            reply_to: reply_to(extras),
            message: Some(MessageBody {
                quick_replies: extras.quick_replies.iter().map(quick_reply).collect(),
                metadata: &extras.metadata,
                ..content
            }),
            sender_action: None,
        })
    }
}

/// The body of a plain send.
///
/// # Errors
/// None in practice: the template payload was parsed before.
pub fn body_json(message: &Message) -> serde_json::Result<String> {
    serde_json::to_string(&SendBody::new(message)?)
}

/// Characters that a form value keeps as they are (RFC 3986, unreserved).
const FORM_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Appends the body of a send within a batch: a form whose structured values are JSON (batch guide).
///
/// # Errors
/// None in practice: the template payload was parsed before.
pub fn append_body_form(message: &Message, form: &mut String) -> serde_json::Result<()> {
    let body = SendBody::new(message)?;
    append_json(form, "recipient", &body.recipient)?;
    let strings = [
        ("messaging_type", body.messaging_type),
        ("tag", body.tag),
        ("notification_type", body.notification_type),
        ("persona_id", body.persona_id),
        ("sender_action", body.sender_action),
    ];
    for (name, value) in strings {
        if let Some(value) = value {
            append_field(form, name, value);
        }
    }
    if let Some(reply_to) = &body.reply_to {
        append_json(form, "reply_to", reply_to)?;
    }
    if let Some(message) = &body.message {
        append_json(form, "message", message)?;
    }
    Ok(())
}

fn append_field(form: &mut String, name: &str, value: &str) {
    append_name(form, name);
    form.extend(utf8_percent_encode(value, FORM_ENCODED));
}

fn append_json(form: &mut String, name: &str, value: &impl Serialize) -> serde_json::Result<()> {
    append_name(form, name);
    serde_json::to_writer(FormValue(form), value)
}

fn append_name(form: &mut String, name: &str) {
    if !form.is_empty() && !form.ends_with('"') {
        form.push('&');
    }
    form.push_str(name);
    form.push('=');
}

/// Encodes what is written as a form value.
struct FormValue<'a>(&'a mut String);

impl std::io::Write for FormValue<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend(percent_encode(bytes, FORM_ENCODED));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn recipient(recipient: &Recipient) -> RecipientBody<'_> {
    match recipient {
        Recipient::Id(id) => RecipientBody { id, ..RecipientBody::default() },
        Recipient::Phone { phone_number, first_name, last_name } => RecipientBody {
            phone_number,
            name: (!first_name.is_empty() || !last_name.is_empty())
                .then_some(NameBody { first_name, last_name }),
            ..RecipientBody::default()
        },
        Recipient::UserRef(user_ref) => RecipientBody { user_ref, ..RecipientBody::default() },
        Recipient::CommentId(comment_id) => RecipientBody { comment_id, ..RecipientBody::default() },
        Recipient::PostId(post_id) => RecipientBody { post_id, ..RecipientBody::default() },
    }
}

fn media_attachment(media: &Media) -> AttachmentBody<'_> {
    let payload = match &media.source {
        MediaSource::Url { url, is_reusable } => AttachmentPayload::Url { url, is_reusable: *is_reusable },
        MediaSource::AttachmentId(attachment_id) => AttachmentPayload::Id { attachment_id },
    };
    AttachmentBody { r#type: media_type_name(media.media_type), payload }
}

fn template_message(template: &Template) -> serde_json::Result<MessageBody<'_>> {
    let payload: &RawValue = serde_json::from_str(template.json())?;
    Ok(if template.is_utility() {
        MessageBody { template: Some(payload), ..MessageBody::default() }
    } else {
        let attachment = AttachmentBody { r#type: "template", payload: AttachmentPayload::Template(payload) };
        MessageBody { attachment: Some(attachment), ..MessageBody::default() }
    })
}

fn quick_reply(quick_reply: &QuickReply) -> QuickReplyBody<'_> {
    QuickReplyBody {
        content_type: quick_reply.content_type.name(),
        title: &quick_reply.title,
        payload: &quick_reply.payload,
        image_url: &quick_reply.image_url,
    }
}

fn reply_to(extras: &Extras) -> Option<ReplyTo<'_>> {
    let mid = extras.reply_to_message_id.as_str();
    (!mid.is_empty()).then_some(ReplyTo { mid })
}

fn messaging_type_name(messaging_type: MessagingType) -> &'static str {
    match messaging_type {
        MessagingType::Response => "RESPONSE",
        MessagingType::Update => "UPDATE",
        MessagingType::MessageTag => "MESSAGE_TAG",
        MessagingType::Utility => "UTILITY",
    }
}

fn notification_type_name(notification_type: NotificationType) -> &'static str {
    match notification_type {
        NotificationType::Regular => "REGULAR",
        NotificationType::SilentPush => "SILENT_PUSH",
        NotificationType::NoPush => "NO_PUSH",
    }
}

fn media_type_name(media_type: MediaType) -> &'static str {
    match media_type {
        MediaType::Image => "image",
        MediaType::Audio => "audio",
        MediaType::Video => "video",
        MediaType::File => "file",
    }
}

fn sender_action_name(sender_action: SenderAction) -> &'static str {
    match sender_action {
        SenderAction::TypingOn => "typing_on",
        SenderAction::TypingOff => "typing_off",
        SenderAction::MarkSeen => "mark_seen",
    }
}

#[cfg(test)]
mod tests;
