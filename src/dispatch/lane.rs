//! One page's lane: picks what goes next as far as gate, pace and call slots allow, and takes up what calls report.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use tokio::sync::mpsc;

use super::call::{self, Report, Sign};
use super::gate::{Gate, Standing};
use super::pacing::Pace;
use super::queue::{Kind, Queue, RecipientHash};
use super::queued::{Queued, Source};
use super::retry::RetryBudget;
use super::{Context, PageStatus};
use crate::error::{Outcome, Reason, SendError};
use crate::graph::usage::Usage;
use crate::limits::{
    BATCH_SIZE_MAX, PAGE_CALLS_IN_FLIGHT_MAX, PAGE_CALLS_UNARY_RESERVED, USAGE_SLOW_PERCENT,
};
use crate::pages::Page;

/// How often a suspended page is looked at, in case its token was replaced.
const SUSPENDED_LOOK: Duration = Duration::from_secs(1);

/// What the lane is told.
#[derive(Debug)]
enum Command {
    Queue(Vec<Queued>),
    CancelBulk(u64),
    /// A call has ended, for these recipients.
    Finished(Vec<RecipientHash>, Report),
    /// The page's token was tried while the page was suspended.
    Probed(Result<(), SendError>),
}

/// A running lane.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
}

/// What others may look at while the lane runs.
#[derive(Debug, Default)]
pub(super) struct Shared {
    queued: AtomicUsize,
    in_flight: AtomicUsize,
    status: Mutex<PageStatus>,
    pub(super) retries: RetryBudget,
}

impl Handle {
    pub(super) fn start(page_id: &str, context: Arc<Context>) -> Self {
        // Unbounded, because what may wait is bounded where it enters: by stream and by UNARY_QUEUED_MAX.
        let (commands, receiver) = mpsc::unbounded_channel();
        let shared = Arc::<Shared>::default();
        let lane = Lane {
            page_id: page_id.into(),
            context,
            shared: shared.clone(),
            commands: commands.downgrade(),
            queue: Queue::default(),
            gate: Gate::default(),
            paces: None,
            usage_percent: 0.0,
            calls_in_flight: 0,
            stopped_token: None,
            is_probing: false,
            earliest_deadline: None,
        };
        tokio::spawn(lane.run(receiver));
        Self { commands, shared }
    }

    pub(super) fn queue(&self, messages: Vec<Queued>) {
        self.shared.queued.fetch_add(messages.len(), Ordering::Relaxed);
        // A lane runs as long as its handle: if it is gone, the messages answer by themselves.
        drop(self.commands.send(Command::Queue(messages)));
    }

    pub(super) fn cancel_bulk(&self, bulk_number: u64) {
        drop(self.commands.send(Command::CancelBulk(bulk_number)));
    }

    pub(super) fn status(&self) -> PageStatus {
        let status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        PageStatus {
            queued: self.shared.queued.load(Ordering::Relaxed),
            in_flight: self.shared.in_flight.load(Ordering::Relaxed),
            ..status
        }
    }
}

/// Tells the lane that a call has ended, even if the call panicked.
struct Finish {
    recipients: Vec<RecipientHash>,
    report: Report,
    count: usize,
    shared: Arc<Shared>,
    lane: mpsc::WeakUnboundedSender<Command>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(self.count, Ordering::Relaxed);
        let report = std::mem::take(&mut self.report);
        if let Some(lane) = self.lane.upgrade() {
            drop(lane.send(Command::Finished(std::mem::take(&mut self.recipients), report)));
        }
    }
}

struct Lane {
    page_id: Arc<str>,
    context: Arc<Context>,
    shared: Arc<Shared>,
    commands: mpsc::WeakUnboundedSender<Command>,
    queue: Queue,
    gate: Gate,
    /// Of audio and video, and of the rest; made when the page is first seen.
    paces: Option<[Pace; 2]>,
    usage_percent: f64,
    calls_in_flight: usize,
    /// The token that Graph refused.
    stopped_token: Option<secrecy::SecretString>,
    is_probing: bool,
    earliest_deadline: Option<Instant>,
}

