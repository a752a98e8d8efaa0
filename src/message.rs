//! A message that may be sent: every rule about it has been checked by the time it exists.
//!
//! `api/convert` builds these from protobuf, `graph/request.rs` writes them as Graph JSON.

mod json;
mod quick_reply;
mod template;

use std::fmt;
use std::sync::Arc;

pub use quick_reply::{ContentType, QuickReply, check_count as check_quick_reply_count};
pub use template::Template;

use crate::error::Violations;
use crate::limits::{METADATA_LENGTH_MAX, TEXT_LENGTH_MAX};

/// One message, ready to be sent.
#[derive(Clone, Debug)]
pub struct Message {
    /// Who gets it.
    pub recipient: Recipient,
    /// How it is sent. Shared by the items of a bulk.
    pub options: Arc<Options>,
    /// What is sent. Shared by the items of a bulk that render alike.
    pub action: Arc<Action>,
}

/// Who gets a message (Send API reference, `recipient`).
#[derive(Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // one-to-one with the documented Recipient of the contract
pub enum Recipient {
    Id(String),
    Phone { phone_number: String, first_name: String, last_name: String },
    UserRef(String),
    CommentId(String),
    PostId(String),
}

impl fmt::Debug for Recipient {
    /// Recipient ids never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipient(redacted)")
    }
}

/// Why the message may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // one-to-one with the documented MessagingType of the contract
pub enum MessagingType {
    Response,
    Update,
    MessageTag,
    Utility,
}

/// How the recipient's device announces the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // one-to-one with the documented NotificationType of the contract
pub enum NotificationType {
    Regular,
    SilentPush,
    NoPush,
}

/// How a message is sent, whatever its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Why it may be sent; `None` only with a sender action.
    pub messaging_type: Option<MessagingType>,
    /// Meta's name of the tag; set exactly with [`MessagingType::MessageTag`].
    pub tag: Option<String>,
    /// `None` leaves it to Graph, which uses REGULAR.
    pub notification_type: Option<NotificationType>,
    /// The page's persona in whose name it is sent.
    pub persona_id: Option<String>,
}

/// Tags that Meta retired on 2026-04-27 for every API version (Send API reference).
const TAGS_RETIRED_2026: [&str; 3] = ["CONFIRMED_EVENT_UPDATE", "POST_PURCHASE_UPDATE", "ACCOUNT_UPDATE"];

/// Tags that Meta retired on 2020-03-04.
const TAGS_RETIRED_2020: [&str; 16] = [
    "SHIPPING_UPDATE",
    "RESERVATION_UPDATE",
    "ISSUE_RESOLUTION",
    "APPOINTMENT_UPDATE",
    "GAME_EVENT",
    "TRANSPORTATION_UPDATE",
    "FEATURE_FUNCTIONALITY_UPDATE",
    "TICKET_UPDATE",
    "PAYMENT_UPDATE",
    "PERSONAL_FINANCE_UPDATE",
    "APPLICATION_UPDATE",
    "PAIRING_UPDATE",
    "BUSINESS_PRODUCTIVITY",
    "COMMUNITY_ALERT",
    "CONFIRMED_EVENT_REMINDER",
    "NON_PROMOTIONAL_SUBSCRIPTION",
];

/// The tag that Meta accepts with a customer_feedback template only.
const TAG_CUSTOMER_FEEDBACK: &str = "CUSTOMER_FEEDBACK";

impl Options {
    /// Checks that there is a messaging type: all but sender actions need one.
    pub fn require_messaging_type(&self, field: &dyn fmt::Display, violations: &mut Violations) {
        if self.messaging_type.is_none() {
            violations.add(
                format_args!("{field}.messaging_type"),
                "is required: RESPONSE, UPDATE, MESSAGE_TAG or UTILITY",
            );
        }
    }

    /// Checks messaging type and tag against each other. `field` is the path of the options, `tag_field` the
    /// name of the field that the tag came from.
    pub fn check(&self, field: &dyn fmt::Display, tag_field: &str, violations: &mut Violations) {
        let tagged = self.messaging_type == Some(MessagingType::MessageTag);
        match &self.tag {
            None if tagged => violations.add(
                format_args!("{field}.tag"),
                "is required with MESSAGE_TAG: HUMAN_AGENT or CUSTOMER_FEEDBACK",
            ),
            None => {}
            Some(_) if !tagged => violations.add(
                format_args!("{field}.{tag_field}"),
                "goes with messaging_type MESSAGE_TAG only: leave it empty, or set that type",
            ),
            Some(tag) if TAGS_RETIRED_2026.contains(&tag.as_str()) => violations.add(
                format_args!("{field}.{tag_field}"),
                "was retired by Meta on 2026-04-27: send a utility template (messaging_type UTILITY), or \
                 HUMAN_AGENT if a person writes the answer",
            ),
            Some(tag) if TAGS_RETIRED_2020.contains(&tag.as_str()) => violations.add(
                format_args!("{field}.{tag_field}"),
                "was retired by Meta on 2020-03-04: send a utility template (messaging_type UTILITY)",
            ),
            Some(_) => {}
        }
    }
}

