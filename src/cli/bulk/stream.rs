//! One stream as its client sees it: rows in, results out. Knows nothing of terminals, nor of other streams.
//!
//! One loop owns the stream: it writes frames while there is room, and reads results all the time. In memory are
//! only the items that have no result yet, at most as many as the service said it holds.

use std::collections::VecDeque;

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::account::Account;
use super::summary::End;
use super::unsettled::put_off;
use crate::api::pb;
use crate::api::pb::send_bulk_messages_request::Frame;
use crate::api::pb::send_bulk_messages_response::Frame as Answer;
use crate::api::status;
use crate::cli::connection::Client;
use crate::cli::failure;
use crate::error::{Reason, SendError};

/// Items that one frame carries at most.
const ITEMS_PER_FRAME_MAX: usize = 500;
/// Bytes of items after which a frame is full; one item may go past it.
const FRAME_BYTES_MAX: usize = 512 * 1024;
/// Frames that may wait for the transport.
const FRAMES_WAITING_MAX: usize = 1;

type Frames = mpsc::Sender<pb::SendBulkMessagesRequest>;

/// A stream whose start the service has taken.
#[derive(Debug)]
pub(super) struct Opened {
    frames: Frames,
    answers: Streaming<pb::SendBulkMessagesResponse>,
    pub(super) accepted: pb::BulkAccepted,
}

