//! The ledger in a Postgres database that any number of replicas share.
//!
//! Each replica is an owner with a lease. A claim whose owner has none counts as unknown, for everyone and at once;
//! nothing needs to mark it. A replica that is not sure of its lease claims nothing.

mod connect;
mod lease;
mod shares;
mod statements;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{Connection, Row as _};
use tokio::sync::Mutex;

use self::connect::{Address, within};
use self::lease::Lease;
use super::error::Result;
use super::record::{
    BulkRecord, Claim, ClaimNumber, Claimed, End, Key, ResultsPage, ResultsQuery, Settlement, now_ms,
};
use super::rows::{Counts, bulk_record, results_page};
use super::shares::{Ask, Grant};
use super::store::{Row, Store, Verdict, all_new, carry_out, judge, split};
use crate::limits::{LEDGER_SWEEP_ROWS, POSTGRES_READ_TIMEOUT, POSTGRES_TIMEOUT, SHARE_LEASE, SHARE_TIMEOUT};

/// Bits of a claim's number that count an owner's claims; those above are the owner, and `statements` shifts them down. At
/// 1,000 claims a second they last eight years.
const COUNT_BITS: u32 = 38;

/// A Postgres database.
#[derive(Debug)]
pub(super) struct PostgresStore {
    name: String,
    address: Address,
    pool: PgPool,
    lease: Lease,
    claims: AtomicU64,
    /// The connection for claims and settlements, while it is good. Closed and made anew after any error.
    writer: Mutex<Option<PgConnection>>,
}

impl PostgresStore {
    /// Connects, migrates, and becomes an owner.
    pub(super) async fn open(name: &str, url: &str, lease: Duration) -> Result<Self> {
        let address = Address::parse(url)?;
        address.migrate().await?;
        let pool = address.pool();
        let lease = Lease::take(&mut *pool.acquire().await?, lease).await?;
        let (claims, writer) = (AtomicU64::default(), Mutex::default());
        Ok(Self { name: name.to_owned(), address, pool, lease, claims, writer })
    }
}

fn owner(claim: ClaimNumber) -> i64 {
    claim.0 >> COUNT_BITS
}

/// The arrays of keys that every statement over rows begins with.
#[derive(Default)]
struct Keys<'a> {
    pages: Vec<&'a str>,
    bulks: Vec<&'a str>,
    ids: Vec<&'a str>,
}

impl<'a> FromIterator<&'a Key> for Keys<'a> {
    fn from_iter<I: IntoIterator<Item = &'a Key>>(keys: I) -> Self {
        let mut arrays = Self::default();
        for key in keys {
            arrays.pages.push(&key.page_id);
            arrays.bulks.push(&key.bulk_id);
            arrays.ids.push(&key.id);
        }
        arrays
    }
}

async fn transaction(
    connection: &mut PgConnection,
    first: ClaimNumber,
    settlements: &[&Settlement],
    claims: &[Claim],
) -> Result<Vec<Claimed>> {
    // Every statement must see what other replicas have committed before it.
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    settle(&mut transaction, settlements).await?;
    let mut claimed = Vec::new();
    if !claims.is_empty() {
        let is_owner: bool =
            sqlx::query_scalar(statements::IS_OWNER).bind(owner(first)).fetch_one(&mut *transaction).await?;
        if is_owner {
            claimed = claim(&mut transaction, first, claims).await?;
        }
    }
    transaction.commit().await?;
    // What was settled stays so: settling does not need the lease.
    if claimed.len() == claims.len() { Ok(claimed) } else { Err(lease::lost()) }
}

async fn claim(connection: &mut PgConnection, first: ClaimNumber, claims: &[Claim]) -> Result<Vec<Claimed>> {
    let now = now_ms();
    let keys: Keys = claims.iter().map(|claim| &claim.key).collect();
    let fingerprints: Vec<_> = claims.iter().map(|claim| &claim.fingerprint[..]).collect();
    let inserted = sqlx::query(statements::CLAIM)
        .bind(&keys.pages)
        .bind(&keys.bulks)
        .bind(&keys.ids)
        .bind(fingerprints)
        .bind(first.0)
        .bind(now)
        .bind(runs(claims))
        .execute(&mut *connection)
        .await?;
    if inserted.rows_affected() == claims.len() as u64 {
        return Ok(all_new(claims, first));
    }
    let verdicts = judge(claims, rows(connection, keys).await?, first);
    let taken = reclaim(connection, first, claims, &verdicts, now).await?;
    Ok(carry_out(claims, verdicts, first, |ordinal| taken.contains(&ordinal)))
}

