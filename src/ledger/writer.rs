//! The one task that writes: whatever waits goes into one transaction, for one flush of the disk. Unary messages go
//! first, and as long as there are some, transactions are short: they wait for the one that is being written.
//!
//! While the database is away, claims are refused at once and settlements wait in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::Options;
use super::error::{LedgerError, Result};
use super::record::{Claim, ClaimNumber, Claimed, Settlement, now_ms};
use super::store::Store;
use crate::limits::{
    LEDGER_SWEEP_PAUSE, LEDGER_UNARY_MEMORY, LEDGER_UNSETTLED_MAX, LEDGER_WRITE_ROWS_BESIDE_UNARY,
    LEDGER_WRITE_ROWS_MAX,
};

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Claim(ClaimGroup),
    Settle(SettleGroup),
    /// Someone found that the database is away.
    Away(LedgerError),
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct ClaimGroup {
    pub(super) claims: Vec<Claim>,
    pub(super) reply: oneshot::Sender<Result<Granted>>,
}

#[derive(Debug)]
pub(super) struct SettleGroup {
    pub(super) settlements: Vec<Settlement>,
    pub(super) reply: Option<oneshot::Sender<Result<()>>>,
}

impl ClaimGroup {
    fn is_unary(&self) -> bool {
        self.claims.first().is_some_and(|claim| claim.key.is_unary())
    }
}

impl SettleGroup {
    fn is_unary(&self) -> bool {
        self.settlements.first().is_some_and(|settlement| settlement.key.is_unary())
    }

    fn answer(self, answer: Result<()>) {
        if let Some(reply) = self.reply {
            drop(reply.send(answer));
        }
    }
}

/// An answer to a group of claims. Dropped before someone took it, it releases them: nobody will send them.
#[derive(Debug)]
pub(super) struct Granted {
    number: ClaimNumber,
    claimed: Vec<Claimed>,
    commands: mpsc::WeakUnboundedSender<Command>,
}

impl Granted {
    pub(super) fn number(&self) -> ClaimNumber {
        self.number
    }

    pub(super) fn take(mut self) -> Vec<Claimed> {
        std::mem::take(&mut self.claimed)
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let new = self.claimed.drain(..).filter_map(|claimed| match claimed {
            Claimed::New(ticket) => Some(Settlement::release(ticket)),
            Claimed::Settled(_) | Claimed::InProgress | Claimed::Reused => None,
        });
        let settlements: Vec<_> = new.collect();
        if let Some(commands) = self.commands.upgrade().filter(|_| !settlements.is_empty()) {
            drop(commands.send(Command::Settle(SettleGroup { settlements, reply: None })));
        }
    }
}

/// The writing task.
#[derive(Debug)]
pub(super) struct Writer {
    store: Arc<dyn Store>,
    options: Options,
    commands: mpsc::UnboundedReceiver<Command>,
    sender: mpsc::WeakUnboundedSender<Command>,
    ready: watch::Sender<bool>,
    /// Claims to be written.
    claims: VecDeque<ClaimGroup>,
    /// Settlements that are not on record yet.
    unsettled: VecDeque<SettleGroup>,
    /// When a unary message was last claimed.
    last_unary: Option<Instant>,
    /// Why the database cannot be used, and when to look again.
    away: Option<(LedgerError, Instant)>,
    next_sweep: Instant,
    closing: Option<oneshot::Sender<()>>,
}

impl Writer {
    /// Starts it; it ends when it is told to close or nobody is left to tell it anything.
    pub(super) fn start(
        store: Arc<dyn Store>,
        options: Options,
    ) -> (mpsc::UnboundedSender<Command>, watch::Receiver<bool>) {
        // Unbounded, because whoever sends waits for the answer.
        let (sender, commands) = mpsc::unbounded_channel();
        let (ready, is_ready) = watch::channel(true);
        let weak = sender.downgrade();
        if let Some(interval) = store.heartbeat() {
            tokio::spawn(beat(store.clone(), interval, weak.clone()));
        }
        let writer = Self {
            store,
            options,
            commands,
            sender: weak,
            ready,
            claims: VecDeque::new(),
            unsettled: VecDeque::new(),
            last_unary: None,
            away: None,
            next_sweep: Instant::now(),
            closing: None,
        };
        tokio::spawn(writer.run());
        (sender, is_ready)
    }