/// Opens a stream and waits until the service has taken the start.
///
/// # Errors
/// The status that it ends with instead.
pub(super) async fn open(client: &mut Client, start: pb::BulkStart) -> Result<Opened, Status> {
    let (frames, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
    let start = pb::SendBulkMessagesRequest { frame: Some(Frame::Start(Box::new(start))) };
    // The receiver is alive and the channel empty: this cannot fail.
    drop(frames.send(start).await);
    let mut answers = client.send_bulk_messages(ReceiverStream::new(receiver)).await?.into_inner();
    match answers.message().await?.and_then(|answer| answer.frame) {
        Some(Answer::Accepted(accepted)) => Ok(Opened { frames, answers, accepted }),
        Some(Answer::Results(_) | Answer::Summary(_)) | None => {
            let message = "the service did not answer the start with accepted";
            Err(status::status(SendError::new(Reason::Internal, message)))
        }
    }
}

/// Sends what earlier streams left unsettled and then further rows, and settles what is answered, until the service
/// ends the stream. After `stop` no more is sent, and what was sent is waited for.
///
/// # Errors
/// If the results cannot be written. What was sent until then is in the file, except for the last frame.
pub(super) async fn run(
    opened: Opened,
    account: &mut Account<'_>,
    stop: &CancellationToken,
) -> anyhow::Result<End> {
    let Opened { frames, answers, accepted } = opened;
    let mut stream = Stream {
        frames: Some(frames),
        framed: VecDeque::new(),
        again: account.unsettled.lines(),
        in_flight: 0,
        in_flight_max: usize::try_from(accepted.max_in_flight).unwrap_or(1).max(1),
        put_off: None,
        in_progress: None,
        account,
    };
    stream.pump(answers, stop).await
}

#[derive(Debug)]
struct Stream<'a, 'b> {
    account: &'a mut Account<'b>,
    /// `None` after the half-close.
    frames: Option<Frames>,
    /// Waiting for the transport.
    framed: VecDeque<Vec<pb::BulkItem>>,
    /// Lines that earlier streams left; they go before further rows.
    again: VecDeque<u64>,
    /// Items of this stream without a result.
    in_flight: usize,
    in_flight_max: usize,
    /// Why rows were put off to a later stream. This one then takes no more.
    put_off: Option<pb::SendError>,
    /// That rows were put off because they are in progress, which does not concern the others.
    in_progress: Option<pb::SendError>,
}

impl Stream<'_, '_> {
    async fn pump(
        &mut self,
        mut answers: Streaming<pb::SendBulkMessagesResponse>,
        stop: &CancellationToken,
    ) -> anyhow::Result<End> {
        let (mut is_open, mut is_stopped) = (true, false);
        let mut read = Vec::with_capacity(ITEMS_PER_FRAME_MAX);
        loop {
            let has_all = self.again.is_empty() && self.account.has_ended;
            is_open &= self.put_off.is_none() && !has_all && !self.is_idle();
            if is_open && self.framed.is_empty() {
                let room = self.room(self.in_flight);
                let lines: Vec<u64> = self.again.drain(..room.min(self.again.len())).collect();
                self.frame(lines);
            }
            // Rows that were put off are held, too.
            let room = self.room(self.account.unsettled.len());
            if !is_open && self.framed.is_empty() {
                self.frames = None;
            }
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => match answer.frame {
                        Some(Answer::Results(results)) => self.settle(results.results)?,
                        Some(Answer::Summary(_)) => return Ok(self.complete()),
                        // A later server may send frames that this client does not know.
                        Some(Answer::Accepted(_)) | None => {}
                    },
                    Ok(None) => return Ok(self.broken(Status::unavailable("the stream ended without a summary"))),
                    Err(status) => return Ok(self.broken(status)),
                },
                _ = self.account.rows.recv_many(&mut read, room),
                    if is_open && room > 0 && self.framed.is_empty() && !self.account.has_ended =>
                {
                    let lines = self.account.take(read.drain(..))?;
                    self.frame(lines);
                }
                is_sent = hand_over(self.frames.as_ref(), &mut self.framed), if !self.framed.is_empty() => {
                    // The transport takes no more: the answers tell why.
                    if !is_sent {
                        self.framed.clear();
                        is_open = false;
                    }
                }
                () = stop.cancelled(), if !is_stopped => {
                    (is_open, is_stopped) = (false, true);
                    self.account.stop();
                }
            }
        }
    }

    /// How many more rows there may be if there are so many, for one frame.
    fn room(&self, count: usize) -> usize {
        self.in_flight_max.saturating_sub(count).min(ITEMS_PER_FRAME_MAX)
    }

    /// True if nothing but rows in progress is there: only another stream can bring their results.
    fn is_idle(&self) -> bool {
        let has_none = self.room(self.account.unsettled.len()) == 0 || self.account.rows.is_empty();
        self.in_progress.is_some() && self.in_flight == 0 && self.again.is_empty() && has_none
    }

    /// Puts the items of these lines into frames.
    fn frame(&mut self, lines: Vec<u64>) {
        let (mut frame, mut frame_bytes) = (Vec::new(), 0);
        for line in lines {
            let Some(item) = self.account.unsettled.item_to_send(line) else { continue };
            self.in_flight += 1;
            frame_bytes += item.encoded_len();
            frame.push(item);
            if frame_bytes >= FRAME_BYTES_MAX {
                self.framed.push_back(std::mem::take(&mut frame));
                frame_bytes = 0;
            }
        }
        if !frame.is_empty() {
            self.framed.push_back(frame);
        }
    }

    /// Writes final results to the file; the others are for a later stream.
    fn settle(&mut self, results: Vec<pb::ItemResult>) -> anyhow::Result<()> {
        for result in results {
            let is_awaited = match put_off(&result) {
                None => self.account.settle(&result)?,
                Some(error) => {
                    let is_in_progress = error.reason() == pb::ErrorReason::RequestInProgress;
                    let why = if is_in_progress { &mut self.in_progress } else { &mut self.put_off };
                    *why = Some(error.clone());
                    self.account.unsettled.put_off(&result.item_id, error.clone())
                }
            };
            self.in_flight -= usize::from(is_awaited && self.in_flight > 0);
        }
        self.account.flush()
    }

    /// How a stream ended whose service has said its last word.
    fn complete(&mut self) -> End {
        self.account.unsettled.stream_ended(None);
        match self.put_off.take().or(self.in_progress.take()) {
            Some(error) => End::Broken(failure::unavailable(&error)),
            None => End::Complete,
        }
    }

    /// How a stream ended otherwise.
    fn broken(&mut self, status: Status) -> End {
        let end = End::Broken(status);
        self.account.unsettled.stream_ended(end.draining().as_ref());
        end
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
