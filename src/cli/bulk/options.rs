//! The options of `bulk`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;

use super::audience::Format;
use crate::cli::connection::ConnectOptions;
use crate::cli::kinds::{MediaType, OnUnknown, RecipientKind, RecordedState, SenderAction};
use crate::cli::message_options::MessageOptions;

/// Column of the recipients, unless it is named otherwise.
pub(super) const RECIPIENT_COLUMN_DEFAULT: &str = "recipient";

/// Options of `bulk`: an audience to send, or what is on record of one.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Options {
    #[command(subcommand)]
    pub(super) record: Option<Record>,
    /// The audience: a CSV or NDJSON file; `-` reads standard input. With item ids made from lines it must not change
    /// between the runs of one bulk
    #[arg(value_name = "FILE", required = true)]
    pub(super) file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) send: SendOptions,
}

/// What is on the service's record of a bulk
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Record {
    /// List the recorded results of a bulk, in the order of their item ids
    Results(ResultsOptions),
    /// Print how many items of a bulk were sent, failed and are unknown
    Status(StatusOptions),
}

/// Options of `bulk FILE`.
#[derive(Clone, Debug, clap::Args)]
pub struct SendOptions {
    #[command(flatten)]
    pub(super) audience: AudienceOptions,
    #[command(flatten)]
    pub(super) action: ActionOptions,
    #[command(flatten)]
    pub(super) message: MessageOptions,
    #[command(flatten)]
    pub(super) run: RunOptions,
    #[command(flatten)]
    pub(super) connect: ConnectOptions,
}

/// How the audience is read.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Audience")]
pub struct AudienceOptions {
    /// How the audience is written [default: what its extension says: .csv, .ndjson, .jsonl]
    #[arg(long, env = "CONNECTOR_FORMAT", value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Column (or JSON key) of the recipients
    #[arg(long, env = "CONNECTOR_RECIPIENT_COLUMN", value_name = "NAME",
          default_value = RECIPIENT_COLUMN_DEFAULT)]
    pub recipient_column: String,
    /// What the recipients are
    #[arg(long, env = "CONNECTOR_RECIPIENT_KIND", value_enum, value_name = "KIND", ignore_case = true,
          default_value_t = RecipientKind::Id)]
    pub recipient_kind: RecipientKind,
    /// Column of the item ids, unique within the bulk [default: item_id if there is such a column; else ids are
    /// line-2, line-3 and so on]
    #[arg(long, env = "CONNECTOR_ITEM_ID_COLUMN", value_name = "NAME")]
    pub item_id_column: Option<String>,
}

/// The message: exactly one of these.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Message")]
#[command(group = clap::ArgGroup::new("content").required(true))]
#[group(skip)]
pub struct ActionOptions {
    /// A text, at most 2000 characters
    #[arg(long, env = "CONNECTOR_TEXT", value_name = "TEXT", group = "content")]
    pub text: Option<String>,
    /// File with the text
    #[arg(long, env = "CONNECTOR_TEXT_FILE", value_name = "FILE", group = "content")]
    pub text_file: Option<PathBuf>,
    /// File with a template payload: a JSON object with a template_type
    #[arg(long, env = "CONNECTOR_TEMPLATE_FILE", value_name = "FILE", group = "content")]
    pub template_file: Option<PathBuf>,
    /// Address that Meta fetches media from; needs --media-type
    #[arg(long, env = "CONNECTOR_MEDIA_URL", value_name = "URL", requires = "media_type", group = "content")]
    pub media_url: Option<String>,
    /// Media that Meta already holds for the page; needs --media-type
    #[arg(
        long,
        env = "CONNECTOR_ATTACHMENT_ID",
        value_name = "ID",
        requires = "media_type",
        group = "content"
    )]
    pub attachment_id: Option<String>,
    /// A sender action in place of a message
    #[arg(
        long,
        env = "CONNECTOR_SENDER_ACTION",
        value_enum,
        value_name = "ACTION",
        ignore_case = true,
        group = "content"
    )]
    pub sender_action: Option<SenderAction>,
    /// Kind of media, with --media-url or --attachment-id
    #[arg(long, env = "CONNECTOR_MEDIA_TYPE", value_enum, value_name = "TYPE", ignore_case = true,
          conflicts_with_all = ["text", "text_file", "template_file", "sender_action"])]
    pub media_type: Option<MediaType>,
    /// Text for the page's webhook that nobody is shown, at most 1000 characters
    #[arg(long, env = "CONNECTOR_METADATA", value_name = "TEXT", conflicts_with = "sender_action")]
    pub metadata: Option<String>,
}

/// How the bulk runs.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Bulk")]
pub struct RunOptions {
    /// Name of the bulk; opened again under its name, it resumes [default: made of the message and the content of FILE,
    /// so that the same command resumes; a new one for standard input]
    #[arg(long, env = "CONNECTOR_BULK_ID", value_name = "ID")]
    pub bulk_id: Option<String>,
    /// How long to try for a new connection, without any result, after one that ended early; 0 tries none
    #[arg(long, env = "CONNECTOR_RECONNECT_TIMEOUT_S", value_name = "SECONDS", default_value_t = 300)]
    pub reconnect_timeout_s: u32,
    /// What to do with messages that earlier runs left unknown; what this run leaves unknown itself is not sent again
    #[arg(long, env = "CONNECTOR_ON_UNKNOWN", value_enum, value_name = "WHAT",
          default_value_t = OnUnknown::Report)]
    pub on_unknown: OnUnknown,
    /// Messages not sent after this many seconds are not sent any more [default: no limit]
    #[arg(long, env = "CONNECTOR_EXPIRE_IN_S", value_name = "SECONDS")]
    pub expire_in_s: Option<u32>,
    /// File for the results [default: FILE.results.csv, or bulk.results.csv for standard input]
    #[arg(long, env = "CONNECTOR_RESULTS", value_name = "FILE")]
    pub results: Option<PathBuf>,
    /// Overwrite the results file if it is there
    #[arg(long, env = "CONNECTOR_OVERWRITE", value_parser = BoolishValueParser::new())]
    pub overwrite: bool,
    /// Send nothing; print the Graph calls of the first N rows
    #[arg(long, env = "CONNECTOR_PREVIEW", value_name = "N")]
    pub preview: Option<usize>,
}

/// Options of `bulk results`.
#[derive(Clone, Debug, clap::Args)]
pub struct ResultsOptions {
    /// Only results in this state
    #[arg(long, env = "CONNECTOR_STATE", value_enum, value_name = "STATE", ignore_case = true)]
    pub(super) state: Option<RecordedState>,
    /// A new file for the list [default: standard output]
    #[arg(short, long, env = "CONNECTOR_OUTPUT", value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Print a JSON object per line instead of CSV
    #[arg(long, env = "CONNECTOR_JSON", value_parser = BoolishValueParser::new())]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) bulk: BulkOptions,
}

/// Options of `bulk status`.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusOptions {
    /// Print JSON, errors too
    #[arg(long, env = "CONNECTOR_JSON", value_parser = BoolishValueParser::new())]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) bulk: BulkOptions,
}

/// Which bulk, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct BulkOptions {
    /// Name of the bulk
    #[arg(value_name = "BULK_ID")]
    pub(super) bulk_id: String,
    /// Page that sent it; may be left out if exactly one is configured
    #[arg(long, env = "CONNECTOR_PAGE_ID", value_name = "ID")]
    pub(super) page_id: Option<String>,
    #[command(flatten)]
    pub(super) connect: ConnectOptions,
}