/// The rules that span options and action.
pub fn check_together(
    options: &Options,
    action: &Action,
    options_field: &dyn fmt::Display,
    violations: &mut Violations,
) {
    if !matches!(action, Action::SenderAction(_)) {
        options.require_messaging_type(options_field, violations);
    }
    if options.tag.as_deref() == Some(TAG_CUSTOMER_FEEDBACK)
        && !matches!(action, Action::Template { template, .. } if template.kind() == "customer_feedback")
    {
        violations.add(
            format_args!("{options_field}.tag"),
            "CUSTOMER_FEEDBACK goes with a template of type customer_feedback only",
        );
    }
}

/// What is sent: `message` and `sender_action` of one send exclude each other by construction.
#[derive(Clone)]
#[allow(missing_docs)] // one-to-one with the documented Action of the contract
pub enum Action {
    Text { text: Text, extras: Extras },
    Media { media: Media, extras: Extras },
    SenderAction(SenderAction),
    Template { template: Template, extras: Extras },
}

impl fmt::Debug for Action {
    /// Message texts never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text { .. } => "Text(redacted)",
            Self::Media { .. } => "Media(redacted)",
            Self::SenderAction(_) => "SenderAction",
            Self::Template { .. } => "Template(redacted)",
        })
    }
}

impl Action {
    /// Bytes of its texts: about what it takes of memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text { text, extras } => text.0.len() + extras.bytes(),
            Self::Media { media, extras } => {
                let source = match &media.source {
                    MediaSource::Url { url, .. } => url.len(),
                    MediaSource::AttachmentId(id) => id.len(),
                };
                source + extras.bytes()
            }
            Self::SenderAction(_) => 0,
            Self::Template { template, extras } => template.json().len() + extras.bytes(),
        }
    }
}

impl Extras {
    fn bytes(&self) -> usize {
        let of = |reply: &QuickReply| reply.title.len() + reply.payload.len() + reply.image_url.len();
        let quick_replies: usize = self.quick_replies.iter().map(of).sum();
        quick_replies + self.metadata.len() + self.reply_to_message_id.len()
    }
}

/// A text of 1 to [`TEXT_LENGTH_MAX`] characters.
#[derive(Clone)]
pub struct Text(String);

impl Text {
    /// Takes a text that keeps the limits, or notes a violation of `field`.
    pub fn new(text: String, field: &dyn fmt::Display, violations: &mut Violations) -> Option<Self> {
        if text.is_empty() {
            violations.add(field, "must not be empty");
            return None;
        }
        let length = text.chars().count();
        if length > TEXT_LENGTH_MAX {
            violations
                .add(field, format!("must not be longer than {TEXT_LENGTH_MAX} characters, has {length}"));
            return None;
        }
        Some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(redacted)")
    }
}

/// What goes beside the content of a message.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// At most [`crate::limits::QUICK_REPLIES_MAX`].
    pub quick_replies: Vec<QuickReply>,
    /// At most [`METADATA_LENGTH_MAX`] characters; empty for none.
    pub metadata: String,
    /// Message that this one answers; empty for none.
    pub reply_to_message_id: String,
}

/// Notes a violation of `field` if the metadata is too long.
pub fn check_metadata(metadata: &str, field: &dyn fmt::Display, violations: &mut Violations) {
    let length = metadata.chars().count();
    if length > METADATA_LENGTH_MAX {
        violations
            .add(field, format!("must not be longer than {METADATA_LENGTH_MAX} characters, has {length}"));
    }
}

/// Kind of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // one-to-one with the documented MediaMessage.Type of the contract
pub enum MediaType {
    Image,
    Audio,
    Video,
    File,
}

/// Where media comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaSource {
    /// An http or https address that Meta fetches; `is_reusable` asks Meta to keep it.
    Url {
        /// The address.
        url: String,
        /// `None` leaves it out, which Graph reads as false.
        is_reusable: Option<bool>,
    },
    /// Media that Meta already holds for the page.
    AttachmentId(String),
}

/// One image, sound, video or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// What it is.
    pub media_type: MediaType,
    /// Where it comes from.
    pub source: MediaSource,
}

/// Notes a violation of `field` unless `address` is an http or https URL with a host.
pub fn check_http_url(address: &str, field: &dyn fmt::Display, violations: &mut Violations) {
    let valid =
        url::Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !valid {
        violations.add(field, "must be an http or https URL, such as https://example.com/picture.png");
    }
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // one-to-one with the documented SenderAction.Type of the contract
pub enum SenderAction {
    TypingOn,
    TypingOff,
    MarkSeen,
}
