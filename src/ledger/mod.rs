//! The ledger: the durable record that makes "no message lost, none sent twice" true.
//!
//! A message with an id is *claimed* before it is sent and *settled* after it. Its row goes this way:
//!
//! ```text
//!              claim                settle
//!   (no row) ────────▶ claimed ─┬──────────▶ sent      Graph accepted it
//!       ▲                 │     ├──────────▶ failed    Graph refused it
//!       │     release     │     └──────────▶ unknown   it may have been sent
//!       └─────────────────┘                   │    ▲
//!                                       claim │    │ release, or
//!                                with resend  ▼    │ the owner is gone
//!                                           reclaimed ───▶ settled as above
//! ```
//!
//! A claim belongs to its *owner*: the process that has the SQLite file open, or a replica with a lease on Postgres.
//! Claimed and reclaimed rows whose owner is gone are read as unknown; nothing has to visit them first. Each claim has
//! a *number* that no other claim has, and a settlement counts only for the claim it was made for.
//!
//! What a crash leaves behind, by the last thing that was done before it:
//!
//! | crash after | row | next claim of it finds |
//! |---|---|---|
//! | nothing, or a claim not yet committed | none | new |
//! | a claim committed, before or during the call to Graph, before the settlement | claimed, owner gone | unknown |
//! | a settlement committed | its outcome | its outcome |
//! | a release committed | none (unknown, if it was unknown before) | new (unknown) |
//!
//! A write whose commit got no answer may have been done or not. Its claims are answered with an error, so nothing is
//! sent, and released as soon as the database is back; its settlements are written again, which changes nothing the
//! second time. Settlements wait in memory while the database is away, up to a bound. A process that ends before it
//! is back leaves those rows claimed, and so unknown.
//!
//! Rows hold outcomes, not content: no text, no recipient, no token.
//!
//! The map: [`Ledger`] asks the `writer`, the one task that writes, in groups; `store` says what a database must do and
//! what rows mean; `sqlite` and `postgres` do it; `outcome` is the stored form of an outcome. `shares` is what replicas
//! share beside the record: the pages' rates.

mod clock;
mod error;
mod json;
#[cfg(test)]
pub(crate) mod memory;
mod origin;
mod outcome;
mod postgres;
mod reads;
mod record;
mod rows;
mod shares;
mod sqlite;
mod store;
mod transfer;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

pub use error::LedgerError;
pub use record::{
    BulkRecord, Claim, Claimed, Key, ResultsPage, ResultsQuery, RunId, Settlement, State, Ticket,
};
pub use shares::{Ask, Demand, Grant, PageStanding, PageState};
pub use transfer::{Copied, copy};

use self::error::Result;
use self::origin::Origin;
use self::postgres::PostgresStore;
use self::reads::Reads;
use self::sqlite::SqliteStore;
use self::store::Store;
use self::writer::{ClaimGroup, Command, SettleGroup, Writer};
use crate::limits::{
    LEDGER_ANSWER_TIMEOUT, LEDGER_LEASE, LEDGER_RETENTION_DEFAULT, LEDGER_RETRY_INTERVAL,
    LEDGER_SWEEP_INTERVAL,
};
use crate::telemetry::metrics::Metrics;

/// Where sqlx notes which migrations were done. Its usual table may be some other program's.
const MIGRATIONS_TABLE: &str = "ledger_migration";

/// How a ledger keeps time, and who is told of its writes.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long an outcome is kept after it was claimed, in time that a process had the ledger open.
    pub retention: Duration,
    /// How often to look for older ones.
    pub sweep_interval: Duration,
    /// How long a claim or a settlement waits for an answer.
    pub answer_timeout: Duration,
    /// How often to look whether a database that went away is back.
    pub retry_interval: Duration,
    /// How long claims stay this process's own after its last sign of life (Postgres only).
    pub lease: Duration,
    /// Host and port of the Graph that messages go to. A ledger keeps it, and is refused for another one.
    pub origin: Option<String>,
    /// Take records of another Graph for this one's: the same Graph under another address.
    pub adopts_origin: bool,
    /// Told of every write.
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: LEDGER_RETENTION_DEFAULT,
            sweep_interval: LEDGER_SWEEP_INTERVAL,
            answer_timeout: LEDGER_ANSWER_TIMEOUT,
            retry_interval: LEDGER_RETRY_INTERVAL,
            lease: LEDGER_LEASE,
            origin: None,
            adopts_origin: false,
            metrics: Metrics::default(),
        }
    }
}

/// An open ledger. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    store: Arc<dyn Store>,
    reads: Reads,
    commands: mpsc::UnboundedSender<Command>,
    ready: watch::Receiver<bool>,
    answer_timeout: Duration,
}

impl Ledger {
    /// Opens the ledger at `sqlite://PATH` (the file is created, its folder must exist) or `postgres://…`, and brings
    /// its tables up to date.
    ///
    /// # Errors
    /// If the address is wrong, the database cannot be used, or another process has the SQLite file.
    pub async fn open(url: &str, options: Options) -> std::result::Result<Self, LedgerError> {
        let store = open_store(url, &options).await?;
        let answer_timeout = options.answer_timeout;
        let (commands, ready) = Writer::start(store.clone(), options);
        Ok(Self { store, reads: Reads::new(), commands, ready, answer_timeout })
    }

