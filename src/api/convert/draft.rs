//! An action whose texts are not rendered yet.

use std::fmt;
use std::sync::Arc;

use super::json::JsonTree;
use crate::message::{ContentType, MediaType, SenderAction};
use crate::template::Mode;

/// An action as its caller gave it: its structure has been read, its texts have not been rendered, its rules have not
/// been checked. `S` stands for a text: its source, its compiled template, or what it rendered to.
#[derive(Debug)]
pub struct Draft<S> {
    pub(super) path: Path,
    pub(super) content: Content<S>,
    pub(super) quick_replies: Vec<QuickReply<S>>,
    pub(super) metadata: S,
    pub(super) reply_to_message_id: String,
}

#[derive(Debug)]
pub(super) enum Content<S> {
    Text(S),
    Media { media_type: MediaType, source: MediaSource<S> },
    SenderAction(SenderAction),
    PayloadJson(S),
    Payload(JsonTree<S>),
}

#[derive(Debug)]
pub(super) enum MediaSource<S> {
    Url { url: S, is_reusable: Option<bool> },
    AttachmentId(String),
}

/// Where an action stands. Paths of its fields are written only when a violation needs one.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// Path of the message that holds the action's field, with its final dot; empty in a unary request.
    pub(super) at: Arc<str>,
    /// Name of the action's own field.
    pub(super) kind: &'static str,
    /// Name of the field that the quick replies came from.
    pub(super) quick_replies: &'static str,
}

impl Path {
    /// The action's quick replies.
    pub(super) fn quick_replies(&self) -> impl fmt::Display {
        fmt::from_fn(|f| write!(f, "{}{}.extras.{}", self.at, self.kind, self.quick_replies))
    }

    /// A text within the action.
    pub(super) fn of(&self, leaf: Leaf) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            write!(f, "{}{}.", self.at, self.kind)?;
            match leaf {
                Leaf::Text => f.write_str("text"),
                Leaf::Url => f.write_str("url"),
                Leaf::PayloadJson => f.write_str("payload_json"),
                Leaf::Payload => f.write_str("payload"),
                Leaf::Metadata => f.write_str("extras.metadata"),
                Leaf::QuickReplyTitle(index) => write!(f, "extras.{}[{index}].title", self.quick_replies),
                Leaf::QuickReplyPayload(index) => write!(f, "extras.{}[{index}].payload", self.quick_replies),
            }
        })
    }
}

#[derive(Debug)]
pub(super) struct QuickReply<S> {
    pub(super) content_type: ContentType,
    pub(super) title: S,
    pub(super) payload: S,
    pub(super) image_url: String,
}

impl<S> Content<S> {
    /// Name of the field that holds it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Media { .. } => "media",
            Self::SenderAction(_) => "sender_action",
            Self::PayloadJson(_) | Self::Payload(_) => "template",
        }
    }
}

/// A text within an action.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leaf {
    Text,
    Url,
    PayloadJson,
    Payload,
    Metadata,
    QuickReplyTitle(usize),
    QuickReplyPayload(usize),
}

impl Leaf {
    /// What its template renders to.
    pub(super) fn mode(self) -> Mode {
        match self {
            Self::PayloadJson => Mode::Json,
            Self::Text
            | Self::Url
            | Self::Payload
            | Self::Metadata
            | Self::QuickReplyTitle(_)
            | Self::QuickReplyPayload(_) => Mode::Text,
        }
    }
}

impl<S> Draft<S> {
    /// The same action with every text replaced. `None` if any text has no replacement; all of them are tried.
    pub(super) fn map<T>(&self, mut replace: impl FnMut(Leaf, &S) -> Option<T>) -> Option<Draft<T>> {
        let content = match &self.content {
            Content::Text(text) => replace(Leaf::Text, text).map(Content::Text),
            Content::Media { media_type, source } => {
                let source = match source {
                    MediaSource::Url { url, is_reusable } => {
                        replace(Leaf::Url, url).map(|url| MediaSource::Url { url, is_reusable: *is_reusable })
                    }
                    MediaSource::AttachmentId(id) => Some(MediaSource::AttachmentId(id.clone())),
                };
                source.map(|source| Content::Media { media_type: *media_type, source })
            }
            Content::SenderAction(sender_action) => Some(Content::SenderAction(*sender_action)),
            Content::PayloadJson(json) => replace(Leaf::PayloadJson, json).map(Content::PayloadJson),
            Content::Payload(tree) => {
                tree.map(&mut |text| replace(Leaf::Payload, text)).map(Content::Payload)
            }
        };
        let metadata = replace(Leaf::Metadata, &self.metadata);
        let mut list = Vec::with_capacity(self.quick_replies.len());
        for (index, quick_reply) in self.quick_replies.iter().enumerate() {
            let title = replace(Leaf::QuickReplyTitle(index), &quick_reply.title);
            let payload = replace(Leaf::QuickReplyPayload(index), &quick_reply.payload);
            if let (Some(title), Some(payload)) = (title, payload) {
                let QuickReply { content_type, image_url, .. } = quick_reply;
                list.push(QuickReply {
                    content_type: *content_type,
                    title,
                    payload,
                    image_url: image_url.clone(),
                });
            }
        }
        let is_whole = list.len() == self.quick_replies.len();
        Some(Draft {
            path: self.path.clone(),
            content: content?,
            quick_replies: is_whole.then_some(list)?,
            metadata: metadata?,
            reply_to_message_id: self.reply_to_message_id.clone(),
        })
    }
}
