//! The message that the options of `send` say.

use std::time::Duration;

use anyhow::{Context, bail};
use prost_types::Struct;

use super::options::{CommonOptions, ExtrasOptions, MediaOptions, Message, Options, RecipientOptions};
use crate::cli::message_options::read_text;
use crate::cli::unary::UnaryMessage;
use crate::cli::value;
use messenger_connector_client::v1;
use messenger_connector_client::v1::action::Kind;

impl Options {
    /// The message, and the options that are not part of it.
    ///
    /// # Errors
    /// If a file that an option names cannot be used.
    pub(super) fn into_message(self) -> anyhow::Result<(CommonOptions, UnaryMessage)> {
        let (kind, common) = match self.message {
            Message::Text(options) => {
                let text = if options.text == "-" {
                    read_text("-".as_ref())?.trim_end_matches(['\r', '\n']).to_owned()
                } else {
                    options.text
                };
                (Kind::Text(v1::TextMessage { text, extras: options.extras.extras() }), options.common)
            }
            Message::Media(options) => (Kind::Media(options.media()), options.common),
            Message::Action(options) => {
                let action = v1::sender_action::Type::from(options.action);
                (Kind::SenderAction(v1::SenderAction { r#type: action.into() }), options.common)
            }
            Message::Template(options) => {
                let payload_json = read_text(&options.payload_file)?;
                let content = Some(v1::template_message::Content::PayloadJson(payload_json));
                let extras = options.extras.extras();
                (Kind::Template(v1::TemplateMessage { content, extras }), options.common)
            }
        };
        let message = UnaryMessage {
            request_id: common.request_id.clone().unwrap_or_default(),
            page_id: common.message.page_id.clone().unwrap_or_default(),
            recipient: common.recipient(),
            options: common.message.send_options(),
            kind,
            template_variables: common.template_variables()?,
            validate_only: common.validate_only,
            timeout: Duration::from_millis(common.timeout_ms),
        };
        Ok((common, message))
    }
}

impl MediaOptions {
    fn media(&self) -> v1::MediaMessage {
        use v1::media_message::Source;

        let url = self.url.clone().map(Source::Url);
        v1::MediaMessage {
            r#type: v1::media_message::Type::from(self.media_type).into(),
            source: url.or_else(|| self.attachment_id.clone().map(Source::AttachmentId)),
            is_reusable: self.reusable.then_some(true),
            extras: self.extras.extras(),
        }
    }
}

impl ExtrasOptions {
    fn extras(&self) -> Option<v1::MessageExtras> {
        let quick_replies = self.quick_replies.iter().map(|(title, payload)| v1::QuickReply {
            content_type: v1::quick_reply::ContentType::Text.into(),
            title: title.clone(),
            payload: payload.clone(),
            image_url: String::new(),
        });
        let extras = v1::MessageExtras {
            quick_replies: quick_replies.collect(),
            metadata: self.metadata.clone().unwrap_or_default(),
            reply_to_message_id: self.reply_to.clone().unwrap_or_default(),
            ..v1::MessageExtras::default()
        };
        (extras != v1::MessageExtras::default()).then_some(extras)
    }
}

impl CommonOptions {
    fn recipient(&self) -> v1::Recipient {
        use v1::recipient::Identifier;

        let RecipientOptions { to, to_phone, to_user_ref, to_comment, to_post } = self.recipient.clone();
        let phone = to_phone.map(|phone_number| {
            Identifier::Phone(v1::PhoneRecipient {
                phone_number,
                first_name: self.first_name.clone().unwrap_or_default(),
                last_name: self.last_name.clone().unwrap_or_default(),
            })
        });
        let identifier = to
            .map(Identifier::Id)
            .or(phone)
            .or(to_user_ref.map(Identifier::UserRef))
            .or(to_comment.map(Identifier::CommentId))
            .or(to_post.map(Identifier::PostId));
        v1::Recipient { identifier }
    }

    /// Set if there is a variable or a file of them, even an empty one.
    fn template_variables(&self) -> anyhow::Result<Option<Struct>> {
        let mut variables = match &self.vars_file {
            None if self.variables.is_empty() => return Ok(None),
            None => Struct::default(),
            Some(path) => {
                let text = read_text(path)?;
                let place = || format!("--vars-file {}", path.display());
                let serde_json::Value::Object(object) = serde_json::from_str(&text).with_context(place)?
                else {
                    bail!("{}: must be a JSON object", place());
                };
                value::to_struct(object).with_context(place)?
            }
        };
        for (name, text) in &self.variables {
            variables.fields.insert(name.clone(), value::string(text.clone()));
        }
        Ok(Some(variables))
    }
}
