//! A draft to an action that may be sent: its texts rendered, its rules checked.

use super::draft::{Content, Draft, Leaf, MediaSource};
use crate::error::Violations;
use crate::message::{self, Action, Extras, Media, QuickReply, Template as TemplatePayload, Text};
use crate::template::{RenderOptions, Template, Variables};

impl Draft<String> {
    /// Compiles every text as a template. An error is a violation that names line and column.
    pub fn compile(&self, violations: &mut Violations) -> Option<Draft<Template>> {
        self.map(|leaf, source| match Template::compile(source, leaf.mode()) {
            Ok(template) => Some(template),
            Err(error) => {
                violations.add(self.path.of(leaf), format!("is not a template: {error}"));
                None
            }
        })
    }

    /// Takes the texts as they are and checks every rule. `quick_replies` come after the draft's own.
    pub fn check(self, quick_replies: Vec<QuickReply>, violations: &mut Violations) -> Option<Action> {
        let before = violations.len();
        let extras = self.extras(quick_replies, violations);
        let path = self.path;
        let action = match self.content {
            Content::Text(text) => {
                Text::new(text, &path.of(Leaf::Text), violations).map(|text| Action::Text { text, extras })
            }
            Content::Media { media_type, source } => {
                let source = match source {
                    MediaSource::Url { url, is_reusable } => {
                        message::check_http_url(&url, &path.of(Leaf::Url), violations);
                        message::MediaSource::Url { url, is_reusable }
                    }
                    MediaSource::AttachmentId(id) => message::MediaSource::AttachmentId(id),
                };
                Some(Action::Media { media: Media { media_type, source }, extras })
            }
            Content::SenderAction(sender_action) => Some(Action::SenderAction(sender_action)),
            Content::PayloadJson(json) => TemplatePayload::new(json, &path.of(Leaf::PayloadJson), violations)
                .map(|template| Action::Template { template, extras }),
            Content::Payload(tree) => {
                TemplatePayload::new(tree.into_text(), &path.of(Leaf::Payload), violations)
                    .map(|template| Action::Template { template, extras })
            }
        };
        action.filter(|_| violations.len() == before)
    }

    fn extras(&self, more: Vec<QuickReply>, violations: &mut Violations) -> Extras {
        message::check_metadata(&self.metadata, &self.path.of(Leaf::Metadata), violations);
        let field = self.path.quick_replies();
        let own = self.quick_replies.iter().map(|quick_reply| QuickReply {
            content_type: quick_reply.content_type,
            title: quick_reply.title.clone(),
            payload: quick_reply.payload.clone(),
            image_url: quick_reply.image_url.clone(),
        });
        let mut quick_replies: Vec<_> = own.collect();
        for (index, quick_reply) in quick_replies.iter().enumerate() {
            quick_reply.check(&format_args!("{field}[{index}]"), violations);
        }
        quick_replies.extend(more);
        message::check_quick_reply_count(quick_replies.len(), &field, violations);
        Extras {
            quick_replies,
            metadata: self.metadata.clone(),
            reply_to_message_id: self.reply_to_message_id.clone(),
        }
    }
}

impl Draft<Template> {
    /// Renders every text, all of them together in no more than so many steps. An error is a violation.
    pub fn render(
        &self,
        variables: &Variables,
        options: &RenderOptions,
        steps: &mut u64,
        violations: &mut Violations,
    ) -> Option<Draft<String>> {
        self.map(|leaf, template| match template.render_within(variables, options, steps) {
            Ok(text) => Some(text),
            Err(error) => {
                violations.add(self.path.of(leaf), error.to_string());
                None
            }
        })
    }

    /// True if no text prints a variable: every rendering is the same.
    pub fn is_constant(&self) -> bool {
        self.map(|_, template| template.is_constant().then_some(())).is_some()
    }
}
