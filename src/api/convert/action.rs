//! The four kinds of action.

use super::enum_value;
use crate::api::pb;
use crate::error::Violations;
use crate::message::{
    self, Action, ContentType, Extras, Media, MediaSource, MediaType, QuickReply, SenderAction, Template,
    Text,
};

/// Reads what is sent. `at` is the path of the message that holds the action's field, with its final dot, and
/// empty for a unary request. `None` with at least one violation if it cannot be sent.
pub fn action(action: Option<pb::action::Kind>, at: &str, violations: &mut Violations) -> Option<Action> {
    use pb::action::Kind;

    let before = violations.len();
    let action = match action {
        None => {
            violations.add(
                at.trim_end_matches('.'),
                "is required: set one of text, media, sender_action, template",
            );
            None
        }
        Some(Kind::Text(text)) => text_action(text, &format!("{at}text"), violations),
        Some(Kind::Media(media)) => media_action(media, &format!("{at}media"), violations),
        Some(Kind::SenderAction(sender_action)) => {
            sender_action_of(sender_action, &format!("{at}sender_action"), violations)
                .map(Action::SenderAction)
        }
        Some(Kind::Template(template)) => template_action(template, &format!("{at}template"), violations),
    };
    action.filter(|_| violations.len() == before)
}

fn text_action(text: pb::TextMessage, field: &str, violations: &mut Violations) -> Option<Action> {
    let extras = extras(text.extras, field, violations);
    let text = Text::new(text.text, &format!("{field}.text"), violations)?;
    Some(Action::Text { text, extras })
}

fn media_action(media: pb::MediaMessage, field: &str, violations: &mut Violations) -> Option<Action> {
    use pb::media_message::{Source, Type};

    let extras = extras(media.extras, field, violations);
    let type_field = format!("{field}.type");
    let media_type =
        enum_value(media.r#type, &type_field, violations).and_then(|media_type| match media_type {
            Type::Image => Some(MediaType::Image),
            Type::Audio => Some(MediaType::Audio),
            Type::Video => Some(MediaType::Video),
            Type::File => Some(MediaType::File),
            Type::Unspecified => {
                violations.add(&type_field, "is required: IMAGE, AUDIO, VIDEO or FILE");
                None
            }
        });
    let source = match media.source {
        Some(Source::Url(url)) => {
            message::check_http_url(&url, &format!("{field}.url"), violations);
            Some(MediaSource::Url { url, is_reusable: media.is_reusable })
        }
        Some(Source::AttachmentId(attachment_id)) => {
            if attachment_id.is_empty() {
                violations.add(format!("{field}.attachment_id"), "must not be empty");
            }
            if media.is_reusable == Some(true) {
                violations
                    .add(format!("{field}.is_reusable"), "goes with url only: Meta holds this media already");
            }
            Some(MediaSource::AttachmentId(attachment_id))
        }
        None => {
            violations.add(field, "needs a source: set url or attachment_id");
            None
        }
    };
    Some(Action::Media { media: Media { media_type: media_type?, source: source? }, extras })
}

fn sender_action_of(
    action: pb::SenderAction,
    field: &str,
    violations: &mut Violations,
) -> Option<SenderAction> {
    use pb::sender_action::Type;

    let field = format!("{field}.type");
    match enum_value(action.r#type, &field, violations)? {
        Type::TypingOn => Some(SenderAction::TypingOn),
        Type::TypingOff => Some(SenderAction::TypingOff),
        Type::MarkSeen => Some(SenderAction::MarkSeen),
        Type::Unspecified => {
            violations.add(field, "is required: TYPING_ON, TYPING_OFF or MARK_SEEN");
            None
        }
    }
}

fn template_action(
    template: pb::TemplateMessage,
    field: &str,
    violations: &mut Violations,
) -> Option<Action> {
    use pb::template_message::Content;

    let extras = extras(template.extras, field, violations);
    let (json, name) = match template.content {
        Some(Content::PayloadJson(json)) => (json, "payload_json"),
        Some(Content::Payload(payload)) => (super::json::object_text(&payload), "payload"),
        None => {
            violations.add(field, "needs content: set payload_json or payload");
            return None;
        }
    };
    let template = Template::new(json, &format!("{field}.{name}"), violations)?;
    Some(Action::Template { template, extras })
}

