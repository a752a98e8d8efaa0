//! The options that `send` and `bulk` share, and the files they name.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use clap::builder::BoolishValueParser;

use super::kinds::{MessagingType, NotificationType};
use messenger_connector_client::v1;

/// How a message is sent, whatever its kind.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Message")]
pub struct MessageOptions {
    /// Page that sends; may be left out if exactly one is configured
    #[arg(long, env = "CONNECTOR_PAGE_ID", value_name = "ID")]
    pub page_id: Option<String>,

    /// Why the message may be sent; Meta wants it with every text, media or template
    #[arg(long, env = "CONNECTOR_MESSAGING_TYPE", value_enum, value_name = "TYPE", ignore_case = true)]
    pub messaging_type: Option<MessagingType>,

    /// Tag by Meta's name, with --messaging-type message-tag: HUMAN_AGENT, CUSTOMER_FEEDBACK
    #[arg(long, env = "CONNECTOR_TAG", value_name = "NAME")]
    pub tag: Option<String>,

    /// How the recipient's device announces the message [default: Graph's, which is regular]
    #[arg(long, env = "CONNECTOR_NOTIFICATION_TYPE", value_enum, value_name = "TYPE", ignore_case = true)]
    pub notification_type: Option<NotificationType>,

    /// Send in the name of this persona of the page
    #[arg(long, env = "CONNECTOR_PERSONA_ID", value_name = "ID")]
    pub persona_id: Option<String>,

    /// Refuse a message whose template names a variable that is not given, instead of rendering nothing for it
    #[arg(long, env = "CONNECTOR_STRICT_VARIABLES", value_parser = BoolishValueParser::new())]
    pub strict_variables: bool,
}

impl MessageOptions {
    /// As the contract has them.
    pub(super) fn send_options(&self) -> v1::SendOptions {
        v1::SendOptions {
            messaging_type: self.messaging_type.map_or(v1::MessagingType::Unspecified, Into::into).into(),
            tag: v1::MessageTag::Unspecified.into(),
            tag_name: self.tag.clone().unwrap_or_default(),
            notification_type: self
                .notification_type
                .map_or(v1::NotificationType::Unspecified, Into::into)
                .into(),
            persona_id: self.persona_id.clone().unwrap_or_default(),
            strict_variables: self.strict_variables,
        }
    }
}

/// The text of a file, or of standard input if its name is `-`.
///
/// # Errors
/// If it cannot be read, or is not UTF-8.
pub(super) fn read_text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
