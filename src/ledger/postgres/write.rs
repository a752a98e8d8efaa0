//! Settles and claims: each statement is a transaction of its own, over rows in the order of their keys.

use std::collections::HashSet;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row as _};

use super::{lease, owner, statements};
use crate::ledger::error::Result;
use crate::ledger::record::{Claim, ClaimNumber, Claimed, End, Key, Settlement};
use crate::ledger::store::{Decision, Recorded, Row, all_new, carry_out, decide, split};
use crate::ledger::transfer::Record;

/// The connections of the writing task.
#[derive(Debug)]
pub(super) struct Writers {
    /// Commits at once.
    pub(super) lasting: PgConnection,
    /// Commits with the next commit of the other one, for one flush of the disk.
    pub(super) joining: PgConnection,
}

/// The arrays of keys that every statement over rows begins with.
#[derive(Default)]
pub(super) struct Keys<'a> {
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

/// Settles, then claims. All of it is on disk when it returns.
pub(super) async fn write(
    writers: &mut Writers,
    first: ClaimNumber,
    settlements: &[&Settlement],
    claims: &[Claim],
) -> Result<Vec<Claimed>> {
    let (mut recorded, mut released) = split(settlements);
    released.sort_unstable_by_key(|it| it.key());
    if !released.is_empty() {
        release(&mut writers.lasting, &released).await?;
    }
    recorded.sort_unstable_by_key(|it| it.key);
    if claims.is_empty() {
        record(&mut writers.lasting, &recorded).await?;
        return Ok(Vec::new());
    }
    record(&mut writers.joining, &recorded).await?;
    let claimed = claim(&mut writers.lasting, first, claims).await?;
    let has_flushed = claimed.iter().any(|claimed| matches!(claimed, Claimed::New(_)));
    if !recorded.is_empty() && !has_flushed {
        // A transaction that has changed nothing flushes nothing.
        sqlx::query(statements::FLUSH).bind(owner(first)).execute(&mut writers.lasting).await?;
    }
    Ok(claimed)
}

async fn claim(connection: &mut PgConnection, first: ClaimNumber, claims: &[Claim]) -> Result<Vec<Claimed>> {
    let mut ordered: Vec<_> = (0_i64..).zip(claims).collect();
    ordered.sort_by_key(|(_, claim)| &claim.key);
    let keys: Keys = ordered.iter().map(|(_, claim)| &claim.key).collect();
    let inserted = sqlx::query(statements::CLAIM)
        .bind(&keys.pages)
        .bind(&keys.bulks)
        .bind(&keys.ids)
        .bind(ordered.iter().map(|(_, claim)| &claim.fingerprint[..]).collect::<Vec<_>>())
        .bind(first.0)
        .bind(runs(&ordered))
        .bind(ordered.iter().map(|(ordinal, _)| *ordinal).collect::<Vec<_>>())
        .bind(owner(first))
        .execute(&mut *connection)
        .await?
        .rows_affected();
    if inserted == claims.len() as u64 {
        return Ok(all_new(claims, first));
    }
    if inserted == 0 {
        let is_owner = sqlx::query_scalar(statements::IS_OWNER).bind(owner(first));
        if !is_owner.fetch_one(&mut *connection).await? {
            return Err(lease::lost());
        }
    }
    let keys = claims.iter().map(|claim| &claim.key).collect();
    let decisions = decide(claims, rows(connection, keys).await?, first);
    let taken = reclaim(connection, first, claims, &decisions).await?;
    Ok(carry_out(claims, decisions, first, |ordinal| taken.contains(&ordinal)))
}

/// The runs of claims, most of which have none: then no array of nulls is sent.
fn runs<'a>(claims: &[(i64, &'a Claim)]) -> Vec<Option<&'a [u8]>> {
    if claims.iter().all(|(_, claim)| claim.resend.is_none()) {
        return Vec::new();
    }
    claims.iter().map(|(_, claim)| claim.resend.as_ref().map(|run| &run.0[..])).collect()
}

