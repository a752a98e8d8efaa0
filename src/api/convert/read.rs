//! Protobuf to a draft: the structure of the four kinds of action.

use std::fmt;

use super::draft::{Content, Draft, MediaSource, Path, QuickReply};
use super::enum_value;
use super::json::JsonTree;
use crate::api::pb;
use crate::error::Violations;
use crate::message::{ContentType, MediaType, SenderAction};

/// Reads an action. `at` is the path of the message that holds the action's field, with its final dot, and empty in a
/// unary request.
pub fn draft(
    action: Option<pb::action::Kind>,
    at: &dyn fmt::Display,
    violations: &mut Violations,
) -> Option<Draft<String>> {
    use pb::action::Kind;

    let (content, extras) = match action {
        None => {
            violations.add(
                at.to_string().trim_end_matches('.'),
                "is required: set one of text, media, sender_action, template",
            );
            return None;
        }
        Some(Kind::Text(text)) => (Some(Content::Text(text.text)), text.extras),
        Some(Kind::Media(media)) => media_content(media, &format_args!("{at}media"), violations),
        Some(Kind::SenderAction(sender_action)) => {
            let sender_action =
                sender_action_of(sender_action, &format_args!("{at}sender_action"), violations);
            (sender_action.map(Content::SenderAction), None)
        }
        Some(Kind::Template(template)) => {
            template_content(template, &format_args!("{at}template"), violations)
        }
    };
    let pb::MessageExtras { quick_replies, quick_reply_arrays, metadata, reply_to_message_id } =
        extras.unwrap_or_default();
    let content = content?;
    let mut path = Path { at: at.to_string().into(), kind: content.kind(), quick_replies: "quick_replies" };
    let quick_replies = match quick_reply_arrays {
        None => quick_reply_list(quick_replies, &path.quick_replies(), violations),
        Some(arrays) => {
            path.quick_replies = "quick_reply_arrays";
            let field = path.quick_replies();
            if !quick_replies.is_empty() {
                violations.add(&field, "excludes quick_replies: set one of them");
            }
            quick_reply_arrays_of(arrays, &field, violations)
        }
    };
    Some(Draft { path, content, quick_replies, metadata, reply_to_message_id })
}

type Parts = (Option<Content<String>>, Option<pb::MessageExtras>);

fn media_content(media: pb::MediaMessage, field: &dyn fmt::Display, violations: &mut Violations) -> Parts {
    use pb::media_message::{Source, Type};

    let type_field = format_args!("{field}.type");
    let media_type =
        enum_value(media.r#type, &type_field, violations).and_then(|media_type| match media_type {
            Type::Image => Some(MediaType::Image),
            Type::Audio => Some(MediaType::Audio),
            Type::Video => Some(MediaType::Video),
            Type::File => Some(MediaType::File),
            Type::Unspecified => {
                violations.add(type_field, "is required: IMAGE, AUDIO, VIDEO or FILE");
                None
            }
        });
    let source = match media.source {
        Some(Source::Url(url)) => Some(MediaSource::Url { url, is_reusable: media.is_reusable }),
        Some(Source::AttachmentId(attachment_id)) => {
            if attachment_id.is_empty() {
                violations.add(format_args!("{field}.attachment_id"), "must not be empty");
            }
            if media.is_reusable == Some(true) {
                violations.add(
                    format_args!("{field}.is_reusable"),
                    "goes with url only: Meta holds this media already",
                );
            }
            Some(MediaSource::AttachmentId(attachment_id))
        }
        None => {
            violations.add(field, "needs a source: set url or attachment_id");
            None
        }
    };
    let content = media_type.zip(source).map(|(media_type, source)| Content::Media { media_type, source });
    (content, media.extras)
}

fn sender_action_of(
    action: pb::SenderAction,
    field: &dyn fmt::Display,
    violations: &mut Violations,
) -> Option<SenderAction> {
    use pb::sender_action::Type;

    let field = format_args!("{field}.type");
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

fn template_content(
    template: pb::TemplateMessage,
    field: &dyn fmt::Display,
    violations: &mut Violations,
) -> Parts {
    use pb::template_message::Content as Pb;

    let content = match template.content {
        Some(Pb::PayloadJson(json)) => Some(Content::PayloadJson(json)),
        Some(Pb::Payload(payload)) => Some(Content::Payload(JsonTree::new(payload))),
        None => {
            violations.add(field, "needs content: set payload_json or payload");
            None
        }
    };
    (content, template.extras)
}

fn quick_reply_list(
    list: Vec<pb::QuickReply>,
    field: &dyn fmt::Display,
    violations: &mut Violations,
) -> Vec<QuickReply<String>> {
    use pb::quick_reply::ContentType as Pb;

    let mut quick_replies = Vec::with_capacity(list.len());
    for (index, reply) in list.into_iter().enumerate() {
        let type_field = format_args!("{field}[{index}].content_type");
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
        quick_replies.push(QuickReply { content_type, title, payload, image_url });
    }
    quick_replies
}

/// Zips parallel arrays. Every one that is not empty has the same length.
fn quick_reply_arrays_of(
    arrays: pb::QuickReplyArrays,
    field: &dyn fmt::Display,
    violations: &mut Violations,
) -> Vec<QuickReply<String>> {
    let pb::QuickReplyArrays { content_types, titles, payloads, image_urls } = arrays;
    let count = content_types.len();
    for (name, array) in [("titles", &titles), ("payloads", &payloads), ("image_urls", &image_urls)] {
        if !array.is_empty() && array.len() != count {
            violations.add(
                format_args!("{field}.{name}"),
                format!("must be empty or as long as content_types ({count}), has {}", array.len()),
            );
        }
    }
    let mut list = Vec::with_capacity(count);
    let (mut titles, mut payloads, mut image_urls) =
        (titles.into_iter(), payloads.into_iter(), image_urls.into_iter());
    for (index, name) in content_types.iter().enumerate() {
        let (title, payload, image_url) = (titles.next(), payloads.next(), image_urls.next());
        let Some(content_type) = ContentType::from_name(name) else {
            violations.add(
                format_args!("{field}.content_types[{index}]"),
                "must be text, user_phone_number, user_email or location",
            );
            continue;
        };
        list.push(QuickReply {
            content_type,
            title: title.unwrap_or_default(),
            payload: payload.unwrap_or_default(),
            image_url: image_url.unwrap_or_default(),
        });
    }
    list
}
