//! The ledger in a SQLite file of this process alone.
//!
//! One connection writes, one reads, in WAL mode: a long read never holds up a claim. A new owner number at each start
//! makes every claim of an earlier process unknown at once, however many there are.

mod open;
mod statements;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row as _};
use tokio::sync::Mutex;

use super::error::{LedgerError, Result};
use super::json::{Hex, grouped};
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
    owner: i64,
    writes: AtomicU64,
    writer: Mutex<Option<Writer>>,
    reader: Mutex<Option<SqliteConnection>>,
}

#[derive(Debug)]
struct Writer {
    connection: SqliteConnection,
    /// Page, bulk and id of the last row that the sweep has looked at; empty before it begins anew.
    swept_to: (String, String, String),
    _lock: File,
}

impl SqliteStore {
    /// Opens a file and creates it if need be.
    pub(super) async fn open(name: &str, path: &Path) -> Result<Self> {
        let opened = open::open(path).await?;
        let writer = Writer { connection: opened.writer, swept_to: Default::default(), _lock: opened.lock };
        Ok(Self {
            name: name.to_owned(),
            owner: opened.owner,
            writes: AtomicU64::default(),
            writer: Mutex::new(Some(writer)),
            reader: Mutex::new(Some(opened.reader)),
        })
    }

    /// Claims with lower numbers are those of earlier processes.
    fn first_claim(&self) -> i64 {
        ClaimNumber::new(self.owner, 0).0
    }

    async fn rows(&self, connection: &mut SqliteConnection, claims: &[Claim]) -> Result<Vec<Row>> {
        let keys: Vec<_> =
            claims.iter().enumerate().map(|(ordinal, claim)| row(&claim.key, ordinal)).collect();
        let rows = sqlx::query(statements::FIND).bind(grouped(&keys)?).fetch_all(connection).await?;
        rows.iter().map(|row| self.row(row)).collect()
    }

    fn row(&self, row: &SqliteRow) -> Result<Row> {
        let claim = ClaimNumber(row.try_get(2)?);
        Ok(Row {
            ordinal: usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX),
            state: row.try_get(1)?,
            claim,
            is_owned: claim.owner() == self.owner,
            fingerprint: row.try_get(3)?,
            update_time: row.try_get(4)?,
            outcome: row.try_get(5)?,
        })
    }

    async fn claim(
        &self,
        connection: &mut SqliteConnection,
        number: ClaimNumber,
        claims: &[Claim],
    ) -> Result<Vec<Claimed>> {
        let now = now_ms();
        let rows: Vec<_> = claims.iter().map(|claim| row(&claim.key, Hex(&claim.fingerprint))).collect();
        let inserted = sqlx::query(statements::CLAIM)
            .bind(grouped(&rows)?)
            .bind(number.0)
            .bind(now)
            .execute(&mut *connection)
            .await?;
        if inserted.rows_affected() == claims.len() as u64 {
            return Ok(all_new(claims, number));
        }
        let verdicts = judge(claims, self.rows(connection, claims).await?, number);
        let is_reclaim = |verdict: &Verdict| matches!(verdict, Verdict::Reclaim(_));
        let reclaims = claims.iter().zip(&verdicts).filter(|(_, verdict)| is_reclaim(verdict));
        let rows: Vec<_> = reclaims.map(|(claim, _)| row(&claim.key, 0)).collect();
        if !rows.is_empty() {
            let reclaim = sqlx::query(statements::RECLAIM).bind(grouped(&rows)?).bind(number.0).bind(now);
            reclaim.execute(connection).await?;
        }
        Ok(carry_out(claims, verdicts, number, |_| true))
    }
}

/// A row of the groups that `statements` reads.
fn row<V>(key: &Key, value: V) -> ((&str, &str), &str, V) {
    ((&*key.page_id, &*key.bulk_id), &*key.id, value)
}

