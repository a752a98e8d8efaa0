//! Recipient and options.

use std::fmt;

use super::enum_value;
use crate::api::pb;
use crate::error::Violations;
use crate::limits::RECIPIENT_LENGTH_MAX;
use crate::message::{MessagingType, NotificationType, Options, Recipient};

/// Reads who gets a message. `field` is the recipient's path.
pub fn recipient(
    recipient: Option<pb::Recipient>,
    field: &dyn fmt::Display,
    violations: &mut Violations,
) -> Option<Recipient> {
    use pb::recipient::Identifier;

    let Some(identifier) = recipient.and_then(|recipient| recipient.identifier) else {
        violations.add(field, "is required: set one of id, phone, user_ref, comment_id, post_id");
        return None;
    };
    let mut checked = |value: &str, name: &str| {
        let length = value.chars().count();
        if length == 0 {
            violations.add(format_args!("{field}.{name}"), "must not be empty");
        } else if length > RECIPIENT_LENGTH_MAX {
            let limit = RECIPIENT_LENGTH_MAX;
            violations
                .add(format_args!("{field}.{name}"), format!("must not be longer than {limit} characters"));
        }
        (1..=RECIPIENT_LENGTH_MAX).contains(&length)
    };
    match identifier {
        Identifier::Id(id) => checked(&id, "id").then_some(Recipient::Id(id)),
        Identifier::UserRef(user_ref) => {
            checked(&user_ref, "user_ref").then_some(Recipient::UserRef(user_ref))
        }
        Identifier::CommentId(id) => checked(&id, "comment_id").then_some(Recipient::CommentId(id)),
        Identifier::PostId(id) => checked(&id, "post_id").then_some(Recipient::PostId(id)),
        Identifier::Phone(pb::PhoneRecipient { phone_number, first_name, last_name }) => {
            if !checked(&phone_number, "phone.phone_number") {
                return None;
            }
            let is_phone_character = |c: char| c.is_ascii_digit() || "+-(). ".contains(c);
            if !phone_number.chars().all(is_phone_character)
                || !phone_number.contains(|c: char| c.is_ascii_digit())
            {
                violations.add(
                    format_args!("{field}.phone.phone_number"),
                    "must be digits with country code, such as 16505551212 or +1(212)555-2368",
                );
                return None;
            }
            Some(Recipient::Phone { phone_number, first_name, last_name })
        }
    }
}

/// Reads how a message is sent. `field` is the path of the options. Whether a messaging type is required
/// depends on the action: [`crate::message::check_together`].
pub fn options(
    options: Option<pb::SendOptions>,
    field: &dyn fmt::Display,
    violations: &mut Violations,
) -> Options {
    let pb::SendOptions { messaging_type, tag, tag_name, notification_type, persona_id, strict_variables: _ } =
        options.unwrap_or_default();
    let tag = enum_value(tag, &format_args!("{field}.tag"), violations).and_then(tag_of);
    if tag.is_some() && !tag_name.is_empty() {
        violations.add(format_args!("{field}.tag_name"), "excludes tag: set one of them");
    }
    let (tag, tag_field) = match tag {
        Some(tag) => (Some(tag.to_owned()), "tag"),
        None if tag_name.is_empty() => (None, "tag"),
        None => (Some(tag_name), "tag_name"),
    };
    let options = Options {
        messaging_type: enum_value(messaging_type, &format_args!("{field}.messaging_type"), violations)
            .and_then(messaging_type_of),
        tag,
        notification_type: enum_value(
            notification_type,
            &format_args!("{field}.notification_type"),
            violations,
        )
        .and_then(notification_type_of),
        persona_id: (!persona_id.is_empty()).then_some(persona_id),
    };
    options.check(field, tag_field, violations);
    options
}

fn messaging_type_of(messaging_type: pb::MessagingType) -> Option<MessagingType> {
    match messaging_type {
        pb::MessagingType::Unspecified => None,
        pb::MessagingType::Response => Some(MessagingType::Response),
        pb::MessagingType::Update => Some(MessagingType::Update),
        pb::MessagingType::MessageTag => Some(MessagingType::MessageTag),
        pb::MessagingType::Utility => Some(MessagingType::Utility),
    }
}

fn notification_type_of(notification_type: pb::NotificationType) -> Option<NotificationType> {
    match notification_type {
        pb::NotificationType::Unspecified => None,
        pb::NotificationType::Regular => Some(NotificationType::Regular),
        pb::NotificationType::SilentPush => Some(NotificationType::SilentPush),
        pb::NotificationType::NoPush => Some(NotificationType::NoPush),
    }
}

fn tag_of(tag: pb::MessageTag) -> Option<&'static str> {
    match tag {
        pb::MessageTag::Unspecified => None,
        pb::MessageTag::HumanAgent => Some("HUMAN_AGENT"),
        pb::MessageTag::CustomerFeedback => Some("CUSTOMER_FEEDBACK"),
        pb::MessageTag::ConfirmedEventUpdate => Some("CONFIRMED_EVENT_UPDATE"),
        pb::MessageTag::PostPurchaseUpdate => Some("POST_PURCHASE_UPDATE"),
        pb::MessageTag::AccountUpdate => Some("ACCOUNT_UPDATE"),
    }
}
