//! One page's queue. [`Lane`] decides, without clock or network; [`run`] drives it.
//!
//! Rules: unary messages go before bulk ones; bulks take turns, item by item; messages to one recipient go one
//! after the other, in the order they were queued, and so never share a batch.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::call;
use super::queued::{Queued, Source};
use super::{Context, Load};
use crate::error::{Outcome, Reason};
use crate::limits::{BATCH_SIZE_MAX, PAGE_CALLS_IN_FLIGHT_MAX, PAGE_CALLS_UNARY_RESERVED};

/// Recipients by a hash under a random key. Two that collide are merely sent one after the other.
type RecipientHash = u64;

#[derive(Debug, Default)]
struct Lane {
    hasher: RandomState,
    unary: VecDeque<Queued>,
    /// One queue for each bulk that has something waiting; the first one is next.
    bulks: VecDeque<(u64, VecDeque<Queued>)>,
    /// Recipients with a message in a queue or in flight, and the messages that wait behind it.
    recipients: HashMap<RecipientHash, VecDeque<Queued>>,
    calls_in_flight: usize,
}

/// Messages that go together in one call.
#[derive(Debug)]
struct Batch {
    messages: Vec<Queued>,
    recipients: Vec<RecipientHash>,
}

impl Lane {
    fn queue(&mut self, message: Queued) {
        let recipient = self.hasher.hash_one(&message.message.recipient);
        if let Some(behind) = self.recipients.get_mut(&recipient) {
            behind.push_back(message);
            return;
        }
        self.recipients.insert(recipient, VecDeque::new());
        self.enter(message);
    }

    /// Puts a message whose recipient is free into its queue.
    fn enter(&mut self, message: Queued) {
        match message.source {
            Source::Unary => self.unary.push_back(message),
            Source::Bulk(number) => match self.bulks.iter_mut().find(|(bulk, _)| *bulk == number) {
                Some((_, queue)) => queue.push_back(message),
                None => self.bulks.push_back((number, VecDeque::from([message]))),
            },
        }
    }

    /// What to send now, if a call slot is free and something waits. Unary messages never share a batch with bulk
    /// ones: they would wait for all of its answers.
    fn next_batch(&mut self) -> Option<Batch> {
        let mut messages = Vec::new();
        if self.calls_in_flight < PAGE_CALLS_IN_FLIGHT_MAX {
            let count = self.unary.len().min(BATCH_SIZE_MAX);
            messages.extend(self.unary.drain(..count));
        }
        if messages.is_empty() && self.calls_in_flight < PAGE_CALLS_IN_FLIGHT_MAX - PAGE_CALLS_UNARY_RESERVED
        {
            while messages.len() < BATCH_SIZE_MAX
                && let Some((number, mut queue)) = self.bulks.pop_front()
            {
                messages.extend(queue.pop_front());
                if !queue.is_empty() {
                    self.bulks.push_back((number, queue));
                }
            }
        }
        if messages.is_empty() {
            return None;
        }
        self.calls_in_flight += 1;
        let recipients =
            messages.iter().map(|queued| self.hasher.hash_one(&queued.message.recipient)).collect();
        Some(Batch { messages, recipients })
    }

    /// A call has ended: its recipients are free for the messages behind.
    fn finished(&mut self, recipients: Vec<RecipientHash>) {
        self.calls_in_flight -= 1;
        for recipient in recipients {
            self.release(recipient);
        }
    }

    fn release(&mut self, recipient: RecipientHash) {
        let next = self.recipients.get_mut(&recipient).and_then(VecDeque::pop_front);
        match next {
            Some(message) => self.enter(message),
            None => drop(self.recipients.remove(&recipient)),
        }
    }

    /// Takes out every waiting message for which `is_meant` holds.
    fn take_out(&mut self, is_meant: impl Fn(&Queued) -> bool) -> VecDeque<Queued> {
        let mut taken = VecDeque::new();
        for behind in self.recipients.values_mut() {
            taken.extend(extract(behind, &is_meant));
        }
        let mut entered = extract(&mut self.unary, &is_meant);
        for (_, queue) in &mut self.bulks {
            entered.extend(extract(queue, &is_meant));
        }
        self.bulks.retain(|(_, queue)| !queue.is_empty());
        for message in &entered {
            let recipient = self.hasher.hash_one(&message.message.recipient);
            self.release(recipient);
        }
        entered.extend(taken);
        entered
    }
}

