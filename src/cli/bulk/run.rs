//! Sends the rows of an audience, and writes one line for each into the results file. The client does the rest: it keeps
//! the bulk going over the ends of its streams.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use messenger_connector_client::{BulkEvent, Fate, MessengerClient, stream, v1};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::audience::Row;
use super::plan::Plan;
use super::progress::Progress;
use super::results::{Results, ResultsFile};
use super::summary::{End, Report};
use crate::cli::failure;

/// Rows as they are read; an error is the last one.
pub(super) type RowReceiver = mpsc::Receiver<anyhow::Result<Row>>;

/// Sends the rows and writes the results, until all are in, `stop` is cancelled and the results of what was sent are
/// in, or the service takes no more and there is no hope that it will.
///
/// # Errors
/// If the results cannot be written. What was sent until then is in the file, except for what came last.
pub(super) async fn run(
    client: &MessengerClient,
    plan: &Plan,
    rows: RowReceiver,
    progress: &watch::Sender<Progress>,
    stop: CancellationToken,
) -> anyhow::Result<Report> {
    let account = Mutex::new(Account::new(rows, &plan.results, progress));
    let items = stream::poll_fn(|context| lock(&account).poll_item(context));
    let mut bulk = client.send_bulk(plan.start.clone(), items);
    let (mut was_accepted, mut is_stopping) = (false, false);
    let end = loop {
        let event = match bulk.next_event().now_or_never() {
            Some(event) => event,
            None => {
                lock(&account).flush()?;
                tokio::select! {
                    event = bulk.next_event() => event,
                    () = stop.cancelled(), if !is_stopping => {
                        is_stopping = true;
                        bulk.stop();
                        progress.send_modify(|progress| progress.is_stopping = true);
                        continue;
                    }
                }
            }
        };
        match event {
            Some(Ok(event)) => {
                if matches!(event, BulkEvent::Opened) && !was_accepted {
                    was_accepted = true;
                    progress.send_modify(|progress| bulk.bulk_id().clone_into(&mut progress.bulk_id));
                }
                lock(&account).note(event)?;
            }
            Some(Err(error)) if was_accepted => break End::Broken(error),
            Some(Err(error)) => break End::Refused(error),
            None => break End::Complete,
        }
    };
    let bulk_id = if was_accepted { bulk.bulk_id().to_owned() } else { String::new() };
    let mut account = lock(&account);
    account.flush()?;
    Ok(Report { bulk_id, end, audience_error: account.audience_error.take() })
}

/// The rows that were taken, and their lines in the results file.
struct Account<'a> {
    rows: RowReceiver,
    /// Lines of the rows that wait for their results, by the place of the row among those that were sent.
    lines: BTreeMap<u64, u64>,
    /// Rows that were sent: the place of the next one.
    sent: u64,
    results_file: &'a ResultsFile,
    /// `None` until the service has accepted the bulk.
    results: Option<Results>,
    /// Why they cannot be written.
    results_error: Option<anyhow::Error>,
    audience_error: Option<anyhow::Error>,
    progress: &'a watch::Sender<Progress>,
}

impl<'a> Account<'a> {
    fn new(rows: RowReceiver, results_file: &'a ResultsFile, progress: &'a watch::Sender<Progress>) -> Self {
        Self {
            rows,
            lines: BTreeMap::new(),
            sent: 0,
            results_file,
            results: None,
            results_error: None,
            audience_error: None,
            progress,
        }
    }

    /// The item of the next row. A bad row gets its line in the results at once.
    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<v1::BulkItem>> {
        while let Some(row) = ready!(self.rows.poll_recv(context)) {
            let Row { line, item } = match row {
                Ok(row) => row,
                Err(error) => {
                    self.audience_error = Some(error);
                    break;
                }
            };
            self.progress.send_modify(|progress| progress.rows += 1);
            match item {
                Ok(item) => {
                    self.lines.insert(self.sent, line);
                    self.sent += 1;
                    return Poll::Ready(Some(item));
                }
                Err(problem) => {
                    self.progress.send_modify(|progress| progress.note_bad_row(line, &problem));
                    let written =
                        self.results.as_mut().map_or(Ok(()), |results| results.invalid_row(line, &problem));
                    if let Err(error) = written {
                        self.results_error = Some(error);
                        break;
                    }
                }
            }
        }
        Poll::Ready(None)
    }

    fn note(&mut self, event: BulkEvent) -> anyhow::Result<()> {
        match event {
            BulkEvent::Opened => {
                if self.results.is_none() {
                    self.results = Some(self.results_file.create()?);
                }
                self.progress.send_modify(|progress| progress.reconnecting = None);
            }
            BulkEvent::Interrupted(error) => {
                let reason = failure::first_line(&error);
                self.progress.send_modify(|progress| progress.reconnecting = Some(reason));
            }
            BulkEvent::Settled { index, result } => self.write(index, &result)?,
            BulkEvent::GivenUp { index, item_id, fate } => self.give_up(index, item_id, fate)?,
            // A later client may tell more.
            _ => {}
        }
        self.results_error.take().map_or(Ok(()), Err)
    }

    /// Writes a row that will have no result, so that nobody takes it for settled.
    fn give_up(&mut self, index: u64, item_id: String, fate: Fate) -> anyhow::Result<()> {
        match fate {
            Fate::NotSent(error) => {
                let outcome = Some(v1::item_result::Outcome::Error(*error));
                let state = v1::ItemState::NotSent.into();
                self.write(index, &v1::ItemResult { item_id, state, outcome })
            }
            Fate::InDoubt => match (self.lines.remove(&index), &mut self.results) {
                (Some(line), Some(results)) => results.no_result(line, &item_id),
                (Some(_) | None, _) => Ok(()),
            },
        }
    }

    fn write(&mut self, index: u64, result: &v1::ItemResult) -> anyhow::Result<()> {
        if let (Some(line), Some(results)) = (self.lines.remove(&index), &mut self.results) {
            results.result(line, result)?;
            self.progress.send_modify(|progress| progress.note_result(result));
        }
        Ok(())
    }

    /// Hands what was written to the operating system.
    fn flush(&mut self) -> anyhow::Result<()> {
        self.results.as_mut().map_or(Ok(()), Results::flush)?;
        self.results_error.take().map_or(Ok(()), Err)
    }
}

/// One task alone uses the account: nobody ever waits for it.
fn lock<'a, 'b>(account: &'a Mutex<Account<'b>>) -> MutexGuard<'a, Account<'b>> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}
