//! The ledger in a SQLite file of this process alone.
//!
//! One connection writes, one makes short reads, one makes those that may be long, in WAL mode: neither holds up another. A
//! process numbers its claims from where the last one ended: every claim of an earlier process is unknown at once, however
//! many there are. What is old is told by those numbers too, not by a clock that may be wrong.

mod open;
mod place;
mod statements;
mod sweep;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row as _};
use tokio::sync::Mutex;

use self::place::Place;
use self::sweep::Sweep;
use super::clock::Watch;
use super::error::{LedgerError, Result};
use super::json::{Hex, Numbered, grouped, json};
use super::origin::Origin;
use super::record::{
    BulkRecord, Claim, ClaimNumber, Claimed, Key, ResultsPage, ResultsQuery, Settlement, now_ms,
};
use super::rows::{Counts, bulk_record, parts, record, results_page};
use super::store::{Decision, Row, Store, all_new, carry_out, decide, split};
use super::transfer::Record;
use crate::limits::{LEDGER_WRITE_ROWS_MAX, SQLITE_LOOK_INTERVAL};

/// A SQLite file.
#[derive(Debug)]
pub(super) struct SqliteStore {
    name: String,
    /// Claims with lower numbers are those of earlier processes.
    first_claim: i64,
    next_claim: AtomicI64,
    /// This process, among all that had the file open.
    owner: i64,
    /// The file, until it is closed.
    place: SyncMutex<Option<Place>>,
    writer: Mutex<Option<Writer>>,
    finder: Mutex<Option<SqliteConnection>>,
    counter: Mutex<Option<SqliteConnection>>,
}

#[derive(Debug)]
struct Writer {
    connection: SqliteConnection,
    sweep: Sweep,
}

impl SqliteStore {
    /// Opens a file and creates it if need be.
    pub(super) async fn open(name: &str, path: &Path, origin: &Origin) -> Result<Self> {
        let opened = open::open(path, origin).await?;
        let sweep = Sweep::new(Watch::new(now_ms()));
        Ok(Self {
            name: name.to_owned(),
            first_claim: opened.first_claim,
            next_claim: AtomicI64::new(opened.first_claim),
            owner: opened.owner,
            place: SyncMutex::new(Some(opened.place)),
            writer: Mutex::new(Some(Writer { connection: opened.writer, sweep })),
            finder: Mutex::new(Some(opened.finder)),
            counter: Mutex::new(Some(opened.counter)),
        })
    }

    /// Fails if the file is not where it was opened.
    fn check_place(&self) -> Result<()> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.as_ref().map_or_else(|| Err(LedgerError::closed()), Place::check)
    }

    /// Fails if another process has taken the file, past its lock.
    async fn check_owner(&self, connection: &mut SqliteConnection) -> Result<()> {
        let owner: i64 = sqlx::query_scalar("SELECT owner FROM ledger_meta").fetch_one(connection).await?;
        if owner == self.owner { Ok(()) } else { Err(taken()) }
    }

    async fn rows(&self, connection: &mut SqliteConnection, claims: &[Claim]) -> Result<Vec<Row>> {
        let keys: Vec<_> =
            claims.iter().enumerate().map(|(ordinal, claim)| row(&claim.key, None, ordinal)).collect();
        let rows = sqlx::query(statements::FIND).bind(grouped(&keys)?).fetch_all(connection).await?;
        rows.iter().map(|row| self.row(row)).collect()
    }

    fn row(&self, row: &SqliteRow) -> Result<Row> {
        let claim = ClaimNumber(row.try_get(2)?);
        Ok(Row {
            ordinal: usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX),
            state: row.try_get(1)?,
            claim,
            is_owned: claim.0 >= self.first_claim,
            fingerprint: row.try_get(3)?,
            update_time: row.try_get(4)?,
            outcome: row.try_get(5)?,
            runs: row.try_get::<Option<_>, _>(6)?.unwrap_or_default(),
        })
    }

    /// What claims got, of which a write found some to be there already.
    async fn decide(
        &self,
        connection: &mut SqliteConnection,
        first: ClaimNumber,
        claims: &[Claim],
        now: i64,
    ) -> Result<Vec<Claimed>> {
        let decisions = decide(claims, self.rows(connection, claims).await?, first);
        let reclaims =
            claims.iter().zip(&decisions).enumerate().filter_map(|(ordinal, (claim, decision))| {
                let Decision::Reclaim { runs, .. } = decision else { return None };
                Some(row(&claim.key, Some(runs), ordinal))
            });
        let rows: Vec<_> = reclaims.collect();
        if !rows.is_empty() {
            let reclaim = sqlx::query(statements::RECLAIM).bind(grouped(&rows)?).bind(first.0).bind(now);
            let taken_over = reclaim.bind(self.owner).execute(connection).await?.rows_affected();
            if taken_over != rows.len() as u64 {
                return Err(taken());
            }
        }
        Ok(carry_out(claims, decisions, first, |_| true))
    }
}