fn extract(queue: &mut VecDeque<Queued>, is_meant: impl Fn(&Queued) -> bool) -> VecDeque<Queued> {
    let (taken, kept) = queue.drain(..).partition(is_meant);
    *queue = kept;
    taken
}

/// What the lane's owner asks of it.
#[derive(Debug)]
enum Command {
    Queue(Vec<Queued>),
    CancelBulk(u64),
}

/// A running lane.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    queued: AtomicUsize,
    in_flight: AtomicUsize,
}

impl Handle {
    pub(super) fn start(page_id: &str, context: Arc<Context>) -> Self {
        // Unbounded, because what may wait is bounded where it enters: by stream and by UNARY_QUEUED_MAX.
        let (commands, receiver) = mpsc::unbounded_channel();
        let counters = Arc::<Counters>::default();
        tokio::spawn(run(Arc::from(page_id), context, receiver, counters.clone()));
        Self { commands, counters }
    }

    pub(super) fn queue(&self, messages: Vec<Queued>) {
        self.counters.queued.fetch_add(messages.len(), Ordering::Relaxed);
        // A lane runs as long as its handle: if it is gone, the messages answer by themselves.
        drop(self.commands.send(Command::Queue(messages)));
    }

    pub(super) fn cancel_bulk(&self, bulk_number: u64) {
        drop(self.commands.send(Command::CancelBulk(bulk_number)));
    }

    pub(super) fn load(&self) -> Load {
        Load {
            queued: self.counters.queued.load(Ordering::Relaxed),
            in_flight: self.counters.in_flight.load(Ordering::Relaxed),
        }
    }
}

/// Tells the lane that a call has ended, even if the call panicked.
struct Finish {
    recipients: Vec<RecipientHash>,
    count: usize,
    counters: Arc<Counters>,
    lane: mpsc::UnboundedSender<Vec<RecipientHash>>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(self.count, Ordering::Relaxed);
        drop(self.lane.send(std::mem::take(&mut self.recipients)));
    }
}

async fn run(
    page_id: Arc<str>,
    context: Arc<Context>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    counters: Arc<Counters>,
) {
    let mut lane = Lane::default();
    let (finish_sender, mut finished) = mpsc::unbounded_channel();
    let mut is_draining = false;
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => obey(&mut lane, command, &counters),
                None => return,
            },
            Some(recipients) = finished.recv() => lane.finished(recipients),
            () = context.draining.cancelled(), if !is_draining => is_draining = true,
        }
        // What else has arrived meanwhile goes into the same batches.
        while let Ok(recipients) = finished.try_recv() {
            lane.finished(recipients);
        }
        while let Ok(command) = commands.try_recv() {
            obey(&mut lane, command, &counters);
        }
        if is_draining {
            let waiting = lane.take_out(|_| true);
            counters.queued.fetch_sub(waiting.len(), Ordering::Relaxed);
            for queued in waiting {
                queued
                    .reply
                    .answer(Outcome::not_sent(Reason::Draining, "this replica is shutting down: try again"));
            }
        }
        while let Some(Batch { messages, recipients }) = lane.next_batch() {
            let count = messages.len();
            counters.queued.fetch_sub(count, Ordering::Relaxed);
            counters.in_flight.fetch_add(count, Ordering::Relaxed);
            let finish =
                Finish { recipients, count, counters: counters.clone(), lane: finish_sender.clone() };
            let (context, page_id) = (context.clone(), page_id.clone());
            tokio::spawn(async move {
                call::run(&context, &page_id, messages).await;
                drop(finish);
            });
        }
    }
}

fn obey(lane: &mut Lane, command: Command, counters: &Counters) {
    match command {
        Command::Queue(messages) => messages.into_iter().for_each(|message| lane.queue(message)),
        Command::CancelBulk(bulk_number) => {
            let waiting = lane.take_out(|queued| queued.source == Source::Bulk(bulk_number));
            counters.queued.fetch_sub(waiting.len(), Ordering::Relaxed);
            for queued in waiting {
                queued.reply.answer(Outcome::not_sent(Reason::Expired, "the bulk's stream was cancelled"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
