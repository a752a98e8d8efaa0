//! What others hold of a lane: a way to tell it something, and a look at how it fares.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::event::{CallNumber, Event};
use crate::dispatch::PageStatus;
use crate::dispatch::attempt::Report;
use crate::dispatch::queued::{Queued, Source};
use crate::dispatch::retry::RetryBudget;
use crate::dispatch::standing::{ShareAsk, ShareGrant};

/// What the task of a lane is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Something happens.
    Take(Event),
    /// What does this replica want to use of the page's rates?
    AskForShare(oneshot::Sender<ShareAsk>),
}

/// A running lane.
#[derive(Clone, Debug)]
pub(in crate::dispatch) struct Handle {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) shared: Arc<Shared>,
}

/// What others may look at while the lane runs.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Messages that wait, and of these the unary ones.
    queued: AtomicUsize,
    unary_queued: AtomicUsize,
    pub(super) in_flight: AtomicUsize,
    /// The bits of an `f64`.
    pub(super) usage_percent: AtomicU64,
    pub(super) status: Mutex<PageStatus>,
    pub(super) retries: RetryBudget,
}

impl Shared {
    /// These messages wait now.
    pub(super) fn entered<'a>(&self, messages: impl Iterator<Item = &'a Queued>) {
        let (all, unary) = count(messages);
        self.queued.fetch_add(all, Ordering::Relaxed);
        self.unary_queued.fetch_add(unary, Ordering::Relaxed);
    }

    /// These messages wait no more.
    pub(super) fn left<'a>(&self, messages: impl Iterator<Item = &'a Queued>) {
        let (all, unary) = count(messages);
        self.queued.fetch_sub(all, Ordering::Relaxed);
        self.unary_queued.fetch_sub(unary, Ordering::Relaxed);
    }
}

/// How many messages, and how many unary ones among them.
fn count<'a>(messages: impl Iterator<Item = &'a Queued>) -> (usize, usize) {
    messages
        .fold((0, 0), |(all, unary), queued| (all + 1, unary + usize::from(queued.source == Source::Unary)))
}

impl Handle {
    pub(in crate::dispatch) fn queue(&self, messages: Vec<Queued>) {
        self.shared.entered(messages.iter());
        // A lane runs as long as its handle: if it is gone, the messages answer by themselves.
        self.tell(Event::Queue(messages));
    }

    pub(in crate::dispatch) fn cancel_bulk(&self, bulk_number: u64) {
        self.tell(Event::CancelBulk(bulk_number));
    }

    /// What this replica wants to use of the page's rates; `None` if the lane or its page is gone.
    pub(in crate::dispatch) async fn ask(&self) -> Option<ShareAsk> {
        let (reply, ask) = oneshot::channel();
        self.commands.send(Command::AskForShare(reply)).ok()?;
        ask.await.ok()
    }

    pub(in crate::dispatch) fn grant(&self, granted: ShareGrant) {
        self.tell(Event::Granted(Box::new(granted)));
    }

    /// Unary messages that wait: those that [`crate::limits::UNARY_QUEUED_MAX`] bounds.
    pub(in crate::dispatch) fn unary_queued(&self) -> usize {
        self.shared.unary_queued.load(Ordering::Relaxed)
    }

    pub(in crate::dispatch) fn status(&self) -> PageStatus {
        let status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        PageStatus {
            queued: self.shared.queued.load(Ordering::Relaxed),
            in_flight: self.shared.in_flight.load(Ordering::Relaxed),
            usage_percent: f64::from_bits(self.shared.usage_percent.load(Ordering::Relaxed)),
            ..status
        }
    }

    fn tell(&self, event: Event) {
        drop(self.commands.send(Command::Take(event)));
    }
}

/// Tells the lane that a call has begun and ended, even if the call panicked.
pub(super) struct Finish {
    pub(super) call: CallNumber,
    pub(super) report: Report,
    /// Messages that the lane picked for it.
    pub(super) messages: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) lane: mpsc::WeakUnboundedSender<Command>,
}

impl Finish {
    /// The call begins, with `count` messages.
    pub(super) fn began(&self, count: usize) {
        self.tell(Event::CallBegan { call: self.call, count, at: Instant::now() });
    }

    /// The call has ended, with this report.
    pub(super) fn end(mut self, report: Report) {
        self.report = report;
    }

    fn tell(&self, event: Event) {
        if let Some(lane) = self.lane.upgrade() {
            drop(lane.send(Command::Take(event)));
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(self.messages, Ordering::Relaxed);
        let report = std::mem::take(&mut self.report);
        self.shared.entered(report.retries.iter().map(|(message, _)| message));
        self.tell(Event::CallEnded { call: self.call, report: Box::new(report) });
    }
}
