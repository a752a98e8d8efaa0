//! The one task that writes: whatever waits goes into one transaction, for one flush of the disk. Unary messages go
//! first, and as long as there are some, transactions are short: they wait for the one that is being written.
//!
//! While the database is away, claims are refused at once and settlements wait in memory.

mod command;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

pub(super) use self::command::{ClaimGroup, Command, Granted, SettleGroup};
use super::Options;
use super::error::LedgerError;
use super::record::{Claim, ClaimNumber, Settlement};
use super::store::Store;
use crate::limits::{
    LEDGER_SWEEP_PAUSE, LEDGER_UNARY_MEMORY, LEDGER_UNSETTLED_MAX, LEDGER_WRITE_ROWS_BESIDE_UNARY,
    LEDGER_WRITE_ROWS_MAX,
};

/// The writing task. However it ends, also by a bug, the ledger is not ready from then on.
#[derive(Debug)]
pub(super) struct Writer {
    store: Arc<dyn Store>,
    options: Options,
    commands: mpsc::UnboundedReceiver<Command>,
    sender: mpsc::WeakUnboundedSender<Command>,
    /// Settlements of tickets that were dropped, and the way in for them.
    abandoned: mpsc::UnboundedReceiver<Settlement>,
    abandon: mpsc::UnboundedSender<Settlement>,
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
        let (abandon, abandoned) = mpsc::unbounded_channel();
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
            abandoned,
            abandon,
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
                Some(settlement) = self.abandoned.recv() => self.keep_alone(settlement),
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
        while let Ok(settlement) = self.abandoned.try_recv() {
            self.keep_alone(settlement);
        }
    }

    fn keep_alone(&mut self, settlement: Settlement) {
        self.keep(SettleGroup { settlements: vec![settlement], reply: None });
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

    /// Writes what waits, as much as fits into one transaction. If the database does not take some row of it, group by group,
    /// so that nobody pays for another's rows.
    async fn write(&mut self) {
        let rows_max =
            if self.is_unary_about() { LEDGER_WRITE_ROWS_BESIDE_UNARY } else { LEDGER_WRITE_ROWS_MAX };
        let settled = fill(rows_max, self.unsettled.iter().map(|group| group.settlements.len()));
        let claimed = fill(rows_max, self.claims.iter().map(|group| group.claims.len()));
        let settled: Vec<_> = self.unsettled.drain(..settled).collect();
        let claimed: Vec<_> = self.claims.drain(..claimed).collect();
        let Some((settled, claimed)) = self.write_groups(settled, claimed).await else { return };
        for group in settled {
            if let Some((refused, _)) = self.write_groups(vec![group], Vec::new()).await {
                self.settle_one_by_one(refused).await;
            }
        }
        for group in claimed {
            if let Some((_, refused)) = self.write_groups(Vec::new(), vec![group]).await {
                let error = LedgerError::refusal("the database does not take an id").at(self.store.name());
                refused.into_iter().for_each(|group| drop(group.reply.send(Err(error.clone()))));
            }
        }
    }

    /// Writes groups together, and tells those who wait for it. Returns them if the database does not take some row.
    async fn write_groups(
        &mut self,
        settled: Vec<SettleGroup>,
        claimed: Vec<ClaimGroup>,
    ) -> Option<(Vec<SettleGroup>, Vec<ClaimGroup>)> {
        if let Some((error, _)) = &self.away {
            // It went away in the middle of writing group by group.
            claimed.into_iter().for_each(|group| drop(group.reply.send(Err(error.clone()))));
            self.put_back(settled);
            return None;
        }
        let settlements: Vec<_> = settled.iter().flat_map(|group| &group.settlements).collect();
        let (mut sizes, mut replies, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        for group in claimed {
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
                settled.into_iter().for_each(|group| group.answer(Ok(())));
                let mut claimed = claimed.into_iter();
                for (reply, size) in replies.into_iter().zip(sizes) {
                    let claimed = claimed.by_ref().take(size).collect();
                    let (commands, unsettled) = (self.sender.clone(), self.abandon.clone());
                    drop(reply.send(Ok(Granted { number, claimed, commands, unsettled })));
                }
                None
            }
            Err(error) if error.is_refusal() => {
                let mut claims = claims.into_iter();
                let groups = replies.into_iter().zip(sizes);
                let groups = groups
                    .map(|(reply, size)| ClaimGroup { claims: claims.by_ref().take(size).collect(), reply });
                Some((settled, groups.collect()))
            }
            Err(error) => {
                let error = error.at(self.store.name());
                replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone()))));
                self.put_back(settled);
                self.go_away(error);
                self.void(number, claims);
                None
            }
        }
    }

    /// Settlements that could not be written are the next to be.
    fn put_back(&mut self, settled: Vec<SettleGroup>) {
        settled.into_iter().rev().for_each(|group| self.unsettled.push_front(group));
    }

    /// Settles what the database takes, and makes the rest unknown: else it would be in progress until the end.
    async fn settle_one_by_one(&mut self, refused: Vec<SettleGroup>) {
        let error = LedgerError::refusal("the database does not take an outcome").at(self.store.name());
        for group in refused {
            for settlement in group.settlements {
                let alone = SettleGroup { settlements: vec![settlement], reply: None };
                let Some((refused, _)) = self.write_groups(vec![alone], Vec::new()).await else { continue };
                tracing::error!(%error, "it is on record as unknown");
                for settlement in refused.into_iter().flat_map(|group| group.settlements) {
                    let unknown = SettleGroup { settlements: vec![settlement.into_unknown()], reply: None };
                    drop(self.write_groups(vec![unknown], Vec::new()).await);
                }
            }
            if let Some(reply) = group.reply {
                drop(reply.send(Err(error.clone())));
            }
        }
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
        if self.away.as_ref().is_some_and(|(_, look_again)| *look_again <= Instant::now()) {
            self.look().await;
        }
    }

    async fn look(&mut self) {
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
        match self.store.sweep(self.options.retention).await {
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
        // A database that is back already gets what waits for it; what is not written is unknown from then on.
        if self.away.is_some() && !self.unsettled.is_empty() {
            self.look().await;
        }
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
        drop(self.closing.take());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.ready.send_replace(false);
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
        if let Err(error) = store.look().await {
            drop(commands.send(Command::Away(error.at(store.name()))));
        }
    }
}

#[cfg(test)]
mod tests;
