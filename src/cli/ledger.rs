//! `ledger`: what can be done to a ledger that no service uses.

use std::process::ExitCode;

use super::print;
use crate::ledger;

/// What `ledger --help` ends with.
pub const EXAMPLES: &str = "\
From a file to a database that replicas share, without a message being sent again; stop the service first:

  messenger-connector ledger copy --from sqlite://messenger-connector.db --to postgres://user:password@host/database";

/// Options of `ledger`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Copy all records into another ledger
    ///
    /// No service may use either of them meanwhile. What was not settled becomes unknown. A copy that was broken off can be
    /// made again; records that the target has already must say the same.
    Copy {
        /// Ledger to read: `sqlite://PATH` or `postgres://...`
        #[arg(long, env = "CONNECTOR_LEDGER_FROM", hide_env_values = true, value_name = "URL")]
        from: String,
        /// Ledger to write, which is made if need be
        #[arg(long, env = "CONNECTOR_LEDGER_TO", hide_env_values = true, value_name = "URL")]
        to: String,
    },
}

/// Does it, and says what it came to.
///
/// # Errors
/// If a ledger cannot be used.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Command::Copy { from, to } = options.command;
    let copied = ledger::copy(&from, &to).await?;
    let ledger::Copied { records, known } = copied;
    print(&format!("{records} records copied, {known} were there already\n"))?;
    Ok(ExitCode::SUCCESS)
}
