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
    /// Path of the action's fields, up to and including the last dot; empty in a unary request.
    pub(super) at: Arc<str>,
    pub(super) content: Content<S>,
    pub(super) quick_replies: QuickReplies<S>,
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

/// Quick replies, and the name of the field that they came from.
#[derive(Debug)]
pub(super) struct QuickReplies<S> {
    pub(super) field: &'static str,
    pub(super) list: Vec<QuickReply<S>>,
}

#[derive(Debug)]
pub(super) struct QuickReply<S> {
    pub(super) content_type: ContentType,
    pub(super) title: S,
    pub(super) payload: S,
    pub(super) image_url: String,
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
    /// Name of the action's own field.
    fn kind(&self) -> &'static str {
        match self.content {
            Content::Text(_) => "text",
            Content::Media { .. } => "media",
            Content::SenderAction(_) => "sender_action",
            Content::PayloadJson(_) | Content::Payload(_) => "template",
        }
    }

    /// Path of the action's own field.
    pub(super) fn field(&self) -> String {
        format!("{}{}", self.at, self.kind())
    }

    /// Path of a field within the action.
    pub(super) fn field_of(&self, leaf: Leaf) -> String {
        let (at, kind, quick_replies) = (&self.at, self.kind(), self.quick_replies.field);
        let within: &dyn fmt::Display = match leaf {
            Leaf::Text => &"text",
            Leaf::Url => &"url",
            Leaf::PayloadJson => &"payload_json",
            Leaf::Payload => &"payload",
            Leaf::Metadata => &"extras.metadata",
            Leaf::QuickReplyTitle(index) => &format!("extras.{quick_replies}[{index}].title"),
            Leaf::QuickReplyPayload(index) => &format!("extras.{quick_replies}[{index}].payload"),
        };
        format!("{at}{kind}.{within}")
    }

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
        let mut list = Vec::with_capacity(self.quick_replies.list.len());
        for (index, quick_reply) in self.quick_replies.list.iter().enumerate() {
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
        let is_whole = list.len() == self.quick_replies.list.len();
        Some(Draft {
            at: self.at.clone(),
            content: content?,
            quick_replies: is_whole.then_some(QuickReplies { field: self.quick_replies.field, list })?,
            metadata: metadata?,
            reply_to_message_id: self.reply_to_message_id.clone(),
        })
    }
}