/// The runs of claims, most of which have none: then no array of nulls is sent.
fn runs(claims: &[Claim]) -> Vec<Option<&[u8]>> {
    if claims.iter().all(|claim| claim.resend.is_none()) {
        return Vec::new();
    }
    claims.iter().map(|claim| claim.resend.as_ref().map(|run| &run.0[..])).collect()
}

async fn rows(connection: &mut PgConnection, keys: Keys<'_>) -> Result<Vec<Row>> {
    let find = sqlx::query(statements::FIND).bind(keys.pages).bind(keys.bulks).bind(keys.ids);
    find.fetch_all(connection).await?.iter().map(row).collect()
}

/// Takes over unknown messages and tells which; another replica may have been faster.
async fn reclaim(
    connection: &mut PgConnection,
    first: ClaimNumber,
    claims: &[Claim],
    verdicts: &[Verdict],
    now: i64,
) -> Result<HashSet<usize>> {
    let (mut ordinals, mut seen, mut sent_by) = (Vec::new(), Vec::new(), Vec::new());
    let mut wanted = Vec::new();
    for (ordinal, (claim, verdict)) in (0_i64..).zip(claims.iter().zip(verdicts)) {
        if let Verdict::Reclaim { from, runs } = verdict {
            ordinals.push(ordinal);
            seen.push(from.0);
            sent_by.push(&runs[..]);
            wanted.push(&claim.key);
        }
    }
    if wanted.is_empty() {
        return Ok(HashSet::new());
    }
    let keys: Keys = wanted.into_iter().collect();
    let taken: Vec<i64> = sqlx::query_scalar(statements::RECLAIM)
        .bind(keys.pages)
        .bind(keys.bulks)
        .bind(keys.ids)
        .bind(ordinals)
        .bind(seen)
        .bind(first.0)
        .bind(now)
        .bind(sent_by)
        .fetch_all(connection)
        .await?;
    Ok(taken.into_iter().filter_map(|ordinal| usize::try_from(ordinal).ok()).collect())
}

fn row(row: &PgRow) -> Result<Row> {
    Ok(Row {
        ordinal: usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX),
        state: row.try_get(1)?,
        claim: ClaimNumber(row.try_get(2)?),
        is_owned: row.try_get(3)?,
        fingerprint: row.try_get(4)?,
        update_time: row.try_get(5)?,
        outcome: row.try_get(6)?,
        runs: row.try_get::<Option<_>, _>(7)?.unwrap_or_default(),
    })
}