/// The rows of these keys.
pub(super) async fn rows(connection: &mut PgConnection, keys: Keys<'_>) -> Result<Vec<Row>> {
    let find = sqlx::query(statements::FIND).bind(keys.pages).bind(keys.bulks).bind(keys.ids);
    find.fetch_all(connection).await?.iter().map(row).collect()
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

/// Takes over unknown messages and returns which; another replica may have been faster.
async fn reclaim(
    connection: &mut PgConnection,
    first: ClaimNumber,
    claims: &[Claim],
    decisions: &[Decision],
) -> Result<HashSet<usize>> {
    let wanted = (0_i64..).zip(claims.iter().zip(decisions)).filter_map(|(ordinal, (claim, decision))| {
        let Decision::Reclaim { from, runs } = decision else { return None };
        Some((&claim.key, ordinal, from.0, &runs[..]))
    });
    let mut wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        return Ok(HashSet::new());
    }
    wanted.sort_unstable_by_key(|(key, ..)| *key);
    let keys: Keys = wanted.iter().map(|(key, ..)| *key).collect();
    let taken: Vec<i64> = sqlx::query_scalar(statements::RECLAIM)
        .bind(keys.pages)
        .bind(keys.bulks)
        .bind(keys.ids)
        .bind(wanted.iter().map(|(_, ordinal, ..)| *ordinal).collect::<Vec<_>>())
        .bind(wanted.iter().map(|(_, _, from, _)| *from).collect::<Vec<_>>())
        .bind(first.0)
        .bind(wanted.iter().map(|(.., runs)| *runs).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(taken.into_iter().filter_map(|ordinal| usize::try_from(ordinal).ok()).collect())
}

async fn record(connection: &mut PgConnection, recorded: &[Recorded<'_>]) -> Result<()> {
    if recorded.is_empty() {
        return Ok(());
    }
    let record = |statement: &'static str| {
        let keys: Keys = recorded.iter().map(|it| it.key).collect();
        sqlx::query(statement)
            .bind(keys.pages)
            .bind(keys.bulks)
            .bind(keys.ids)
            .bind(recorded.iter().map(|it| it.claim.0).collect::<Vec<_>>())
            .bind(recorded.iter().map(|it| it.state).collect::<Vec<_>>())
            .bind(recorded.iter().map(|it| it.time_ms).collect::<Vec<_>>())
            .bind(recorded.iter().map(|it| it.outcome.get()).collect::<Vec<_>>())
    };
    let found = record(statements::RECORD).execute(&mut *connection).await?.rows_affected();
    if found == recorded.len() as u64 {
        return Ok(());
    }
    // Some were recorded already, or are another's by now; or the database has gone back behind their claims.
    let fingerprints: Vec<_> = recorded.iter().map(|it| &it.fingerprint[..]).collect();
    let lost = record(statements::RECORD_LOST).bind(fingerprints).execute(connection).await?.rows_affected();
    if lost > 0 {
        tracing::error!(
            outcomes = lost,
            "the database had lost the claims of messages that were being sent: it has gone back. Their outcomes are on \
             record all the same"
        );
    }
    Ok(())
}

async fn release(connection: &mut PgConnection, released: &[&Settlement]) -> Result<()> {
    if released.iter().any(|it| matches!(it.end, End::Voided)) {
        // What is inserted for the wait must not be seen.
        let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        await_others(&mut transaction, released).await?;
        release_rows(&mut transaction, released).await?;
        return Ok(transaction.commit().await?);
    }
    release_rows(connection, released).await
}

/// Waits for transactions of earlier connections that may still be claiming what is voided.
async fn await_others(connection: &mut PgConnection, released: &[&Settlement]) -> Result<()> {
    let voided = released.iter().filter(|it| matches!(it.end, End::Voided));
    let (keys, numbers): (Vec<_>, Vec<_>) = voided.map(|it| (it.key(), it.claim().0)).unzip();
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
        .execute(connection)
        .await?;
    Ok(())
}

async fn release_rows(connection: &mut PgConnection, released: &[&Settlement]) -> Result<()> {
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

/// Takes records over that another ledger had, and returns how many were new.
pub(super) async fn import(connection: &mut PgConnection, records: &[Record]) -> Result<u64> {
    let keys: Keys = records.iter().map(|it| &it.key).collect();
    let import = sqlx::query(statements::IMPORT)
        .bind(keys.pages)
        .bind(keys.bulks)
        .bind(keys.ids)
        .bind(records.iter().map(|it| &it.fingerprint[..]).collect::<Vec<_>>())
        .bind(records.iter().map(|it| it.state).collect::<Vec<_>>())
        .bind(records.iter().map(|it| it.claim_time).collect::<Vec<_>>())
        .bind(records.iter().map(|it| it.update_time).collect::<Vec<_>>())
        .bind(records.iter().map(|it| it.outcome.as_deref()).collect::<Vec<_>>())
        .bind(records.iter().map(|it| it.runs.as_deref()).collect::<Vec<_>>());
    Ok(import.execute(connection).await?.rows_affected())
}
