//! The ledger in a Postgres database that any number of replicas share.
//!
//! Each replica is an owner with a lease. A claim whose owner has none counts as unknown, for everyone and at once;
//! nothing needs to mark it. A replica that is not sure of its lease claims nothing.

mod connect;
mod lease;
mod shares;
mod statements;
mod sweep;
mod write;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgPool};
use tokio::sync::Mutex;

use self::connect::{Address, within};
use self::lease::Lease;
use self::write::Writers;
use super::clock::Watch;
use super::error::Result;
use super::origin::Origin;
use super::record::{
    BulkRecord, Claim, ClaimNumber, Claimed, Key, ResultsPage, ResultsQuery, Settlement, now_ms,
};
use super::rows::{Counts, bulk_record, parts, record, results_page};
use super::shares::{Ask, Grant};
use super::store::{Row, Store};
use super::transfer::Record;
use crate::limits::{
    LEDGER_WRITE_ROWS_MAX, POSTGRES_CONFLICTS_MAX, POSTGRES_FIND_CONNECTIONS_MAX,
    POSTGRES_READ_CONNECTIONS_MAX, POSTGRES_READ_TIMEOUT, POSTGRES_TIMEOUT, SHARE_TIMEOUT,
};
use crate::telemetry::metrics::Metrics;

/// Bits of a claim's number that count an owner's claims; those above are the owner, and `statements` shifts them down. At
/// 1,000 claims a second they last eight years.
const COUNT_BITS: u32 = 38;

/// A Postgres database.
#[derive(Debug)]
pub(super) struct PostgresStore {
    name: String,
    address: Address,
    lease: Lease,
    claims: AtomicU64,
    watch: Watch,
    /// Connections for claims and settlements, while they are good. Closed and made anew after an error.
    writers: Mutex<Option<Writers>>,
    /// Connections that nothing else may take: for the lease, and for shares.
    lease_pool: PgPool,
    share_pool: PgPool,
    /// For short reads, and for those that may take long.
    find_pool: PgPool,
    read_pool: PgPool,
}

impl PostgresStore {
    /// Connects, migrates, and becomes an owner.
    pub(super) async fn open(
        name: &str,
        url: &str,
        origin: &Origin,
        lease: Duration,
        metrics: Metrics,
    ) -> Result<Self> {
        let address = Address::parse(url)?;
        address.migrate(origin).await?;
        let lease_pool = address.pool(1, POSTGRES_TIMEOUT);
        let lease = Lease::take(&mut *lease_pool.acquire().await?, lease, metrics).await?;
        Ok(Self {
            name: name.to_owned(),
            lease,
            // Should a database that goes back give an owner's number to another, their claims still have other numbers.
            claims: AtomicU64::new(fastrand::u64(..1 << (COUNT_BITS - 1))),
            watch: Watch::new(now_ms()),
            writers: Mutex::default(),
            lease_pool,
            share_pool: address.pool(1, SHARE_TIMEOUT),
            find_pool: address.pool(POSTGRES_FIND_CONNECTIONS_MAX, POSTGRES_TIMEOUT),
            read_pool: address.pool(POSTGRES_READ_CONNECTIONS_MAX, POSTGRES_READ_TIMEOUT),
            address,
        })
    }

    async fn connect_writers(&self) -> Result<Writers> {
        let mut writers = self.address.connect_writers().await?;
        // A new connection may lead to another server.
        within(POSTGRES_TIMEOUT, self.lease.check_history(&mut writers.lasting)).await?;
        Ok(writers)
    }

    /// One of the writing connections, if nobody writes right now, for what may wait.
    async fn with_writer<T>(&self, work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>) -> Result<T> {
        let mut guard = self.writers.lock().await;
        let mut writers = match guard.take() {
            Some(writers) => writers,
            None => self.connect_writers().await?,
        };
        let done = within(POSTGRES_TIMEOUT, work(&mut writers.lasting)).await?;
        *guard = Some(writers);
        Ok(done)
    }
}

fn owner(claim: ClaimNumber) -> i64 {
    claim.0 >> COUNT_BITS
}