    /// Claims messages: what each of them found, in the same order. What is claimed must be settled.
    ///
    /// A caller that stops waiting has claimed nothing: what it would have got is released.
    ///
    /// # Errors
    /// If the ledger is away or does not answer in time, or if an id has a NUL. Nothing may be sent then.
    pub async fn claim(&self, claims: Vec<Claim>) -> std::result::Result<Vec<Claimed>, LedgerError> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        if claims.iter().any(|claim| claim.key.has_nul()) {
            return Err(LedgerError::refusal("an id has a nul character, which no database takes"));
        }
        let (reply, answer) = oneshot::channel();
        let granted = self.ask(Command::Claim(ClaimGroup { claims, reply }), answer).await?;
        // The last moment at which the caller can be kept from sending.
        self.store.check(granted.number()).map_err(|error| error.at(self.store.name()))?;
        Ok(granted.take())
    }

    /// What claims would find that need not be claimed any more: an outcome that stands, or another request under the
    /// same id. In the same order; `None` for what must be claimed. Claims nothing.
    ///
    /// # Errors
    /// If the ledger is away.
    pub async fn look_up(&self, claims: &[Claim]) -> std::result::Result<Vec<Option<Claimed>>, LedgerError> {
        let found = self.on_record(claims).await?;
        let stands = |found: Option<Claimed>| found.filter(|found| !matches!(found, Claimed::InProgress));
        Ok(found.into_iter().map(stands).collect())
    }

    /// The same, and what is being sent right now: what may be said of messages that are not claimed because they are not
    /// to be sent.
    ///
    /// # Errors
    /// If the ledger is away.
    pub async fn on_record(
        &self,
        claims: &[Claim],
    ) -> std::result::Result<Vec<Option<Claimed>>, LedgerError> {
        let rows = self.store.find(claims).await.map_err(|error| error.at(self.store.name()))?;
        Ok(store::read_recorded(claims, rows))
    }

    /// Settles messages that were claimed. It returns when that is on record.
    ///
    /// # Errors
    /// If the ledger is away for longer than the answer timeout. It goes on trying. Until it succeeds the messages are
    /// in progress for others; if it never does, they become unknown when this process ends.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> std::result::Result<(), LedgerError> {
        if settlements.is_empty() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Settle(SettleGroup { settlements, reply: Some(reply) }), answer).await
    }

    async fn ask<T>(&self, command: Command, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        let closed = || LedgerError::closed().at(self.store.name());
        self.commands.send(command).map_err(|_| closed())?;
        match tokio::time::timeout(self.answer_timeout, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(closed())),
            Err(_) => Err(LedgerError::passing("the database did not answer in time").at(self.store.name())),
        }
    }

    /// What is on record of a bulk; `None` if nothing is. Reads every row of the bulk, once for all who ask for it at
    /// the same time.
    ///
    /// # Errors
    /// If the ledger is away.
    pub async fn bulk(
        &self,
        page_id: &str,
        bulk_id: &str,
    ) -> std::result::Result<Option<BulkRecord>, LedgerError> {
        self.reads.bulk(&self.store, page_id, bulk_id).await.map_err(|error| error.at(self.store.name()))
    }

    /// A page of a bulk's results.
    ///
    /// # Errors
    /// If the ledger is away.
    pub async fn results(&self, query: &ResultsQuery) -> std::result::Result<ResultsPage, LedgerError> {
        self.reads.results(&self.store, query).await.map_err(|error| error.at(self.store.name()))
    }

    /// Gives the records of one page to another name of the same page, such as those of "me" to its id, once, before anything
    /// is claimed. What is on record under both names stays so, and what another replica has in progress under the old one.
    /// Returns how many were renamed.
    ///
    /// # Errors
    /// If the ledger is away. What was renamed stays so: do it again.
    pub async fn rename_page(&self, from: &str, to: &str) -> std::result::Result<u64, LedgerError> {
        self.store.rename_page(from, to).await.map_err(|error| error.at(self.store.name()))
    }

    /// True if other processes may send for the same pages.
    pub fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// Takes this process's shares of pages' rates, tells what it found out about the pages, and hears what others did.
    /// In the order of the asks; nothing if [`Ledger::is_shared`] is false.
    ///
    /// # Errors
    /// If the ledger is away. Shares that were taken before then end with their lease.
    pub async fn share(&self, asks: &[Ask]) -> std::result::Result<Vec<Grant>, LedgerError> {
        self.store.share(asks).await.map_err(|error| error.at(self.store.name()))
    }

    /// True as long as messages can be claimed.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Follows [`Ledger::is_ready`].
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Completes when the ledger takes nothing any more: it was closed, or its writing task has ended by a bug. The
    /// process should end then.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    /// Writes what waits and closes the database. What is still claimed becomes unknown.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.commands.send(Command::Close(reply)).is_ok() {
            drop(closed.await);
        }
    }
}

async fn open_store(url: &str, options: &Options) -> Result<Arc<dyn Store>> {
    let origin = Origin { origin: options.origin.clone(), adopts: options.adopts_origin };
    if let Some(path) = url.strip_prefix("sqlite://") {
        if path.is_empty() || path.contains(":memory:") {
            return Err(LedgerError::passing("a sqlite ledger needs a file, as in sqlite://ledger.db"));
        }
        let store = SqliteStore::open(url, Path::new(path), &origin).await.map_err(|error| error.at(url))?;
        return Ok(Arc::new(store));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let name = without_password(url)?;
        let store = PostgresStore::open(&name, url, &origin, options.lease, options.metrics.clone())
            .await
            .map_err(|error| error.at(&name))?;
        return Ok(Arc::new(store));
    }
    Err(LedgerError::passing("the ledger's address must begin with sqlite:// or postgres://"))
}

/// Scheme, host and database of a Postgres address.
fn without_password(url: &str) -> Result<String> {
    let url = url::Url::parse(url)
        .map_err(|error| LedgerError::passing(format!("the ledger's address is not valid: {error}")))?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path()))
}