/// A row of the groups of ids that `statements` reads.
fn row<'a, V>(key: &'a Key, runs: Option<&'a [u8]>, value: V) -> (Head<'a>, &'a str, V) {
    ((&key.page_id, &key.bulk_id, runs.map(Hex)), &key.id, value)
}

/// What neighbouring rows share: page, bulk, runs.
type Head<'a> = (&'a str, &'a str, Option<Hex<'a>>);

/// Settlements as [`statements::WRITE`] wants them: those that leave a record, and those that release a claim.
fn settled(settlements: &[&Settlement], now: i64) -> Result<[String; 2]> {
    let (recorded, released) = split(settlements);
    let recorded: Vec<_> =
        recorded.iter().map(|it| ((it.state, it.time_ms.unwrap_or(now)), it.claim.0, it.outcome)).collect();
    let released: Vec<_> = released.iter().map(|it| it.claim().0).collect();
    Ok([grouped(&recorded)?, json(&released)?])
}

/// The error of a process that is not the owner any more.
fn taken() -> LedgerError {
    LedgerError::passing(
        "another process has taken the file over: nothing is sent here any more. Stop one of the two",
    )
}

/// A connection that is in use, or the word that the ledger is closed.
fn opened<T>(connection: &mut Option<T>) -> Result<&mut T> {
    connection.as_mut().ok_or_else(LedgerError::closed)
}

