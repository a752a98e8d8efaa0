//! A bulk stream at its service: the real core, and the shell around it in virtual time.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::account::{Entrance, Name, Passage};
use super::plan::ItemPlan;
use super::world::World;
use crate::api::bulk::room::{Room, SharedRoom};
use crate::api::bulk::stream::{Admission, End, StreamCore};
use crate::dispatch::lane::event::Event;
use crate::dispatch::{BulkItemId, Queued, Reply, Source};
use crate::error::Outcome;
use crate::ledger::{Claim, Key, RunId};

/// Result frames that wait for the transport.
const FRAMES_WAITING_MAX: usize = 4;

/// What a caller sends.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    Items(Vec<ItemPlan>),
    HalfClose,
}

/// What a service sends.
#[derive(Clone, Debug)]
pub(super) enum Received {
    Results(Vec<(usize, Outcome)>),
    /// The stream has ended; true if with a summary.
    End(bool),
}

/// One stream of a bulk.
pub(super) struct Stream {
    pub(super) core: StreamCore<std::vec::IntoIter<ItemPlan>>,
    pub(super) caller: usize,
    /// Which of the caller's streams it is.
    pub(super) attempt: u64,
    page: usize,
    number: u64,
    run: Option<RunId>,
    deadline: Option<std::time::Instant>,
    inbox: VecDeque<Sent>,
    /// Frames that the caller has not read.
    pub(super) unread: usize,
    outcome_sender: mpsc::UnboundedSender<(BulkItemId, Outcome)>,
    outcomes: mpsc::UnboundedReceiver<(BulkItemId, Outcome)>,
    /// The service is busy with an item of it.
    is_rendering: bool,
}

/// What a caller opens a stream with.
pub(super) struct Start {
    pub(super) caller: usize,
    pub(super) attempt: u64,
    pub(super) run: Option<RunId>,
}

impl World {
    /// Opens a stream at a replica; returns its number there.
    pub(super) fn open_stream(&mut self, replica: usize, start: Start) -> u64 {
        let plan = &self.bulk_callers[start.caller].plan;
        let (page, window) = (plan.page, plan.window);
        let deadline =
            self.bulk_callers[start.caller].expires_at.map(|at| self.instant() + at.saturating_sub(self.now));
        let (outcome_sender, outcomes) = mpsc::unbounded_channel();
        let replica = &mut self.replicas[replica];
        replica.streams_opened += 1;
        let number = replica.streams_opened;
        let stream = Stream {
            core: StreamCore::new(Room::new(window, SharedRoom::default())),
            caller: start.caller,
            attempt: start.attempt,
            page,
            number,
            run: start.run,
            deadline,
            inbox: VecDeque::new(),
            unread: 0,
            outcome_sender,
            outcomes,
            is_rendering: false,
        };
        replica.streams.insert(number, stream);
        number
    }

    pub(super) fn arrive(&mut self, replica: usize, stream: u64, frame: Sent) {
        if let Some(stream) = self.replicas[replica].streams.get_mut(&stream) {
            stream.inbox.push_back(frame);
        }
        self.pump(replica, stream);
    }

    pub(super) fn pump_all(&mut self, replica: usize) {
        let streams: Vec<u64> = self.replicas[replica].streams.keys().copied().collect();
        for stream in streams {
            self.pump(replica, stream);
        }
    }

    /// Does what a stream can do now, until there is nothing left.
    pub(super) fn pump(&mut self, replica: usize, number: u64) {
        while let Some(stream) = self.replicas[replica].streams.get_mut(&number) {
            while let Ok((item_id, outcome)) = stream.outcomes.try_recv() {
                stream.core.settle(item_id, outcome);
            }
            if stream.core.has_results() && stream.unread >= FRAMES_WAITING_MAX {
                return;
            }
            let results = stream.core.next_results(|_, _| 100);
            if !results.is_empty() {
                let results =
                    results.into_iter().map(|(id, outcome)| (id.parse().unwrap(), outcome)).collect();
                self.deliver(replica, number, Received::Results(results));
                continue;
            }
            if stream.is_rendering {
                return;
            }
            if self.admit(replica, number) {
                continue;
            }
            let Some(stream) = self.replicas[replica].streams.get_mut(&number) else { return };
            if stream.core.wants_frame()
                && let Some(frame) = stream.inbox.pop_front()
            {
                match frame {
                    Sent::Items(items) => stream.core.take_frame(items.into_iter()),
                    Sent::HalfClose => stream.core.half_close(),
                }
                continue;
            }
            if let Some(end) = stream.core.end() {
                self.deliver(replica, number, Received::End(matches!(end, End::Complete(_))));
                self.replicas[replica].streams.remove(&number);
            }
            return;
        }
    }