fn extras(extras: Option<pb::MessageExtras>, field: &str, violations: &mut Violations) -> Extras {
    let pb::MessageExtras { quick_replies, quick_reply_arrays, metadata, reply_to_message_id } =
        extras.unwrap_or_default();
    let field = format!("{field}.extras");
    message::check_metadata(&metadata, &format!("{field}.metadata"), violations);
    let quick_replies = match quick_reply_arrays {
        None => quick_reply_list(quick_replies, &format!("{field}.quick_replies"), violations),
        Some(arrays) => {
            if !quick_replies.is_empty() {
                violations
                    .add(format!("{field}.quick_reply_arrays"), "excludes quick_replies: set one of them");
            }
            quick_reply_arrays_of(arrays, &format!("{field}.quick_reply_arrays"), violations)
        }
    };
    Extras { quick_replies, metadata, reply_to_message_id }
}

fn quick_reply_list(list: Vec<pb::QuickReply>, field: &str, violations: &mut Violations) -> Vec<QuickReply> {
    use pb::quick_reply::ContentType as Pb;

    message::check_quick_reply_count(list.len(), field, violations);
    let mut quick_replies = Vec::with_capacity(list.len());
    for (index, reply) in list.into_iter().enumerate() {
        let field = format!("{field}[{index}]");
        let type_field = format!("{field}.content_type");
        let content_type = match enum_value(reply.content_type, &type_field, violations) {
            Some(Pb::Text) => ContentType::Text,
            Some(Pb::UserPhoneNumber) => ContentType::UserPhoneNumber,
            Some(Pb::UserEmail) => ContentType::UserEmail,
            Some(Pb::Location) => ContentType::Location,
            Some(Pb::Unspecified) => {
                violations.add(type_field, "is required: TEXT, USER_PHONE_NUMBER, USER_EMAIL or LOCATION");
                continue;
            }
            None => continue,
        };
        let pb::QuickReply { content_type: _, title, payload, image_url } = reply;
        let quick_reply = QuickReply { content_type, title, payload, image_url };
        quick_reply.check(&field, violations);
        quick_replies.push(quick_reply);
    }
    quick_replies
}

/// Zips parallel arrays. Every one that is not empty has the same length.
fn quick_reply_arrays_of(
    arrays: pb::QuickReplyArrays,
    field: &str,
    violations: &mut Violations,
) -> Vec<QuickReply> {
    let pb::QuickReplyArrays { content_types, titles, payloads, image_urls } = arrays;
    let count = content_types.len();
    message::check_quick_reply_count(count, field, violations);
    for (name, array) in [("titles", &titles), ("payloads", &payloads), ("image_urls", &image_urls)] {
        if !array.is_empty() && array.len() != count {
            violations.add(
                format!("{field}.{name}"),
                format!("must be empty or as long as content_types ({count}), has {}", array.len()),
            );
        }
    }
    let mut quick_replies = Vec::with_capacity(count);
    let (mut titles, mut payloads, mut image_urls) =
        (titles.into_iter(), payloads.into_iter(), image_urls.into_iter());
    for (index, name) in content_types.iter().enumerate() {
        let (title, payload, image_url) = (titles.next(), payloads.next(), image_urls.next());
        let Some(content_type) = ContentType::from_name(name) else {
            violations.add(
                format!("{field}.content_types[{index}]"),
                "must be text, user_phone_number, user_email or location",
            );
            continue;
        };
        let quick_reply = QuickReply {
            content_type,
            title: title.unwrap_or_default(),
            payload: payload.unwrap_or_default(),
            image_url: image_url.unwrap_or_default(),
        };
        quick_reply.check(&format!("{field}[{index}]"), violations);
        quick_replies.push(quick_reply);
    }
    quick_replies
}
