//! Quick replies: the buttons above the composer (Meta's quick reply page, 2026-06-17).

use std::fmt;

use crate::error::Violations;
use crate::limits::{QUICK_REPLIES_MAX, QUICK_REPLY_PAYLOAD_LENGTH_MAX};

/// What a quick reply asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // one-to-one with the documented ContentType of the contract
pub enum ContentType {
    Text,
    UserPhoneNumber,
    UserEmail,
    Location,
}

impl ContentType {
    /// Meta's name of the content type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::UserPhoneNumber => "user_phone_number",
            Self::UserEmail => "user_email",
            Self::Location => "location",
        }
    }

    /// The content type with this name of Meta's, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Text, Self::UserPhoneNumber, Self::UserEmail, Self::Location]
            .into_iter()
            .find(|content_type| content_type.name().eq_ignore_ascii_case(name))
    }
}

/// One quick reply. Empty strings stand for absent fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuickReply {
    /// What it asks for.
    pub content_type: ContentType,
    /// Caption.
    pub title: String,
    /// Data that a tap sends back.
    pub payload: String,
    /// Image beside the title.
    pub image_url: String,
}

impl QuickReply {
    /// Notes every rule that this quick reply breaks; `field` is its path.
    pub fn check(&self, field: &dyn fmt::Display, violations: &mut Violations) {
        if self.content_type == ContentType::Text {
            if self.title.is_empty() {
                violations.add(format_args!("{field}.title"), "is required with content type text");
            }
            if self.payload.is_empty() {
                violations.add(format_args!("{field}.payload"), "is required with content type text");
            }
        }
        let length = self.payload.chars().count();
        if length > QUICK_REPLY_PAYLOAD_LENGTH_MAX {
            violations.add(
                format_args!("{field}.payload"),
                format!("must not be longer than {QUICK_REPLY_PAYLOAD_LENGTH_MAX} characters, has {length}"),
            );
        }
    }
}

/// Notes a violation of `field` if there are too many quick replies.
pub fn check_count(count: usize, field: &dyn fmt::Display, violations: &mut Violations) {
    if count > QUICK_REPLIES_MAX {
        violations.add(field, format!("must not be more than {QUICK_REPLIES_MAX}, are {count}"));
    }
}