async fn settle(connection: &mut SqliteConnection, settlements: &[&Settlement]) -> Result<()> {
    let (recorded, released) = split(settlements);
    if !recorded.is_empty() {
        let rows: Vec<_> = recorded
            .iter()
            .map(|it| {
                let head = (&*it.key.page_id, &*it.key.bulk_id, it.claim.0, it.state, it.time_ms);
                (head, &*it.key.id, it.outcome)
            })
            .collect();
        sqlx::query(statements::RECORD).bind(grouped(&rows)?).execute(&mut *connection).await?;
    }
    if !released.is_empty() {
        let rows: Vec<_> = released
            .iter()
            .map(|it| ((&*it.key.page_id, &*it.key.bulk_id, it.claim.0), &*it.key.id, 0))
            .collect();
        let rows = grouped(&rows)?;
        sqlx::query(statements::RELEASE_CLAIMED).bind(&rows).execute(&mut *connection).await?;
        sqlx::query(statements::RELEASE_RECLAIMED).bind(&rows).execute(connection).await?;
    }
    Ok(())
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

    fn next_claim(&self) -> ClaimNumber {
        ClaimNumber::new(self.owner, self.writes.fetch_add(1, Ordering::Relaxed))
    }

    fn check(&self, _claim: ClaimNumber) -> Result<()> {
        Ok(())
    }

    async fn write(
        &self,
        claim: ClaimNumber,
        settlements: &[&Settlement],
        claims: &[Claim],
    ) -> Result<Vec<Claimed>> {
        let mut guard = self.writer.lock().await;
        let writer = opened(&mut guard)?;
        let mut transaction = writer.connection.begin_with("BEGIN IMMEDIATE").await?;
        settle(&mut transaction, settlements).await?;
        let claimed = match claims {
            [] => Vec::new(),
            claims => self.claim(&mut transaction, claim, claims).await?,
        };
        transaction.commit().await?;
        Ok(claimed)
    }

    async fn find(&self, claims: &[Claim]) -> Result<Vec<Row>> {
        let mut guard = self.reader.lock().await;
        self.rows(opened(&mut guard)?, claims).await
    }

    async fn bulk(&self, page_id: &str, bulk_id: &str) -> Result<Option<BulkRecord>> {
        let mut guard = self.reader.lock().await;
        let reader = opened(&mut guard)?;
        let query = sqlx::query_as::<_, Counts>(statements::BULK);
        let counts = query.bind(page_id).bind(bulk_id).bind(self.first_claim()).fetch_all(reader).await?;
        Ok(bulk_record(&counts))
    }

    async fn results(&self, query: &ResultsQuery) -> Result<ResultsPage> {
        let mut guard = self.reader.lock().await;
        let rows = sqlx::query_as(statements::RESULTS)
            .bind(&query.page_id)
            .bind(&query.bulk_id)
            .bind(self.first_claim())
            .bind(&query.after)
            .bind(query.state.map(|state| state.number()))
            .bind(i64::from(query.limit) + 1)
            .fetch_all(opened(&mut guard)?)
            .await?;
        Ok(results_page(rows, query.limit))
    }

    /// Walks the table, some rows at a time: an index on the time would cost every claim more than that.
    async fn sweep(&self, before_ms: i64) -> Result<bool> {
        let mut guard = self.writer.lock().await;
        let Writer { connection, swept_to, .. } = opened(&mut guard)?;
        let (page_id, bulk_id, id) = std::mem::take(swept_to);
        let to: Option<(String, String, String)> = sqlx::query_as(statements::SWEEP_TO)
            .bind(&page_id)
            .bind(&bulk_id)
            .bind(&id)
            .bind(LEDGER_SWEEP_ROWS)
            .fetch_optional(&mut *connection)
            .await?;
        sqlx::query(statements::SWEEP)
            .bind(page_id)
            .bind(bulk_id)
            .bind(id)
            .bind(to.as_ref().map(|to| &to.0))
            .bind(to.as_ref().map(|to| &to.1))
            .bind(to.as_ref().map(|to| &to.2))
            .bind(before_ms)
            .bind(self.first_claim())
            .execute(connection)
            .await?;
        let has_more = to.is_some();
        *swept_to = to.unwrap_or_default();
        Ok(has_more)
    }

    /// Writes and removes 64 KiB: a file that takes a few bytes may still be too full for claims.
    async fn probe(&self) -> Result<()> {
        let mut guard = self.writer.lock().await;
        let writer = &mut opened(&mut guard)?.connection;
        sqlx::query("UPDATE ledger_owner SET filler = zeroblob(65536)").execute(&mut *writer).await?;
        sqlx::query("UPDATE ledger_owner SET filler = NULL").execute(writer).await?;
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