async fn settle(connection: &mut PgConnection, settlements: &[&Settlement]) -> Result<()> {
    let (recorded, released) = split(settlements);
    if !recorded.is_empty() {
        let keys: Keys = recorded.iter().map(|it| it.key).collect();
        sqlx::query(statements::RECORD)
            .bind(keys.pages)
            .bind(keys.bulks)
            .bind(keys.ids)
            .bind(recorded.iter().map(|it| it.claim.0).collect::<Vec<_>>())
            .bind(recorded.iter().map(|it| it.state).collect::<Vec<_>>())
            .bind(recorded.iter().map(|it| it.time_ms).collect::<Vec<_>>())
            .bind(recorded.iter().map(|it| it.outcome.get()).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
    }
    if !released.is_empty() {
        release(connection, &released).await?;
    }
    Ok(())
}

async fn release(connection: &mut PgConnection, released: &[&Settlement]) -> Result<()> {
    let voided = released.iter().filter(|it| matches!(it.end, End::Voided));
    let (keys, numbers): (Vec<_>, Vec<_>) = voided.map(|it| (it.key(), it.claim().0)).unzip();
    if !keys.is_empty() {
        let keys: Keys = keys.into_iter().collect();
        sqlx::query(statements::AWAIT_INSERTS)
            .bind(&keys.pages)
            .bind(&keys.bulks)
            .bind(&keys.ids)
            .bind(numbers)
            .execute(&mut *connection)
            .await?;
        sqlx::query(statements::AWAIT_UPDATES)
            .bind(keys.pages)
            .bind(keys.bulks)
            .bind(keys.ids)
            .execute(&mut *connection)
            .await?;
    }
    let keys: Keys = released.iter().map(|it| it.key()).collect();
    let numbers: Vec<_> = released.iter().map(|it| it.claim().0).collect();
    for statement in [statements::RELEASE_CLAIMED, statements::RELEASE_RECLAIMED] {
        sqlx::query(statement)
            .bind(&keys.pages)
            .bind(&keys.bulks)
            .bind(&keys.ids)
            .bind(&numbers)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
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
        let mut writer = self.writer.lock().await;
        if let Some(mut connection) = writer.take() {
            let work = transaction(&mut connection, first, settlements, claims);
            match within(POSTGRES_TIMEOUT, work).await {
                Ok(claimed) => {
                    *writer = Some(connection);
                    return Ok(claimed);
                }
                // Networks drop connections that were idle, and Postgres ends one of two that deadlock. The same
                // write again, under the same numbers, finds what it has done already.
                Err(error) => tracing::debug!(%error, "writing to the ledger once more"),
            }
        }
        let mut connection = self.address.connect_writer().await?;
        let claimed =
            within(POSTGRES_TIMEOUT, transaction(&mut connection, first, settlements, claims)).await?;
        *writer = Some(connection);
        Ok(claimed)
    }

    async fn find(&self, claims: &[Claim]) -> Result<Vec<Row>> {
        within(POSTGRES_TIMEOUT, async {
            let keys = claims.iter().map(|claim| &claim.key).collect();
            rows(&mut *self.pool.acquire().await?, keys).await
        })
        .await
    }

    async fn bulk(&self, page_id: &str, bulk_id: &str) -> Result<Option<BulkRecord>> {
        let query = sqlx::query_as::<_, Counts>(statements::BULK).bind(page_id).bind(bulk_id);
        let counts = within(POSTGRES_READ_TIMEOUT, async { Ok(query.fetch_all(&self.pool).await?) }).await?;
        Ok(bulk_record(&counts))
    }

    async fn results(&self, query: &ResultsQuery) -> Result<ResultsPage> {
        let rows = sqlx::query_as(statements::RESULTS)
            .bind(&query.page_id)
            .bind(&query.bulk_id)
            .bind(&query.after)
            .bind(query.state.map(|state| state.number()))
            .bind(i64::from(query.limit) + 1);
        let rows = within(POSTGRES_READ_TIMEOUT, async { Ok(rows.fetch_all(&self.pool).await?) }).await?;
        Ok(results_page(rows, query.limit))
    }

    async fn sweep(&self, before_ms: i64) -> Result<bool> {
        let swept = sqlx::query(statements::SWEEP).bind(before_ms).bind(LEDGER_SWEEP_ROWS);
        within(POSTGRES_TIMEOUT, async {
            let swept = swept.execute(&self.pool).await?.rows_affected();
            sqlx::query(statements::SWEEP_OWNERS).execute(&self.pool).await?;
            sqlx::query(statements::SWEEP_SHARES).execute(&self.pool).await?;
            Ok(swept >= LEDGER_SWEEP_ROWS.unsigned_abs())
        })
        .await
    }

    async fn probe(&self) -> Result<()> {
        within(POSTGRES_TIMEOUT, async {
            let mut connection = self.pool.acquire().await?;
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
        let mut connection = within(SHARE_TIMEOUT, async { Ok(self.pool.acquire().await?) }).await?;
        let share = shares::share(&mut connection, self.lease.owner(), SHARE_LEASE, asks);
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
            if let Err(error) = within(POSTGRES_TIMEOUT, async { Ok(end.execute(&self.pool).await?) }).await {
                tracing::warn!(ledger = self.name, %error, "this replica's leases end by themselves");
            }
        }
        if let Some(connection) = self.writer.lock().await.take() {
            drop(connection.close().await);
        }
        drop(tokio::time::timeout(POSTGRES_TIMEOUT, self.pool.close()).await);
    }
}
