//! Forgets what is old, by the database's clock, as far as that has run steadily.

use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::statements;
use crate::ledger::clock::{Watch, is_mark_due, millis, tell_jump};
use crate::ledger::error::Result;
use crate::limits::{LEDGER_CLOCK_JUMP, LEDGER_SWEEP_ROWS};

/// Removes some records that are older than the retention. True if there may be more of them.
pub(super) async fn sweep(connection: &mut PgConnection, watch: &Watch, retention: Duration) -> Result<bool> {
    let before = old_before(connection, watch, retention).await?;
    sqlx::query(statements::SWEEP_OWNERS).execute(&mut *connection).await?;
    sqlx::query(statements::SWEEP_SHARES).execute(&mut *connection).await?;
    let Some(before) = before else { return Ok(false) };
    let sweep = sqlx::query(statements::SWEEP).bind(before).bind(LEDGER_SWEEP_ROWS);
    Ok(sweep.execute(connection).await?.rows_affected() >= LEDGER_SWEEP_ROWS.unsigned_abs())
}

/// Before which time of the database's clock claims are old, after taking note of the time. No claim of the last retention,
/// counted by steady clocks, has an earlier time, whatever the database's clock has said since.
async fn old_before(
    connection: &mut PgConnection,
    watch: &Watch,
    retention: Duration,
) -> Result<Option<i64>> {
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    let (uptime_ms, noted_ms, now_ms): (i64, i64, i64) =
        sqlx::query_as(statements::CLOCK).fetch_one(&mut *transaction).await?;
    let (elapsed, jump) = watch.look(now_ms);
    if let Some(jump_ms) = jump {
        tell_jump("the database", jump_ms);
    }
    // Another replica may have counted a part of it.
    let passed_ms = now_ms.saturating_sub(noted_ms).clamp(0, millis(elapsed));
    let uptime_ms = uptime_ms.saturating_add(passed_ms);
    sqlx::query(statements::SET_CLOCK).bind(uptime_ms).bind(now_ms).execute(&mut *transaction).await?;
    let last_mark_ms = sqlx::query_scalar(statements::LAST_MARK).fetch_one(&mut *transaction).await?;
    let is_behind = noted_ms.saturating_sub(now_ms) > millis(LEDGER_CLOCK_JUMP);
    let went_back = is_behind || jump.is_some_and(|jump_ms| jump_ms < 0);
    if went_back || is_mark_due(last_mark_ms, uptime_ms, retention) {
        // When it went back is not known, only that it was since the last look.
        let lowest_ms = if went_back { now_ms.saturating_sub(millis(elapsed)) } else { now_ms };
        sqlx::query(statements::SET_MARK).bind(uptime_ms).bind(lowest_ms).execute(&mut *transaction).await?;
    }
    let old_ms = uptime_ms.saturating_sub(millis(retention));
    let before =
        sqlx::query_scalar(statements::LOWEST_TIME).bind(old_ms).fetch_one(&mut *transaction).await?;
    sqlx::query(statements::SWEEP_MARKS).bind(old_ms).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(before)
}
