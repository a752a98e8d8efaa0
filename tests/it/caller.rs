//! A caller that opens its bulk again and again, as the contract says, until every item has its result.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use messenger_connector::api::pb::send_bulk_messages_response::Frame;
use messenger_connector::api::pb::{self, bulk_start::OnUnknown};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use crate::account::Account;
use crate::harness::{Client, find_send_error, frame, items_frame, update};
use crate::random::Random;

/// Pause after a stream that brought nothing: the rest is being sent elsewhere, or nobody listens. It doubles up to a limit.
const PAUSE: Duration = Duration::from_millis(3);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What a caller does that a seed decides.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Items in a frame, at most.
    pub frame_items_max: usize,
    /// Items without a result that it has out at a time.
    pub window: usize,
    /// Streams that it leaves on its own, at most.
    pub cancels: usize,
    pub on_unknown: OnUnknown,
}

pub struct Caller {
    pub account: Arc<Account>,
    /// Where the service is, if it is anywhere.
    pub address: watch::Receiver<Option<String>>,
    pub habits: Habits,
    pub random: Random,
}

/// What became of one stream.
#[derive(Debug, Default)]
struct Visit {
    /// Items sent and not answered, with how often they were sent.
    out: HashMap<String, usize>,
    results: usize,
}

impl Caller {
    /// Returns when every item has a terminal result.
    pub async fn run(mut self) {
        let mut pause = PAUSE;
        while !self.account.is_done() {
            let address = self.address.wait_for(Option::is_some).await.unwrap().clone().unwrap();
            let before = self.account.told().len();
            if let Ok(client) = Client::connect(address).await {
                self.visit(client).await;
            }
            if self.account.told().len() > before {
                pause = PAUSE;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Opens the bulk once.
    async fn visit(&mut self, mut client: Client) {
        let mut items = self.account.pending().into_iter();
        let cancel_after = self.cancel_after(items.len());
        let (frames, requests) = mpsc::unbounded_channel();
        let start = pb::BulkStart {
            bulk_id: self.account.bulk_id.clone(),
            options: Some(update()),
            on_unknown: self.habits.on_unknown.into(),
            run_id: self.account.run_id.clone(),
            ..Default::default()
        };
        frames.send(frame(start)).unwrap();
        let (mut visit, mut frames) = (Visit::default(), Some(frames));
        self.write(&mut items, &mut visit, &mut frames);
        let responses = client.send_bulk_messages(UnboundedReceiverStream::new(requests)).await;
        let mut responses = match responses {
            Ok(responses) => responses.into_inner(),
            Err(end) => return self.left(&visit, &end),
        };
        loop {
            if cancel_after.is_some_and(|results| visit.results >= results) {
                return;
            }
            match self.read(&mut responses, &mut visit).await {
                Ok(true) => self.write(&mut items, &mut visit, &mut frames),
                Ok(false) => return,
                Err(end) => return self.left(&visit, &end),
            }
        }
    }

    /// Results after which it leaves, if it does.
    fn cancel_after(&mut self, items: usize) -> Option<usize> {
        if self.habits.cancels == 0 || self.random.chance(40) {
            return None;
        }
        self.habits.cancels -= 1;
        Some(self.random.below(items.max(1)))
    }

    /// Writes items as far as the window is open, and half-closes after the last one.
    fn write(
        &mut self,
        items: &mut std::vec::IntoIter<pb::BulkItem>,
        visit: &mut Visit,
        frames: &mut Option<mpsc::UnboundedSender<pb::SendBulkMessagesRequest>>,
    ) {
        loop {
            let Some(sender) = frames else { return };
            if items.len() == 0 {
                *frames = None;
                return;
            }
            let room = self.habits.window.saturating_sub(visit.out.values().sum());
            let size = room.min(1 + self.random.below(self.habits.frame_items_max));
            if size == 0 {
                return;
            }
            let batch: Vec<_> = items.by_ref().take(size).collect();
            for item in &batch {
                *visit.out.entry(item.item_id.clone()).or_default() += 1;
            }
            // Fails if the stream has ended, which its answers tell.
            drop(sender.send(items_frame(batch)));
        }
    }

    /// Reads a frame; false after the summary.
    async fn read(
        &self,
        responses: &mut Streaming<pb::SendBulkMessagesResponse>,
        visit: &mut Visit,
    ) -> Result<bool, Status> {
        let Some(response) = responses.message().await? else {
            self.account.violation("a stream ended well without a summary".to_owned());
            return Ok(false);
        };
        match response.frame.unwrap() {
            Frame::Accepted(_) => {}
            Frame::Results(results) => {
                for result in results.results {
                    self.account.note(&result);
                    visit.results += 1;
                    match visit.out.get_mut(&result.item_id) {
                        Some(count) if *count > 1 => *count -= 1,
                        Some(_) => drop(visit.out.remove(&result.item_id)),
                        None => {
                            self.account.violation(format!("{}: more results than items", result.item_id));
                        }
                    }
                }
            }
            Frame::Summary(_) => {
                if !visit.out.is_empty() {
                    self.account.violation(format!("a stream ended well without results of {:?}", visit.out));
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The stream ended early: nobody knows yet what became of what was out, unless it was the service that ended it, after
    /// the results of all that it had read.
    fn left(&self, visit: &Visit, end: &Status) {
        if find_send_error(end).is_none() {
            self.account.note_in_flight(visit.out.keys().cloned());
        }
    }
}
