//! The bulk stream as its client sees it: rows in, results out. Knows nothing of terminals.
//!
//! One loop owns the stream: it writes frames while there is room, and reads results all the time. In memory are
//! only the items that have no result yet, at most as many as the service said it holds.

use std::collections::{HashMap, VecDeque};

use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::audience::Row;
use super::progress::Progress;
use super::results::{Results, ResultsFile};
use super::summary::{End, Report};
use crate::api::pb;
use crate::api::pb::send_bulk_messages_request::Frame;
use crate::api::pb::send_bulk_messages_response::Frame as Answer;
use crate::api::status;
use crate::cli::connection::Client;
use crate::error::{Reason, SendError};

/// Items that one frame carries at most.
const ITEMS_PER_FRAME_MAX: usize = 500;
/// Bytes of items after which a frame is full; one item may go past it.
const FRAME_BYTES_MAX: usize = 512 * 1024;
/// Frames that may wait for the transport.
const FRAMES_WAITING_MAX: usize = 1;

#[cfg(test)]
mod tests;

type Frames = mpsc::Sender<pb::SendBulkMessagesRequest>;

/// Rows as they are read; an error is the last one.
pub(super) type RowReceiver = mpsc::Receiver<anyhow::Result<Row>>;

/// Sends the rows and writes the results, until all are in, the stream ends, or `stop` is cancelled and the
/// results of what was sent are in.
///
/// # Errors
/// If the results cannot be written. What was sent until then is in the file, except for the last frame.
pub(super) async fn run(
    client: &mut Client,
    start: pb::BulkStart,
    rows: RowReceiver,
    results_file: &ResultsFile,
    progress: &watch::Sender<Progress>,
    stop: CancellationToken,
) -> anyhow::Result<Report> {
    let (frames, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
    let start = pb::SendBulkMessagesRequest { frame: Some(Frame::Start(Box::new(start))) };
    // The receiver is alive and the channel empty: this cannot fail.
    drop(frames.send(start).await);
    let (mut answers, accepted) = match open(client, receiver).await {
        Ok(opened) => opened,
        Err(status) => {
            return Ok(Report { bulk_id: String::new(), end: End::Refused(status), audience_error: None });
        }
    };
    let mut stream = Stream {
        rows,
        frames: Some(frames),
        framed: VecDeque::new(),
        lines: HashMap::new(),
        in_flight: 0,
        in_flight_max: usize::try_from(accepted.max_in_flight).unwrap_or(1).max(1),
        results: results_file.create()?,
        progress,
        audience_error: None,
    };
    let end = stream.pump(&mut answers, stop).await?;
    stream.note_rows_without_result(&end)?;
    Ok(Report { bulk_id: accepted.bulk_id, end, audience_error: stream.audience_error })
}

/// Opens the stream and waits until the service has taken the start.
async fn open(
    client: &mut Client,
    frames: mpsc::Receiver<pb::SendBulkMessagesRequest>,
) -> Result<(Streaming<pb::SendBulkMessagesResponse>, pb::BulkAccepted), Status> {
    let mut answers = client.send_bulk_messages(ReceiverStream::new(frames)).await?.into_inner();
    match answers.message().await?.and_then(|answer| answer.frame) {
        Some(Answer::Accepted(accepted)) => Ok((answers, accepted)),
        Some(Answer::Results(_) | Answer::Summary(_)) | None => {
            let message = "the service did not answer the start with accepted";
            Err(status::status(SendError::new(Reason::Internal, message)))
        }
    }
}

#[derive(Debug)]
struct Stream<'a> {
    rows: RowReceiver,
    /// `None` after the half-close.
    frames: Option<Frames>,
    /// Waiting for the transport.
    framed: VecDeque<Vec<pb::BulkItem>>,
    /// Lines of the items without a result; several if several rows have one id.
    lines: HashMap<String, VecDeque<u64>>,
    /// How many lines these are.
    in_flight: usize,
    in_flight_max: usize,
    results: Results,
    progress: &'a watch::Sender<Progress>,
    audience_error: Option<anyhow::Error>,
}