    async fn run(mut self) {
        while self.closing.is_none() {
            let due = self.due();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                () = sleep_until(due) => {}
            }
            self.collect();
            self.look_again().await;
            if let Some((error, _)) = &self.away {
                for group in self.claims.drain(..) {
                    drop(group.reply.send(Err(error.clone())));
                }
            } else if !self.claims.is_empty() || !self.unsettled.is_empty() {
                self.write().await;
                // Lets those who were just answered join the next write. Bulks have enough to write without them.
                if self.commands.is_empty() || self.is_unary_about() {
                    tokio::task::yield_now().await;
                }
            }
            self.sweep().await;
        }
        self.close().await;
    }

    /// When there is something to do without being told.
    fn due(&self) -> Instant {
        match &self.away {
            Some((_, look_again)) => *look_again,
            None if !self.claims.is_empty() || !self.unsettled.is_empty() => Instant::now(),
            None => self.next_sweep,
        }
    }

    /// Takes whatever else waits.
    fn collect(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Claim(group) if group.is_unary() => {
                self.last_unary = Some(Instant::now());
                self.claims.push_front(group);
            }
            Command::Claim(group) => self.claims.push_back(group),
            Command::Settle(group) => self.keep(group),
            Command::Away(error) => self.go_away(error),
            Command::Close(reply) => self.closing = Some(reply),
        }
    }

    fn keep(&mut self, group: SettleGroup) {
        let kept: usize = self.unsettled.iter().map(|group| group.settlements.len()).sum();
        if kept + group.settlements.len() <= LEDGER_UNSETTLED_MAX || self.away.is_none() {
            if group.is_unary() {
                self.unsettled.push_front(group);
            } else {
                self.unsettled.push_back(group);
            }
            return;
        }
        let outcomes = group.settlements.len();
        tracing::error!(ledger = self.store.name(), outcomes, "too many outcomes wait: these become unknown");
        group
            .answer(Err(LedgerError::passing("too many outcomes wait for the ledger").at(self.store.name())));
    }

    /// Unary messages have come of late.
    fn is_unary_about(&self) -> bool {
        self.last_unary.is_some_and(|time| time.elapsed() < LEDGER_UNARY_MEMORY)
    }

    async fn write(&mut self) {
        let rows_max =
            if self.is_unary_about() { LEDGER_WRITE_ROWS_BESIDE_UNARY } else { LEDGER_WRITE_ROWS_MAX };
        let count = fill(rows_max, self.unsettled.iter().map(|group| group.settlements.len()));
        let settlements: Vec<_> =
            self.unsettled.iter().take(count).flat_map(|group| &group.settlements).collect();
        let (mut sizes, mut replies, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        let claim_groups = fill(rows_max, self.claims.iter().map(|group| group.claims.len()));
        for group in self.claims.drain(..claim_groups) {
            sizes.push(group.claims.len());
            replies.push(group.reply);
            claims.extend(group.claims);
        }
        let number = self.store.next_claim(claims.len());
        let (began, rows) = (Instant::now(), settlements.len() + claims.len());
        let written = self.store.write(number, &settlements, &claims).await;
        self.options.metrics.ledger_written(rows, written.is_ok(), began.elapsed());
        match written {
            Ok(claimed) => {
                self.unsettled.drain(..count).for_each(|group| group.answer(Ok(())));
                let mut claimed = claimed.into_iter();
                for (reply, size) in replies.into_iter().zip(sizes) {
                    let claimed = claimed.by_ref().take(size).collect();
                    let commands = self.sender.clone();
                    drop(reply.send(Ok(Granted { number, claimed, commands })));
                }
            }
            Err(error) => {
                let error = error.at(self.store.name());
                for reply in replies {
                    drop(reply.send(Err(error.clone())));
                }
                self.failed(error, count);
                self.void(number, claims);
            }
        }
    }

    /// A write failed that had the first `count` groups of settlements in it.
    fn failed(&mut self, error: LedgerError, count: usize) {
        if !error.is_refusal() {
            self.go_away(error);
            return;
        }
        // It would fail again and hold up all others.
        tracing::error!(%error, "the ledger does not take outcomes: they become unknown");
        self.unsettled.drain(..count).for_each(|group| group.answer(Err(error.clone())));
    }

    /// Undoes the claims of a write that failed: it may have been done all the same, and nobody will send them.
    fn void(&mut self, number: ClaimNumber, claims: Vec<Claim>) {
        let settlements: Vec<_> = claims
            .into_iter()
            .enumerate()
            .map(|(ordinal, claim)| Settlement::void(claim.key, number.nth(ordinal)))
            .collect();
        if !settlements.is_empty() {
            self.keep(SettleGroup { settlements, reply: None });
        }
    }

    fn go_away(&mut self, error: LedgerError) {
        if self.away.is_none() {
            tracing::error!(%error, "the ledger is away: nothing is sent until it is back");
        }
        self.away = Some((error, Instant::now() + self.options.retry_interval));
        self.ready.send_replace(false);
    }

    async fn look_again(&mut self) {
        if self.away.as_ref().is_none_or(|(_, look_again)| Instant::now() < *look_again) {
            return;
        }
        match self.store.probe().await {
            Ok(()) => {
                tracing::info!(ledger = self.store.name(), "the ledger is back");
                self.away = None;
                self.ready.send_replace(true);
            }
            Err(error) => self.go_away(error.at(self.store.name())),
        }
    }

    /// Takes one step of a sweep if one is due. Commands that came meanwhile are next.
    async fn sweep(&mut self) {
        if self.away.is_some() || Instant::now() < self.next_sweep {
            return;
        }
        let retention_ms = i64::try_from(self.options.retention.as_millis()).unwrap_or(i64::MAX);
        match self.store.sweep(now_ms().saturating_sub(retention_ms)).await {
            Ok(has_more) => {
                let pause = if has_more { LEDGER_SWEEP_PAUSE } else { self.options.sweep_interval };
                self.next_sweep = Instant::now() + pause;
            }
            Err(error) => self.go_away(error.at(self.store.name())),
        }
    }

    async fn close(mut self) {
        self.commands.close();
        self.collect();
        while self.away.is_none() && (!self.claims.is_empty() || !self.unsettled.is_empty()) {
            self.write().await;
            self.collect();
        }
        let outcomes: usize = self.unsettled.iter().map(|group| group.settlements.len()).sum();
        if outcomes > 0 {
            tracing::error!(
                ledger = self.store.name(),
                outcomes,
                "outcomes are not on record: they become unknown"
            );
        }
        self.store.close().await;
        self.ready.send_replace(false);
        // Whoever asked for it waits for this.
        drop(self.closing);
    }
}

/// How many groups of these sizes, the first ones, it takes to reach a number of rows; all, if they do not.
fn fill(rows_max: usize, sizes: impl Iterator<Item = usize>) -> usize {
    let mut rows = 0;
    sizes
        .take_while(|size| {
            let has_room = rows < rows_max;
            rows += size;
            has_room
        })
        .count()
}

/// Shows that this process lives, for as long as the ledger is open.
async fn beat(store: Arc<dyn Store>, interval: Duration, commands: mpsc::WeakUnboundedSender<Command>) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(commands) = commands.upgrade().filter(|commands| !commands.is_closed()) else { return };
        if let Err(error) = store.probe().await {
            drop(commands.send(Command::Away(error.at(store.name()))));
        }
    }
}

#[cfg(test)]
mod tests;