#[async_trait]
impl Store for SqliteStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn next_claim(&self, claims: usize) -> ClaimNumber {
        ClaimNumber(self.next_claim.fetch_add(claims as i64, Ordering::Relaxed))
    }

    fn check(&self, _claim: ClaimNumber) -> Result<()> {
        self.check_place()
    }

    async fn write(
        &self,
        first: ClaimNumber,
        settlements: &[&Settlement],
        claims: &[Claim],
    ) -> Result<Vec<Claimed>> {
        let now = now_ms();
        let [recorded, released] = settled(settlements, now)?;
        let rows: Vec<_> = claims
            .iter()
            .enumerate()
            .map(|(ordinal, claim)| {
                row(
                    &claim.key,
                    claim.resend.as_ref().map(|run| &run.0[..]),
                    Numbered(&claim.fingerprint, ordinal),
                )
            })
            .collect();
        let claimed = grouped(&rows)?;
        let mut guard = self.writer.lock().await;
        let connection = &mut opened(&mut guard)?.connection;
        let write = sqlx::query_scalar::<_, i64>(statements::WRITE)
            .bind(recorded)
            .bind(released)
            .bind(claimed)
            .bind(first.0)
            .bind(now)
            .bind(self.owner);
        match write.fetch_all(&mut *connection).await {
            Ok(inserted) if inserted == [claims.len() as i64] => Ok(all_new(claims, first)),
            // Nobody else writes: what is there now was there then.
            Ok(_) => self.decide(connection, first, claims, now).await,
            Err(error) => {
                // Fails if SQLite has rolled back already.
                drop(sqlx::query("ROLLBACK").execute(&mut *connection).await);
                self.check_owner(connection).await?;
                Err(error.into())
            }
        }
    }

    async fn find(&self, claims: &[Claim]) -> Result<Vec<Row>> {
        let mut guard = self.finder.lock().await;
        self.rows(opened(&mut guard)?, claims).await
    }

    async fn bulk(&self, page_id: &str, bulk_id: &str) -> Result<Option<BulkRecord>> {
        let mut guard = self.counter.lock().await;
        let query = sqlx::query_as::<_, Counts>(statements::BULK).bind(page_id).bind(bulk_id);
        let counts = query.bind(self.first_claim).fetch_all(opened(&mut guard)?).await?;
        Ok(bulk_record(&counts))
    }

    async fn results(&self, query: &ResultsQuery) -> Result<ResultsPage> {
        // Those of one state may lie far apart.
        let connection = if query.state.is_some() { &self.counter } else { &self.finder };
        let mut guard = connection.lock().await;
        let rows = sqlx::query_as(statements::RESULTS)
            .bind(&query.page_id)
            .bind(&query.bulk_id)
            .bind(self.first_claim)
            .bind(&query.after)
            .bind(query.state.map(|state| state.number()))
            .bind(i64::from(query.limit) + 1)
            .fetch_all(opened(&mut guard)?)
            .await?;
        Ok(results_page(rows, query.limit))
    }

    async fn sweep(&self, retention: Duration) -> Result<bool> {
        let mut guard = self.writer.lock().await;
        let Writer { connection, sweep } = opened(&mut guard)?;
        let next_claim = self.next_claim.load(Ordering::Relaxed);
        sweep.step(connection, self.owner, [self.first_claim, next_claim], retention).await
    }

    async fn rename_page(&self, from: &str, to: &str) -> Result<u64> {
        let mut renamed = 0;
        loop {
            // Claims need not wait for all of it.
            let mut guard = self.writer.lock().await;
            let rename = sqlx::query(statements::RENAME_PAGE).bind(from).bind(to);
            let rename = rename.bind(LEDGER_WRITE_ROWS_MAX as i64).bind(self.first_claim);
            match rename.execute(&mut opened(&mut guard)?.connection).await?.rows_affected() {
                0 => return Ok(renamed),
                rows => renamed += rows,
            }
        }
    }

    async fn origin(&self) -> Result<Option<String>> {
        let mut guard = self.finder.lock().await;
        let origin = sqlx::query_scalar("SELECT origin FROM ledger_meta");
        Ok(origin.fetch_one(opened(&mut guard)?).await?)
    }

    async fn export(&self, after: Option<&Key>, limit: u32) -> Result<Vec<Record>> {
        let mut guard = self.counter.lock().await;
        let [page_id, bulk_id, id] = parts(after);
        let export = sqlx::query_as(statements::EXPORT).bind(page_id).bind(bulk_id).bind(id).bind(limit);
        Ok(export.fetch_all(opened(&mut guard)?).await?.into_iter().map(record).collect())
    }

    async fn import(&self, records: &[Record]) -> Result<u64> {
        let first = self.next_claim(records.len());
        let mut guard = self.writer.lock().await;
        let mut transaction = opened(&mut guard)?.connection.begin().await?;
        let mut new = 0;
        for (ordinal, it) in records.iter().enumerate() {
            let import = sqlx::query(statements::IMPORT)
                .bind(first.nth(ordinal).0)
                .bind(&*it.key.page_id)
                .bind(&*it.key.bulk_id)
                .bind(&*it.key.id)
                .bind(&it.fingerprint)
                .bind(it.state)
                .bind(it.claim_time)
                .bind(it.update_time)
                .bind(&it.outcome)
                .bind(&it.runs);
            new += import.execute(&mut *transaction).await?.rows_affected();
        }
        transaction.commit().await?;
        Ok(new)
    }

    async fn look(&self) -> Result<()> {
        self.check_place()
    }

    /// Writes and removes 64 KiB: a file that takes a few bytes may still be too full for claims.
    async fn probe(&self) -> Result<()> {
        self.check_place()?;
        let mut guard = self.writer.lock().await;
        let writer = &mut opened(&mut guard)?.connection;
        self.check_owner(writer).await?;
        sqlx::query("UPDATE ledger_probe SET filler = zeroblob(65536)").execute(&mut *writer).await?;
        sqlx::query("UPDATE ledger_probe SET filler = NULL").execute(writer).await?;
        Ok(())
    }

    fn heartbeat(&self) -> Option<Duration> {
        Some(SQLITE_LOOK_INTERVAL)
    }

    async fn close(&self) {
        for reader in [&self.finder, &self.counter] {
            if let Some(reader) = reader.lock().await.take() {
                drop(reader.close().await);
            }
        }
        if let Some(Writer { mut connection, .. }) = self.writer.lock().await.take() {
            let closed = "UPDATE ledger_meta SET path = NULL WHERE owner = $1";
            drop(sqlx::query(closed).bind(self.owner).execute(&mut connection).await);
            if let Err(error) = connection.close().await {
                tracing::warn!(ledger = self.name, %error, "the ledger did not close well");
            }
        }
        // The lock goes last.
        drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[cfg(test)]
mod tests;
