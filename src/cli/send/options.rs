//! The options of `send`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;

use crate::cli::connection::ConnectOptions;
use crate::cli::kinds::{MediaType, SenderAction};
use crate::cli::message_options::MessageOptions;

/// Recipients whose names cannot be given. (That the names require --to-phone would not do: clap forgives a missing
/// option that a present one excludes.)
const NOT_BY_PHONE: [&str; 4] = ["to", "to_user_ref", "to_comment", "to_post"];

/// Options of `send`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What is sent.
    #[command(subcommand)]
    pub message: Message,
}

/// What is sent
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Message {
    /// A text
    Text(TextOptions),
    /// An image, sound, video or file
    Media(MediaOptions),
    /// A sender action: typing on or off, mark seen
    Action(ActionOptions),
    /// A template: buttons, carousels, receipts and so on
    Template(TemplateOptions),
}

/// Options of `send text`.
#[derive(Clone, Debug, clap::Args)]
pub struct TextOptions {
    /// The text, at most 2000 characters; `-` reads it from standard input
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    pub text: String,
    #[command(flatten)]
    pub extras: ExtrasOptions,
    #[command(flatten)]
    pub common: CommonOptions,
}

/// Options of `send media`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub struct MediaOptions {
    /// Kind of media
    #[arg(long = "type", env = "CONNECTOR_TYPE", value_enum, value_name = "TYPE", ignore_case = true)]
    pub media_type: MediaType,
    /// Address that Meta fetches the media from
    #[arg(long, env = "CONNECTOR_URL", value_name = "URL", group = "source")]
    pub url: Option<String>,
    /// Media that Meta already holds for the page
    #[arg(long, env = "CONNECTOR_ATTACHMENT_ID", value_name = "ID", group = "source")]
    pub attachment_id: Option<String>,
    /// Ask Meta to keep the media; the receipt then has an attachment_id for later messages
    #[arg(long, env = "CONNECTOR_REUSABLE", value_parser = BoolishValueParser::new(),
          conflicts_with = "attachment_id")]
    pub reusable: bool,
    #[command(flatten)]
    pub extras: ExtrasOptions,
    #[command(flatten)]
    pub common: CommonOptions,
}

/// Options of `send action`.
#[derive(Clone, Debug, clap::Args)]
pub struct ActionOptions {
    /// The sender action
    #[arg(value_enum, value_name = "ACTION", ignore_case = true)]
    pub action: SenderAction,
    #[command(flatten)]
    pub common: CommonOptions,
}

/// Options of `send template`.
#[derive(Clone, Debug, clap::Args)]
pub struct TemplateOptions {
    /// File with the template payload: a JSON object with a template_type; `-` reads standard input
    #[arg(long, env = "CONNECTOR_PAYLOAD_FILE", value_name = "FILE")]
    pub payload_file: PathBuf,
    #[command(flatten)]
    pub extras: ExtrasOptions,
    #[command(flatten)]
    pub common: CommonOptions,
}

/// What goes beside the content of a message.
#[derive(Clone, Debug, clap::Args)]
pub struct ExtrasOptions {
    /// A button above the composer; repeat it for up to 13
    #[arg(long = "quick-reply", env = "CONNECTOR_QUICK_REPLY", value_name = "TITLE=PAYLOAD",
          value_parser = assignment)]
    pub quick_replies: Vec<(String, String)>,
    /// Text for the page's webhook that nobody is shown, at most 1000 characters
    #[arg(long, env = "CONNECTOR_METADATA", value_name = "TEXT")]
    pub metadata: Option<String>,
    /// Message of the conversation that this one answers
    #[arg(long, env = "CONNECTOR_REPLY_TO", value_name = "MESSAGE_ID")]
    pub reply_to: Option<String>,
}

/// Who gets the message, how it is sent, and how the call is made.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonOptions {
    #[command(flatten)]
    pub recipient: RecipientOptions,
    /// Given name, with --to-phone; helps Meta match the person
    #[arg(long, env = "CONNECTOR_FIRST_NAME", value_name = "NAME", conflicts_with_all = NOT_BY_PHONE)]
    pub first_name: Option<String>,
    /// Family name, with --to-phone
    #[arg(long, env = "CONNECTOR_LAST_NAME", value_name = "NAME", conflicts_with_all = NOT_BY_PHONE)]
    pub last_name: Option<String>,
    #[command(flatten)]
    pub message: MessageOptions,
    /// A template variable; repeat it for more. With a variable or a file of them, the texts are templates
    #[arg(long = "var", env = "CONNECTOR_VAR", value_name = "NAME=VALUE", value_parser = assignment)]
    pub variables: Vec<(String, String)>,
    /// File with a JSON object of template variables; --var goes before it
    #[arg(long, env = "CONNECTOR_VARS_FILE", value_name = "FILE")]
    pub vars_file: Option<PathBuf>,
    /// Idempotency key: the same id is never sent twice
    #[arg(long, env = "CONNECTOR_REQUEST_ID", value_name = "ID")]
    pub request_id: Option<String>,
    /// Send nothing; print the Graph call that would be made
    #[arg(long, env = "CONNECTOR_VALIDATE_ONLY", value_parser = BoolishValueParser::new())]
    pub validate_only: bool,
    /// How long the service may take, waiting for the page's rate included
    #[arg(long, env = "CONNECTOR_TIMEOUT_MS", value_name = "MS", default_value_t = 120_000)]
    pub timeout_ms: u64,
    /// Print JSON, errors too
    #[arg(long, env = "CONNECTOR_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    pub connect: ConnectOptions,
}

/// Who gets the message.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
#[command(next_help_heading = "Recipient")]
pub struct RecipientOptions {
    /// Recipient by page-scoped id (PSID)
    #[arg(long, env = "CONNECTOR_TO", value_name = "ID")]
    pub to: Option<String>,
    /// Recipient by phone number with country code
    #[arg(long, env = "CONNECTOR_TO_PHONE", value_name = "NUMBER")]
    pub to_phone: Option<String>,
    /// Recipient by the user_ref of the checkbox plugin
    #[arg(long, env = "CONNECTOR_TO_USER_REF", value_name = "USER_REF")]
    pub to_user_ref: Option<String>,
    /// Answer this comment in private
    #[arg(long, env = "CONNECTOR_TO_COMMENT", value_name = "ID")]
    pub to_comment: Option<String>,
    /// Answer this visitor's post in private
    #[arg(long, env = "CONNECTOR_TO_POST", value_name = "ID")]
    pub to_post: Option<String>,
}

/// `NAME=VALUE`, split at the first `=`; the name must not be empty.
fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("must have a name, '=' and a value".to_owned()),
    }
}