impl Stream<'_> {
    async fn pump(
        &mut self,
        answers: &mut Streaming<pb::SendBulkMessagesResponse>,
        stop: CancellationToken,
    ) -> anyhow::Result<End> {
        let mut is_open = true;
        let mut read = Vec::with_capacity(ITEMS_PER_FRAME_MAX);
        loop {
            if !is_open && self.framed.is_empty() {
                self.frames = None;
            }
            let room = self.in_flight_max.saturating_sub(self.in_flight).min(ITEMS_PER_FRAME_MAX);
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => match answer.frame {
                        Some(Answer::Results(results)) => self.settle(&results.results)?,
                        Some(Answer::Summary(_)) => return Ok(End::Complete),
                        // A later server may send frames that this client does not know.
                        Some(Answer::Accepted(_)) | None => {}
                    },
                    Ok(None) => return Ok(End::Broken(None)),
                    Err(status) => return Ok(End::Broken(Some(status))),
                },
                count = self.rows.recv_many(&mut read, room),
                    if is_open && room > 0 && self.framed.is_empty() =>
                {
                    is_open = count > 0 && self.take(read.drain(..))?;
                }
                is_sent = hand_over(self.frames.as_ref(), &mut self.framed), if !self.framed.is_empty() => {
                    // The transport takes no more: the answers tell why.
                    if !is_sent {
                        self.framed.clear();
                        is_open = false;
                    }
                }
                () = stop.cancelled(), if is_open => {
                    is_open = false;
                    self.rows.close();
                    self.progress.send_modify(|progress| progress.is_stopping = true);
                }
            }
        }
    }

    /// Puts rows into frames; a bad row is a result at once. False if the audience ended with an error.
    fn take(&mut self, rows: impl Iterator<Item = anyhow::Result<Row>>) -> anyhow::Result<bool> {
        let (mut count, mut bad_rows) = (0, Vec::new());
        let (mut frame, mut frame_bytes) = (Vec::new(), 0);
        for row in rows {
            let Row { line, item } = match row {
                Ok(row) => row,
                Err(error) => {
                    self.audience_error = Some(error);
                    break;
                }
            };
            count += 1;
            match item {
                Ok(item) => {
                    self.lines.entry(item.item_id.clone()).or_default().push_back(line);
                    self.in_flight += 1;
                    frame_bytes += item.encoded_len();
                    frame.push(item);
                    if frame_bytes >= FRAME_BYTES_MAX {
                        self.framed.push_back(std::mem::take(&mut frame));
                        frame_bytes = 0;
                    }
                }
                Err(problem) => {
                    self.results.invalid_row(line, &problem)?;
                    bad_rows.push((line, problem));
                }
            }
        }
        if !frame.is_empty() {
            self.framed.push_back(frame);
        }
        self.progress.send_modify(|progress| {
            progress.rows += count;
            for (line, problem) in &bad_rows {
                progress.note_bad_row(*line, problem);
            }
        });
        Ok(self.audience_error.is_none())
    }

    /// Writes results to the file.
    fn settle(&mut self, results: &[pb::ItemResult]) -> anyhow::Result<()> {
        for result in results {
            let line = self.lines.get_mut(&result.item_id).and_then(VecDeque::pop_front);
            // A result for what was never sent would be the service's bug; the row is then counted by its own.
            let Some(line) = line else { continue };
            if self.lines.get(&result.item_id).is_some_and(VecDeque::is_empty) {
                self.lines.remove(&result.item_id);
            }
            self.in_flight -= 1;
            self.results.result(line, result)?;
            self.progress.send_modify(|progress| progress.note_result(result));
        }
        self.results.flush()
    }

    /// Writes the rows that were taken and have no result, so that nobody takes them for settled.
    fn note_rows_without_result(&mut self, end: &End) -> anyhow::Result<()> {
        let mut left: Vec<(u64, String)> = Vec::with_capacity(self.in_flight);
        for (item_id, lines) in self.lines.drain() {
            left.extend(lines.into_iter().map(|line| (line, item_id.clone())));
        }
        left.sort_unstable();
        let draining = end.draining();
        for (line, item_id) in left {
            match &draining {
                // A service that drains gives every item that it read a result first: it never read this one.
                Some(error) => {
                    let outcome = Some(pb::item_result::Outcome::Error(error.clone()));
                    let result = pb::ItemResult { item_id, state: pb::ItemState::NotSent.into(), outcome };
                    self.results.result(line, &result)?;
                    self.progress.send_modify(|progress| progress.note_result(&result));
                }
                None => self.results.no_result(line, &item_id)?,
            }
        }
        self.results.flush()
    }
}

/// Hands the first frame to the transport, when it takes one. False if it takes none any more. Cancelling it
/// loses nothing.
async fn hand_over(frames: Option<&Frames>, framed: &mut VecDeque<Vec<pb::BulkItem>>) -> bool {
    let Some(Ok(permit)) = (match frames {
        Some(frames) => Some(frames.reserve().await),
        None => None,
    }) else {
        return false;
    };
    if let Some(items) = framed.pop_front() {
        permit.send(pb::SendBulkMessagesRequest { frame: Some(Frame::Items(pb::BulkItems { items })) });
    }
    true
}
