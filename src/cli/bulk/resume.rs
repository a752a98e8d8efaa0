//! Keeps a bulk going over the ends of its streams: opens it again under its name, and sends what has no result yet.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::account::{Account, RowReceiver};
use super::backoff::{Backoff, IN_PROGRESS_WAIT_MAX, WAIT_MAX};
use super::progress::Progress;
use super::results::ResultsFile;
use super::stream::{self, Opened};
use super::summary::{End, Report};
use crate::api::pb;
use crate::cli::connection::Client;
use crate::cli::failure;

/// Sends the rows and writes the results, until all are in, `stop` is cancelled and the results of what was sent are
/// in, or the service takes no more and there is no hope that it will.
///
/// # Errors
/// If the results cannot be written. What was sent until then is in the file, except for the last frame.
pub(super) async fn run(
    mut opener: Opener<'_>,
    rows: RowReceiver,
    results_file: &ResultsFile,
) -> anyhow::Result<Report> {
    let mut opened = match opener.open(None).await {
        Ok(opened) => opened,
        Err(status) => {
            return Ok(Report { bulk_id: String::new(), end: End::Refused(status), audience_error: None });
        }
    };
    let mut account = Account::new(rows, results_file.create()?, opener.progress);
    let end = loop {
        let (settled, since) = (account.settled, Instant::now());
        let end = stream::run(opened, &mut account, &opener.stop).await?;
        let status = match end {
            _ if account.is_complete() => break End::Complete,
            end if opener.stop.is_cancelled() => break end,
            End::Broken(status) | End::Refused(status) => status,
            End::Complete => Status::unavailable("the service ended the stream before the last result"),
        };
        if account.settled > settled || since.elapsed() >= WAIT_MAX {
            opener.backoff.succeeded();
        }
        opened = match opener.open(Some(status)).await {
            Ok(opened) => opened,
            Err(status) => break End::Broken(status),
        };
    };
    account.close()?;
    Ok(Report { bulk_id: opener.start.bulk_id, end, audience_error: account.audience_error })
}

/// Opens the streams of a bulk.
#[derive(Debug)]
pub(super) struct Opener<'a> {
    client: Client,
    start: pb::BulkStart,
    backoff: Backoff,
    progress: &'a watch::Sender<Progress>,
    stop: CancellationToken,
}

impl<'a> Opener<'a> {
    /// For the bulk that `start` opens; gives up after `timeout` without any result.
    pub(super) fn new(
        client: Client,
        start: pb::BulkStart,
        timeout: Duration,
        progress: &'a watch::Sender<Progress>,
        stop: CancellationToken,
    ) -> Self {
        Self { client, start, backoff: Backoff::new(timeout), progress, stop }
    }

    /// Opens a stream; after a `failure` waits first. Tries until there is one.
    ///
    /// # Errors
    /// The last failure, if trying again cannot help, has been tried for long enough, or is not wanted any more.
    async fn open(&mut self, mut failure: Option<Status>) -> Result<Opened, Status> {
        loop {
            if let Some(status) = &failure {
                let wait = self.wait_after(status);
                let (Some(wait), false) = (wait, self.stop.is_cancelled()) else { break };
                self.progress
                    .send_modify(|progress| progress.reconnecting = Some(failure::first_line(status)));
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.stop.cancelled() => break,
                }
            }
            tokio::select! {
                opened = stream::open(&mut self.client, self.start.clone()) => match opened {
                    Ok(opened) => return Ok(self.note(opened)),
                    Err(status) => failure = Some(status),
                },
                () = self.stop.cancelled() => break,
            }
        }
        self.progress.send_modify(|progress| progress.is_stopping |= self.stop.is_cancelled());
        Err(failure.unwrap_or_else(|| Status::cancelled("stopped before the service took the start")))
    }

    /// How long to wait after a stream that ended with this status; `None` if another one would end likewise.
    fn wait_after(&mut self, status: &Status) -> Option<Duration> {
        let error = failure::send_error(status).unwrap_or_default();
        // A status with a cause is none of the service's: the transport made it up.
        let may_pass = status.code() == Code::Unavailable
            || (status.code() == Code::ResourceExhausted && error.retryable)
            || std::error::Error::source(status).is_some();
        let is_in_progress = error.reason() == pb::ErrorReason::RequestInProgress;
        let wait_max = if is_in_progress { IN_PROGRESS_WAIT_MAX } else { WAIT_MAX };
        let asked = error.retry_after.and_then(|asked| Duration::try_from(asked).ok());
        if may_pass { self.backoff.failed(Instant::now(), wait_max, asked) } else { None }
    }

    /// Notes what the service answered, above all the name that it made up for a bulk without one.
    fn note(&mut self, opened: Opened) -> Opened {
        self.start.bulk_id.clone_from(&opened.accepted.bulk_id);
        self.progress.send_modify(|progress| {
            progress.bulk_id.clone_from(&opened.accepted.bulk_id);
            progress.reconnecting = None;
        });
        opened
    }
}
