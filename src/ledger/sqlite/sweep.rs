//! Forgets what is old, step by step, counting time by the steady clocks of the processes that had the file open.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;

use super::super::clock::{Watch, is_mark_due, millis, tell_jump};
use super::super::error::Result;
use super::super::record::now_ms;
use super::statements;
use super::taken;
use crate::limits::LEDGER_SWEEP_ROWS;

/// A walk through the claims, from the oldest on.
#[derive(Debug)]
pub(super) struct Sweep {
    watch: Watch,
    /// The last claim that was looked at; 0 before the walk begins anew.
    swept_to: i64,
    /// Where it ends: claims before this one are old.
    before: i64,
}

impl Sweep {
    pub(super) fn new(watch: Watch) -> Self {
        Self { watch, swept_to: 0, before: 0 }
    }

    /// Takes one step. `claims` are this process's first and next one. True if another step should follow soon.
    pub(super) async fn step(
        &mut self,
        connection: &mut SqliteConnection,
        owner: i64,
        [first_claim, next_claim]: [i64; 2],
        retention: Duration,
    ) -> Result<bool> {
        let after = std::mem::take(&mut self.swept_to);
        if after == 0 {
            self.before = self.old_before(connection, owner, next_claim, retention).await?;
        }
        let (to, rows): (Option<i64>, i64) = sqlx::query_as(statements::SWEEP_TO)
            .bind(after)
            .bind(self.before)
            .bind(LEDGER_SWEEP_ROWS)
            .fetch_one(&mut *connection)
            .await?;
        let Some(to) = to else { return Ok(false) };
        let sweep = sqlx::query(statements::SWEEP).bind(after).bind(to).bind(first_claim).bind(owner);
        sweep.execute(connection).await?;
        let has_more = rows == LEDGER_SWEEP_ROWS;
        if has_more {
            self.swept_to = to;
        }
        Ok(has_more)
    }

    /// The first claim that is not old, after taking note of the time.
    async fn old_before(
        &self,
        connection: &mut SqliteConnection,
        owner: i64,
        next_claim: i64,
        retention: Duration,
    ) -> Result<i64> {
        let now = now_ms();
        let (elapsed, jump) = self.watch.look(now);
        if let Some(jump_ms) = jump {
            tell_jump("this machine", jump_ms);
        }
        let add = sqlx::query_scalar(statements::ADD_UPTIME).bind(millis(elapsed)).bind(now).bind(owner);
        let uptime_ms: i64 = add.fetch_optional(&mut *connection).await?.ok_or_else(taken)?;
        let last_mark_ms = sqlx::query_scalar(statements::LAST_MARK).fetch_one(&mut *connection).await?;
        if is_mark_due(last_mark_ms, uptime_ms, retention) {
            sqlx::query(statements::SET_MARK)
                .bind(uptime_ms)
                .bind(next_claim)
                .execute(&mut *connection)
                .await?;
        }
        let old_ms = uptime_ms.saturating_sub(millis(retention));
        let before =
            sqlx::query_scalar(statements::CLAIM_AT).bind(old_ms).fetch_one(&mut *connection).await?;
        sqlx::query(statements::SWEEP_MARKS).bind(old_ms).execute(connection).await?;
        Ok(before)
    }
}
