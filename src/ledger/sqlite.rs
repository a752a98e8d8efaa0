//! The ledger in a SQLite file of this process alone.
//!
//! One connection writes, one reads, in WAL mode: a long read never holds up a claim. A process numbers its claims from
//! where the last one ended: every claim of an earlier process is unknown at once, however many there are.

mod open;
mod statements;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row as _};
use tokio::sync::Mutex;

use super::error::{LedgerError, Result};
use super::json::{Hex, Numbered, grouped, json};
use super::record::{
    BulkRecord, Claim, ClaimNumber, Claimed, Key, ResultsPage, ResultsQuery, Settlement, now_ms,
};
use super::rows::{Counts, bulk_record, results_page};
use super::store::{Row, Store, Verdict, all_new, carry_out, judge, split};
use crate::limits::LEDGER_SWEEP_ROWS;

/// A SQLite file.
#[derive(Debug)]
pub(super) struct SqliteStore {
    name: String,
    /// Claims with lower numbers are those of earlier processes.
    first_claim: i64,
    next_claim: AtomicI64,
    writer: Mutex<Option<Writer>>,
    reader: Mutex<Option<SqliteConnection>>,
}

#[derive(Debug)]
struct Writer {
    connection: SqliteConnection,
    /// The last claim that the sweep has looked at; 0 before it begins anew.
    swept_to: i64,
    _lock: File,
}

impl SqliteStore {
    /// Opens a file and creates it if need be.
    pub(super) async fn open(name: &str, path: &Path) -> Result<Self> {
        let opened = open::open(path).await?;
        let writer = Writer { connection: opened.writer, swept_to: 0, _lock: opened.lock };
        Ok(Self {
            name: name.to_owned(),
            first_claim: opened.first_claim,
            next_claim: AtomicI64::new(opened.first_claim),
            writer: Mutex::new(Some(writer)),
            reader: Mutex::new(Some(opened.reader)),
        })
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
    async fn judge(
        &self,
        connection: &mut SqliteConnection,
        first: ClaimNumber,
        claims: &[Claim],
        now: i64,
    ) -> Result<Vec<Claimed>> {
        let verdicts = judge(claims, self.rows(connection, claims).await?, first);
        let reclaims = claims.iter().zip(&verdicts).enumerate().filter_map(|(ordinal, (claim, verdict))| {
            let Verdict::Reclaim { runs, .. } = verdict else { return None };
            Some(row(&claim.key, Some(runs), ordinal))
        });
        let rows: Vec<_> = reclaims.collect();
        if !rows.is_empty() {
            let reclaim = sqlx::query(statements::RECLAIM).bind(grouped(&rows)?).bind(first.0).bind(now);
            reclaim.execute(connection).await?;
        }
        Ok(carry_out(claims, verdicts, first, |_| true))
    }
}

/// A row of the groups of ids that `statements` reads.
fn row<'a, V>(key: &'a Key, runs: Option<&'a [u8]>, value: V) -> (Head<'a>, &'a str, V) {
    ((&key.page_id, &key.bulk_id, runs.map(Hex)), &key.id, value)
}

/// What neighbouring rows share: page, bulk, runs.
type Head<'a> = (&'a str, &'a str, Option<Hex<'a>>);

/// Settlements as [`statements::WRITE`] wants them: those that leave a record, and those that release a claim.
fn settled(settlements: &[&Settlement]) -> Result<[String; 2]> {
    let (recorded, released) = split(settlements);
    let recorded: Vec<_> =
        recorded.iter().map(|it| ((it.state, it.time_ms), it.claim.0, it.outcome)).collect();
    let released: Vec<_> = released.iter().map(|it| it.claim().0).collect();
    Ok([grouped(&recorded)?, json(&released)?])
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
        Ok(())
    }

    async fn write(
        &self,
        first: ClaimNumber,
        settlements: &[&Settlement],
        claims: &[Claim],
    ) -> Result<Vec<Claimed>> {
        let [recorded, released] = settled(settlements)?;
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
        let (claimed, now) = (grouped(&rows)?, now_ms());
        let mut guard = self.writer.lock().await;
        let connection = &mut opened(&mut guard)?.connection;
        let write = sqlx::query_scalar::<_, i64>(statements::WRITE)
            .bind(recorded)
            .bind(released)
            .bind(claimed)
            .bind(first.0)
            .bind(now);
        match write.fetch_all(&mut *connection).await {
            Ok(inserted) if inserted == [claims.len() as i64] => Ok(all_new(claims, first)),
            // Nobody else writes: what is there now was there then.
            Ok(_) => self.judge(connection, first, claims, now).await,
            Err(error) => {
                // Fails if SQLite has rolled back already.
                drop(sqlx::query("ROLLBACK").execute(connection).await);
                Err(error.into())
            }
        }
    }

    async fn find(&self, claims: &[Claim]) -> Result<Vec<Row>> {
        let mut guard = self.reader.lock().await;
        self.rows(opened(&mut guard)?, claims).await
    }

    async fn bulk(&self, page_id: &str, bulk_id: &str) -> Result<Option<BulkRecord>> {
        let mut guard = self.reader.lock().await;
        let reader = opened(&mut guard)?;
        let query = sqlx::query_as::<_, Counts>(statements::BULK);
        let counts = query.bind(page_id).bind(bulk_id).bind(self.first_claim).fetch_all(reader).await?;
        Ok(bulk_record(&counts))
    }

    async fn results(&self, query: &ResultsQuery) -> Result<ResultsPage> {
        let mut guard = self.reader.lock().await;
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

    async fn sweep(&self, before_ms: i64) -> Result<bool> {
        let mut guard = self.writer.lock().await;
        let Writer { connection, swept_to, .. } = opened(&mut guard)?;
        let after = std::mem::take(swept_to);
        let (to, has_more): (Option<i64>, Option<bool>) = sqlx::query_as(statements::SWEEP_TO)
            .bind(after)
            .bind(LEDGER_SWEEP_ROWS)
            .bind(before_ms)
            .bind(now_ms())
            .fetch_one(&mut *connection)
            .await?;
        let Some(to) = to.filter(|_| has_more == Some(true)) else { return Ok(false) };
        let sweep =
            sqlx::query(statements::SWEEP).bind(after).bind(to).bind(before_ms).bind(self.first_claim);
        sweep.execute(connection).await?;
        *swept_to = to;
        Ok(true)
    }

    /// Writes and removes 64 KiB: a file that takes a few bytes may still be too full for claims.
    async fn probe(&self) -> Result<()> {
        let mut guard = self.writer.lock().await;
        let writer = &mut opened(&mut guard)?.connection;
        sqlx::query("UPDATE ledger_probe SET filler = zeroblob(65536)").execute(&mut *writer).await?;
        sqlx::query("UPDATE ledger_probe SET filler = NULL").execute(writer).await?;
        Ok(())
    }

    fn heartbeat(&self) -> Option<Duration> {
        None
    }

    async fn close(&self) {
        if let Some(reader) = self.reader.lock().await.take() {
            drop(reader.close().await);
        }
        // The lock goes last.
        if let Some(Writer { connection, _lock, .. }) = self.writer.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(ledger = self.name, %error, "the ledger did not close well");
        }
    }
}

#[cfg(test)]
mod tests;
