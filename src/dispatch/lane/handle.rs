//! What others hold of a lane: a way to tell it something, and a look at how it fares.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::dispatch::PageStatus;
use crate::dispatch::call::Report;
use crate::dispatch::queue::{Kind, RecipientHash};
use crate::dispatch::queued::{Queued, Source};
use crate::dispatch::retry::RetryBudget;
use crate::error::SendError;
use crate::ledger::{Ask, Grant};

/// What the lane is told.
#[derive(Debug)]
pub(super) enum Command {
    Queue(Vec<Queued>),
    CancelBulk(u64),
    /// A call of so many messages begins, for what the pace of a kind knows under a number.
    Began(Kind, u64, usize, Instant),
    Finished(Finished),
    /// The page's token was tried while the page was suspended.
    Probed(Result<(), SendError>),
    /// What does this replica want to use of the page's rates?
    Ask(oneshot::Sender<Ask>),
    /// This is what it may use until then, and what other replicas found out about the page.
    Granted(Grant, Instant),
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
    pub(super) fn entered(&self, messages: &[Queued]) {
        self.queued.fetch_add(messages.len(), Ordering::Relaxed);
        self.unary_queued.fetch_add(unary(messages), Ordering::Relaxed);
    }

    /// These messages wait no more.
    pub(super) fn left(&self, messages: &[Queued]) {
        self.queued.fetch_sub(messages.len(), Ordering::Relaxed);
        self.unary_queued.fetch_sub(unary(messages), Ordering::Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued.load(Ordering::Relaxed) == 0
    }
}

fn unary(messages: &[Queued]) -> usize {
    messages.iter().filter(|queued| queued.source == Source::Unary).count()
}

impl Handle {
    pub(in crate::dispatch) fn queue(&self, messages: Vec<Queued>) {
        self.shared.entered(&messages);
        // A lane runs as long as its handle: if it is gone, the messages answer by themselves.
        drop(self.commands.send(Command::Queue(messages)));
    }

    pub(in crate::dispatch) fn cancel_bulk(&self, bulk_number: u64) {
        drop(self.commands.send(Command::CancelBulk(bulk_number)));
    }

    /// What this replica wants to use of the page's rates; `None` if the lane or its page is gone.
    pub(in crate::dispatch) async fn ask(&self) -> Option<Ask> {
        let (reply, ask) = oneshot::channel();
        self.commands.send(Command::Ask(reply)).ok()?;
        ask.await.ok()
    }

    pub(in crate::dispatch) fn grant(&self, grant: Grant, until: Instant) {
        drop(self.commands.send(Command::Granted(grant, until)));
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
}

/// A call that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) recipients: Vec<RecipientHash>,
    pub(super) kind: Kind,
    /// The gate's era in which it began.
    pub(super) era: u64,
    pub(super) report: Report,
}

/// Tells the lane that a call has ended, even if the call panicked.
pub(super) struct Finish {
    pub(super) finished: Option<Finished>,
    /// What the pace knows of it, until the lane is told that it began.
    pub(super) taken: Option<(Kind, u64)>,
    pub(super) count: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) lane: mpsc::WeakUnboundedSender<Command>,
}

impl Finish {
    /// The call begins, with `count` messages.
    pub(super) fn began(&mut self, count: usize) {
        if let (Some((kind, number)), Some(lane)) = (self.taken.take(), self.lane.upgrade()) {
            drop(lane.send(Command::Began(kind, number, count, Instant::now())));
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.began(0);
        self.shared.in_flight.fetch_sub(self.count, Ordering::Relaxed);
        if let (Some(finished), Some(lane)) = (self.finished.take(), self.lane.upgrade()) {
            drop(lane.send(Command::Finished(finished)));
        }
    }
}