    /// Takes items as far as there is room; true if there was one.
    fn admit(&mut self, replica: usize, number: u64) -> bool {
        let mut admitted = Vec::new();
        let mut has_taken = false;
        let Some(stream) = self.replicas[replica].streams.get_mut(&number) else { return false };
        let page = stream.page;
        let rendering = self.bulk_callers[stream.caller].plan.rendering;
        while let Some((_, item)) = stream.core.next_item() {
            has_taken = true;
            let item_id: BulkItemId = item.id.to_string().into();
            let fingerprint = [item.is_video.into(); 16];
            if stream.core.admit(item_id.clone(), fingerprint) == Admission::Done {
                continue;
            }
            let key = Key {
                page_id: page.to_string().into(),
                bulk_id: format!("bulk-{}", stream.caller).into(),
                id: item_id.clone(),
            };
            let claim = Claim { key, fingerprint, resend: stream.run };
            let reply = Reply::to_bulk(item_id, stream.outcome_sender.clone());
            let source = Source::Bulk(number);
            admitted.push((item, claim, source, stream.deadline, reply, stream.caller));
            if !rendering.is_zero() {
                stream.is_rendering = true;
                break;
            }
        }
        let queued: Vec<Queued> = admitted
            .into_iter()
            .map(|(item, claim, source, deadline, reply, caller)| {
                let life = self.replicas[replica].life;
                let passage = Passage {
                    name: Name::Item { caller, id: item.id },
                    page,
                    person: item.person,
                    is_video: item.is_video,
                    entrance: Entrance { replica, life, stream: Some(number) },
                    place: 0,
                };
                Queued::new(self.message(replica, passage), Some(claim), source, deadline, reply)
            })
            .collect();
        if !rendering.is_zero() && !queued.is_empty() {
            self.after_at(replica, rendering, move |world| {
                if let Some(stream) = world.replicas[replica].streams.get_mut(&number) {
                    stream.is_rendering = false;
                    world.step(replica, page, Some(Event::Queue(queued)));
                    world.pump(replica, number);
                }
            });
            return false;
        }
        if !queued.is_empty() {
            self.step(replica, page, Some(Event::Queue(queued)));
        }
        has_taken
    }

    /// Sends a frame to the caller of a stream, who takes a while to read it.
    fn deliver(&mut self, replica: usize, number: u64, frame: Received) {
        let Some(stream) = self.replicas[replica].streams.get_mut(&number) else { return };
        stream.unread += 1;
        let (caller, attempt, unread) = (stream.caller, stream.attempt, stream.unread);
        let reading = self.bulk_callers[caller].plan.reading * unread as u32;
        self.after(reading + super::call::MOMENT, move |world| {
            if let Some(stream) = world.replicas[replica].streams.get_mut(&number) {
                stream.unread -= 1;
            }
            world.receive(caller, attempt, frame);
            world.pump(replica, number);
        });
    }

    /// The caller of a stream has gone: nothing of it begins any more.
    pub(super) fn close_stream(&mut self, replica: usize, attempt: (usize, u64)) {
        let streams = &self.replicas[replica].streams;
        let found = streams.values().find(|stream| (stream.caller, stream.attempt) == attempt);
        if let Some((number, page)) = found.map(|stream| (stream.number, stream.page)) {
            self.replicas[replica].streams.remove(&number);
            self.step(replica, page, Some(Event::CancelBulk(number)));
        }
    }

    /// The process of a stream has died: the caller hears of that, sooner or later, after what it had been sent.
    pub(super) fn stream_broke(&mut self, stream: Stream) {
        let (caller, attempt) = (stream.caller, stream.attempt);
        let reading = self.bulk_callers[caller].plan.reading * (stream.unread as u32 + 1);
        self.after(reading + 2 * super::call::MOMENT, move |world| {
            world.receive(caller, attempt, Received::End(false));
        });
    }
}
