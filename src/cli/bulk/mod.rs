//! `bulk`: an audience through a running service.
//!
//! `options` are made into a `plan`: an `audience` to read, a start frame, a `results` file. `run` sends the rows through
//! the client, and writes one line per row. It tells its `progress` to whoever wants to show it: `terminal` does.
//! `summary` says how it ended.
//!
//! `record` is the other half: what the service has on record of a bulk.

mod audience;
mod options;
mod plan;
mod preview;
mod progress;
mod record;
mod results;
mod run;
mod summary;
mod terminal;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use messenger_connector_client::MessengerClient;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use audience::{Audience, Rows};
pub use options::{
    ActionOptions, AudienceOptions, BulkOptions, Options, Record, ResultsOptions, RunOptions, SendOptions,
    StatusOptions,
};
pub(super) use plan::Plan;
use progress::Progress;
pub(super) use results::ResultsFile;
pub(super) use summary::Finished;

use super::shutdown;

/// How long to try for a service that accepts the bulk.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Rows that are read ahead.
const ROWS_READ_AHEAD_MAX: usize = 1000;

/// What `bulk --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  audience.csv:
    recipient,first_name
    1254477777772919,Ann
    1254477777772920,Bob

  What would be sent to the first two:
    messenger-connector bulk audience.csv --text 'Hello {{first_name}}' --messaging-type update --preview 2

  Send it, then look at what was not sent:
    messenger-connector bulk audience.csv --text 'Hello {{first_name}}' --messaging-type update \\
        --bulk-id spring-sale
    grep -v ',SENT,' audience.csv.results.csv

  Go on after Ctrl-C, a crash, or a service that was away for too long (--bulk-id only if there was one):
    messenger-connector bulk audience.csv --text 'Hello {{first_name}}' --messaging-type update \\
        --bulk-id spring-sale --overwrite

  What the service has on record, then the ones of which nobody knows:
    messenger-connector bulk status spring-sale
    messenger-connector bulk results spring-sale --state unknown

  Rows from another program:
    make-rows | messenger-connector bulk - --format ndjson --template-file offer.json --messaging-type update

Columns other than the recipient and the item id are template variables: strings in CSV, any JSON value in NDJSON.
An audience without such columns is sent literally. (In NDJSON the first row decides whether a row without
variables is literal.)

Results file: line,item_id,state,message_id,attempts,replayed,reason,graph_code,graph_subcode,retryable,error.
  SENT         Graph accepted the message
  REJECTED     it is invalid; nothing was sent
  FAILED       Graph refused it
  UNKNOWN      it may have been sent; nobody can know
  NOT_SENT     nothing was sent; sending it again is safe
  INVALID_ROW  the row cannot be understood; nothing was sent
  NO_RESULT    no result came before the end; it may have been sent
A row that is not in the file was not sent.

A stream that ends early (a deploy, the network) is opened again, and the rows without a result are sent again.

A bulk resumes when the same command runs again, with a results file that is new or written anew (--overwrite): what is
on the service's record is not sent again, it comes from the record. Without --bulk-id, a bulk is the same if the
message and every byte of FILE are the same; so the same message to the same FILE is sent once, until the record is
too old (7 days by default). To send it once more on purpose, name another bulk: --bulk-id spring-sale-again. A FILE
that is mended between the runs, and rows from standard input, resume under the --bulk-id that the first run told. Rows
are told apart by their item ids; without a column of them, by their lines, which must then not change. (A row that has
changed is REJECTED.)

Messages left UNKNOWN are not sent again, unless somebody decides so: each run with --on-unknown resend is one such
decision, for what earlier runs left unknown. A FILE called results or status is ./results or ./status.

Ctrl-C takes no more rows and waits for the results of what was sent; a second one leaves at once. Without a
connection the first one ends it.
The exit code is 0 if every row was sent, 1 if not, 2 for a wrong option, 130 after a second Ctrl-C.";

/// Sends the audience, shows the progress, and says how it ended.
///
/// # Errors
/// If an option or a file is wrong, the service cannot be reached, or the results cannot be written.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    match options.record {
        Some(Record::Results(options)) => record::results(options).await,
        Some(Record::Status(options)) => record::status(options).await,
        None => {
            let file = options.file.context("name the audience: messenger-connector bulk FILE")?;
            send_audience(&file, options.send).await
        }
    }
}

async fn send_audience(file: &Path, options: SendOptions) -> anyhow::Result<ExitCode> {
    let mut plan = options.plan(file)?;
    if let Some(count) = options.run.preview {
        let kind = plan.start.action.clone().and_then(|action| action.kind).context("there is no message")?;
        // Opened first: an audience that cannot be used is told before a service that is not there.
        plan.audience.open()?;
        return preview::run(&options.connect.client()?, &plan, &kind, count).await;
    }
    plan.results.check(&plan.audience.source)?;
    let rows = plan.audience.open()?;
    plan.name_by_content()?;
    let client = options.connect.client()?;
    let finished = send(&client, &plan, rows, shutdown::on_signal()?).await?;
    let service = options.connect.shown();
    eprint!("{}{}", finished.text(&plan.results.path), finished.advice(&plan, &service));
    Ok(if finished.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a plan, showing its progress on standard error.
///
/// # Errors
/// If the audience or the results cannot be opened or written.
pub(super) async fn send_plan(
    client: &MessengerClient,
    plan: &Plan,
    stop: CancellationToken,
) -> anyhow::Result<Finished> {
    send(client, plan, plan.audience.open()?, stop).await
}

async fn send(
    client: &MessengerClient,
    plan: &Plan,
    rows: Rows,
    stop: CancellationToken,
) -> anyhow::Result<Finished> {
    let (progress, watched) = watch::channel(Progress::default());
    let counted = progress.clone();
    let audience = plan.audience.clone();
    start_thread("count rows", move || count(&audience, &counted))?;
    let ended = CancellationToken::new();
    let shown = tokio::spawn(terminal::show(watched.clone(), ended.clone()));
    let started = Instant::now();
    let client = client.with_timeout(START_TIMEOUT).with_reconnect_timeout(plan.reconnect_timeout);
    let report = run::run(&client, plan, read(rows)?, &progress, stop).await;
    let elapsed = started.elapsed();
    ended.cancel();
    shown.await?;
    let progress = watched.borrow().clone();
    Ok(Finished { report: report?, progress, elapsed })
}

/// Reads rows in a thread of its own: reading blocks, and standard input may block for ever.
fn read(rows: Rows) -> anyhow::Result<run::RowReceiver> {
    let (sender, receiver) = mpsc::channel(ROWS_READ_AHEAD_MAX);
    start_thread("read rows", move || {
        for row in rows {
            let is_last = row.is_err();
            if sender.blocking_send(row).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Counts the rows, so that the progress has an end. Whoever reads them reports what is wrong with them.
fn count(audience: &Audience, progress: &watch::Sender<Progress>) {
    if let Ok(Some(total)) = audience.count() {
        progress.send_modify(|progress| progress.total = Some(total));
    }
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(())
}