#[async_trait]
impl Store for PostgresStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn next_claim(&self, claims: usize) -> ClaimNumber {
        let count = self.claims.fetch_add(claims as u64, Ordering::Relaxed) & ((1 << COUNT_BITS) - 1);
        ClaimNumber((self.lease.owner() << COUNT_BITS) | count.cast_signed())
    }

    fn check(&self, claim: ClaimNumber) -> Result<()> {
        self.lease.check(owner(claim))
    }

    async fn write(
        &self,
        first: ClaimNumber,
        settlements: &[&Settlement],
        claims: &[Claim],
    ) -> Result<Vec<Claimed>> {
        let mut guard = self.writers.lock().await;
        let (mut conflicts, mut is_new) = (0, guard.is_none());
        loop {
            let mut writers = match guard.take() {
                Some(writers) => writers,
                None => self.connect_writers().await?,
            };
            let work = write::write(&mut writers, first, settlements, claims);
            let error = match within(POSTGRES_TIMEOUT, work).await {
                Ok(claimed) => {
                    *guard = Some(writers);
                    self.lease.note(settlements);
                    return Ok(claimed);
                }
                Err(error) => error,
            };
            // The same write again, under the same numbers, finds what it has done already.
            if error.is_conflict() && conflicts < POSTGRES_CONFLICTS_MAX {
                conflicts += 1;
                *guard = Some(writers);
            } else if error.is_refusal() {
                *guard = Some(writers);
                return Err(error);
            } else if is_new {
                return Err(error);
            } else {
                // Networks drop connections that were idle.
                is_new = true;
            }
            tracing::debug!(%error, "writing to the ledger once more");
        }
    }

    async fn find(&self, claims: &[Claim]) -> Result<Vec<Row>> {
        within(POSTGRES_TIMEOUT, async {
            let keys = claims.iter().map(|claim| &claim.key).collect();
            write::rows(&mut *self.find_pool.acquire().await?, keys).await
        })
        .await
    }

    async fn bulk(&self, page_id: &str, bulk_id: &str) -> Result<Option<BulkRecord>> {
        let query = sqlx::query_as::<_, Counts>(statements::BULK).bind(page_id).bind(bulk_id);
        let counts = async { Ok(query.fetch_all(&self.read_pool).await?) };
        Ok(bulk_record(&within(POSTGRES_READ_TIMEOUT, counts).await?))
    }

    async fn results(&self, query: &ResultsQuery) -> Result<ResultsPage> {
        // Those of one state may lie far apart.
        let (pool, timeout) = match query.state {
            Some(_) => (&self.read_pool, POSTGRES_READ_TIMEOUT),
            None => (&self.find_pool, POSTGRES_TIMEOUT),
        };
        let rows = sqlx::query_as(statements::RESULTS)
            .bind(&query.page_id)
            .bind(&query.bulk_id)
            .bind(&query.after)
            .bind(query.state.map(|state| state.number()))
            .bind(i64::from(query.limit) + 1);
        let rows = within(timeout, async { Ok(rows.fetch_all(pool).await?) }).await?;
        Ok(results_page(rows, query.limit))
    }

    async fn sweep(&self, retention: Duration) -> Result<bool> {
        let swept = self.with_writer(async |writer| sweep::sweep(writer, &self.watch, retention).await).await;
        match swept {
            // Another replica sweeps as well.
            Err(error) if error.is_conflict() => Ok(false),
            swept => swept,
        }
    }

    async fn rename_page(&self, from: &str, to: &str) -> Result<u64> {
        let mut renamed = 0;
        loop {
            let rename = sqlx::query(statements::RENAME_PAGE).bind(from).bind(to);
            let rename = rename.bind(LEDGER_WRITE_ROWS_MAX as i64);
            let rows =
                self.with_writer(async |writer| Ok(rename.execute(writer).await?.rows_affected())).await?;
            if rows == 0 {
                return Ok(renamed);
            }
            renamed += rows;
        }
    }

    async fn origin(&self) -> Result<Option<String>> {
        let origin = sqlx::query_scalar("SELECT origin FROM ledger_meta");
        within(POSTGRES_TIMEOUT, async { Ok(origin.fetch_one(&self.find_pool).await?) }).await
    }

    async fn other_owners(&self) -> Result<u64> {
        let others = sqlx::query_scalar(statements::OTHER_OWNERS).bind(self.lease.owner());
        let others: i64 =
            within(POSTGRES_TIMEOUT, async { Ok(others.fetch_one(&self.find_pool).await?) }).await?;
        Ok(others.unsigned_abs())
    }

    async fn export(&self, after: Option<&Key>, limit: u32) -> Result<Vec<Record>> {
        let [page_id, bulk_id, id] = parts(after);
        let export = sqlx::query_as(statements::EXPORT).bind(page_id).bind(bulk_id).bind(id);
        let export = export.bind(i64::from(limit));
        let rows = within(POSTGRES_READ_TIMEOUT, async { Ok(export.fetch_all(&self.read_pool).await?) });
        Ok(rows.await?.into_iter().map(record).collect())
    }

    async fn import(&self, records: &[Record]) -> Result<u64> {
        self.with_writer(async |writer| write::import(writer, records).await).await
    }

    async fn probe(&self) -> Result<()> {
        within(POSTGRES_TIMEOUT, async {
            let mut connection = self.lease_pool.acquire().await?;
            let renewed = self.lease.renew(&mut connection).await;
            if renewed.is_err() {
                // It may lead to a server that takes no writes any more.
                connection.close_on_drop();
            }
            renewed
        })
        .await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn share(&self, asks: &[Ask]) -> Result<Vec<Grant>> {
        let mut connection = within(SHARE_TIMEOUT, async { Ok(self.share_pool.acquire().await?) }).await?;
        let share = shares::share(&mut connection, self.lease.owner(), asks);
        let grants = within(SHARE_TIMEOUT, share).await;
        if grants.is_err() {
            // It may hold the lock that others wait for.
            connection.close_on_drop();
        }
        grants
    }

    fn heartbeat(&self) -> Option<Duration> {
        Some(self.lease.duration() / 3)
    }

    /// Everyone sees at once that claims which are not settled are unknown, and that this replica's shares are free.
    async fn close(&self) {
        for statement in [statements::END_OWNER, statements::END_SHARES] {
            let end = sqlx::query(statement).bind(self.lease.owner());
            if let Err(error) =
                within(POSTGRES_TIMEOUT, async { Ok(end.execute(&self.lease_pool).await?) }).await
            {
                tracing::warn!(ledger = self.name, %error, "this replica's leases end by themselves");
            }
        }
        if let Some(Writers { lasting, joining }) = self.writers.lock().await.take() {
            for connection in [lasting, joining] {
                drop(tokio::time::timeout(POSTGRES_TIMEOUT, connection.close()).await);
            }
        }
        for pool in [&self.lease_pool, &self.share_pool, &self.find_pool, &self.read_pool] {
            drop(tokio::time::timeout(POSTGRES_TIMEOUT, pool.close()).await);
        }
    }
}