impl Lane {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let draining = self.context.draining.clone();
        let mut wake: Option<Instant> = None;
        loop {
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                () = timer => {}
                () = draining.cancelled(), if !draining.is_cancelled() => {}
            }
            // What else has arrived meanwhile goes into the same batches.
            while let Ok(command) = commands.try_recv() {
                self.obey(command);
            }
            if draining.is_cancelled() {
                let draining = SendError::new(Reason::Draining, "this replica is shutting down: try again");
                self.refuse_waiting(&draining);
            }
            wake = self.send_what_may_go(Instant::now());
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Queue(messages) => {
                for message in messages {
                    self.earliest_deadline = earlier(self.earliest_deadline, message.deadline);
                    self.queue.push(message);
                }
            }
            Command::CancelBulk(number) => {
                let gone = SendError::new(Reason::Expired, "the bulk's stream was cancelled");
                let taken = self.queue.take_out(|queued| queued.source == Source::Bulk(number));
                self.refuse(taken, &gone);
            }
            Command::Finished(recipients, report) => self.take_up(recipients, report, now),
            Command::Probed(result) => {
                self.is_probing = false;
                match result {
                    Ok(()) => self.mend("the page's token works again"),
                    Err(error) => self.stop(error, now),
                }
            }
        }
    }

    /// Learns from a call that has ended.
    fn take_up(&mut self, mut recipients: Vec<RecipientHash>, report: Report, now: Instant) {
        self.calls_in_flight -= 1;
        for (message, due) in report.retries.into_iter().rev() {
            let recipient = self.queue.recipient(&message);
            if let Some(place) = recipients.iter().position(|other| *other == recipient) {
                recipients.swap_remove(place);
            }
            self.shared.queued.fetch_add(1, Ordering::Relaxed);
            self.queue.put_back(message, due);
        }
        for recipient in recipients {
            self.queue.release(recipient);
        }
        let wait = report.usage.and_then(|usage| usage.regain_access);
        if let Some(Usage { percent, .. }) = report.usage {
            self.usage_percent = percent;
        }
        match report.sign {
            Some(Sign::Answered) => self.gate.answered(),
            Some(Sign::Trouble) => self.gate.troubled(now),
            Some(Sign::Throttled) => self.gate.throttled(wait, now),
            Some(Sign::Stopped(error)) => self.stop(error, now),
            None => {}
        }
        if wait.is_some() {
            self.gate.throttled(wait, now);
        }
        self.tell_status();
    }

    fn stop(&mut self, error: SendError, now: Instant) {
        tracing::error!(page.id = %self.page_id, reason = ?error.reason, "graph refuses everything of the page: it is suspended");
        self.stopped_token = self.page().map(|page| page.access_token.clone());
        self.gate.stopped(error, now);
        self.tell_status();
    }

    fn mend(&mut self, why: &str) {
        tracing::info!(page.id = %self.page_id, why, "the page sends again");
        self.stopped_token = None;
        self.gate.mended();
        self.tell_status();
    }

    fn page(&self) -> Option<Arc<Page>> {
        self.context.pages.get(&self.page_id)
    }

    /// Starts calls as far as they may start. Answers when to look again, if not for a command.
    fn send_what_may_go(&mut self, now: Instant) -> Option<Instant> {
        self.queue.wake(now);
        let mut wake = earlier(self.queue.next_due(), self.expire(now));
        let Some(page) = self.page() else {
            self.refuse_waiting(&SendError::new(Reason::PageNotFound, "the page is no longer configured"));
            return wake;
        };
        wake = earlier(wake, self.look_at_suspension(&page, now));
        self.set_paces(&page, now);
        for (index, kind) in [Kind::Media, Kind::Other].into_iter().enumerate() {
            while let Some(batch) = self.next_batch(index, kind, now, &mut wake) {
                self.start_call(page.clone(), batch);
            }
        }
        wake
    }

    /// A suspended page refuses what waits, and is tried again by and by.
    fn look_at_suspension(&mut self, page: &Arc<Page>, now: Instant) -> Option<Instant> {
        let (Standing::Suspended { error, until }, _) = self.gate.standing() else { return None };
        let (error, until) = (error.clone(), *until);
        let was_replaced =
            |token: &secrecy::SecretString| token.expose_secret() != page.access_token.expose_secret();
        if self.stopped_token.as_ref().is_some_and(was_replaced) {
            self.mend("its token was replaced");
            return None;
        }
        self.refuse_waiting(&error);
        if now >= until && !self.is_probing {
            self.is_probing = true;
            let (context, page, lane) = (self.context.clone(), page.clone(), self.commands.clone());
            tokio::spawn(async move {
                let probed = context.graph.probe(&page).await.map(drop);
                if let Some(lane) = lane.upgrade() {
                    drop(lane.send(Command::Probed(probed)));
                }
            });
        }
        Some(now + SUSPENDED_LOOK)
    }

    /// The page's rates as they are configured now, less what Graph's usage headers ask for.
    fn set_paces(&mut self, page: &Page, now: Instant) {
        // Down to a tenth of the rate as the budget runs out.
        let left = (100.0 - self.usage_percent) / (100.0 - USAGE_SLOW_PERCENT);
        let factor = left.clamp(0.1, 1.0);
        let rates = [page.media_rate_per_second, page.rate_per_second].map(|rate| f64::from(rate) * factor);
        let paces = self.paces.get_or_insert_with(|| rates.map(|rate| Pace::new(rate, now)));
        for (pace, rate) in paces.iter_mut().zip(rates) {
            pace.set_rate(rate, now);
        }
    }

    /// What to send now, if anything. Unary messages never share a batch with bulk ones: they would wait for all of its
    /// answers.
    fn next_batch(
        &mut self,
        index: usize,
        kind: Kind,
        now: Instant,
        wake: &mut Option<Instant>,
    ) -> Option<Vec<Queued>> {
        let pace = self.paces.as_mut()?.get_mut(index)?;
        let (unary, bulk) = (self.queue.unary_waiting(kind), self.queue.bulk_waiting(kind));
        let slots = if unary > 0 {
            PAGE_CALLS_IN_FLIGHT_MAX
        } else {
            PAGE_CALLS_IN_FLIGHT_MAX - PAGE_CALLS_UNARY_RESERVED
        };
        if unary + bulk == 0 || self.calls_in_flight >= slots {
            return None;
        }
        let gate = self.gate.allows(self.calls_in_flight, now);
        if gate == 0 {
            *wake = earlier(*wake, self.gate.opens_at().filter(|at| *at > now));
            return None;
        }
        let wanted = if unary > 0 { 1 } else { bulk.min(pace.collected()) };
        let count = pace.available(wanted, now).min(gate).min(BATCH_SIZE_MAX);
        if count == 0 {
            *wake = earlier(*wake, Some(pace.ready_at(wanted, now)));
            return None;
        }
        let batch =
            if unary > 0 { self.queue.take_unary(kind, count) } else { self.queue.take_bulk(kind, count) };
        pace.take(batch.len(), now);
        Some(batch)
    }

    fn start_call(&mut self, page: Arc<Page>, messages: Vec<Queued>) {
        let count = messages.len();
        self.calls_in_flight += 1;
        self.shared.queued.fetch_sub(count, Ordering::Relaxed);
        self.shared.in_flight.fetch_add(count, Ordering::Relaxed);
        let mut finish = Finish {
            recipients: messages.iter().map(|message| self.queue.recipient(message)).collect(),
            report: Report::default(),
            count,
            shared: self.shared.clone(),
            lane: self.commands.clone(),
        };
        let context = self.context.clone();
        tokio::spawn(async move {
            finish.report = call::run(&context, &page, &finish.shared.retries, messages).await;
            drop(finish);
        });
    }

    /// Answers what has waited past its deadline. Answers when the next one is due.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        if self.earliest_deadline.is_none_or(|deadline| now < deadline) {
            return self.earliest_deadline;
        }
        let expired = self.queue.take_out(|queued| queued.deadline.is_some_and(|deadline| deadline <= now));
        let error = match self.gate.standing() {
            (Standing::Paused { error, until }, _) => {
                SendError { retry_after: Some(until.saturating_duration_since(now)), ..error.clone() }
            }
            (Standing::Open | Standing::Suspended { .. }, _) => {
                SendError::new(Reason::Expired, "the message was not sent before its deadline")
            }
        };
        self.refuse(expired, &error);
        self.earliest_deadline = self.queue.earliest_deadline();
        self.earliest_deadline
    }

    fn refuse_waiting(&mut self, error: &SendError) {
        let waiting = self.queue.take_out(|_| true);
        self.refuse(waiting, error);
    }

    fn refuse(&self, messages: Vec<Queued>, error: &SendError) {
        self.shared.queued.fetch_sub(messages.len(), Ordering::Relaxed);
        for queued in messages {
            queued.reply.answer(Outcome::NotSent(error.clone()));
        }
    }

    fn tell_status(&self) {
        let (standing, since) = self.gate.standing();
        let status = PageStatus { standing: standing.clone(), since: Some(since), ..PageStatus::default() };
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
