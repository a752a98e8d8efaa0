//! This replica's lease: as long as it holds, nobody else takes its claims for abandoned.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

use super::super::error::{LedgerError, Result};
use super::super::record::{ClaimNumber, End, Key, Settlement, State};
use super::statements;
use crate::telemetry::metrics::Metrics;

/// A row of `ledger_owner`, renewed for as long as this process lives.
#[derive(Debug)]
pub(super) struct Lease {
    duration: Duration,
    held: Mutex<Held>,
    witness: Mutex<Option<Witness>>,
    /// Told of databases that went back.
    metrics: Metrics,
    /// One renewal at a time.
    renewal: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    owner: i64,
    /// How often it was renewed, as far as the database has said that this is on disk.
    renewals: i64,
    /// When it ends by our clock, which runs ahead of the database's: it counts from before the renewal was asked for.
    until: Instant,
}

impl Lease {
    /// Becomes an owner.
    pub(super) async fn take(
        connection: &mut PgConnection,
        duration: Duration,
        metrics: Metrics,
    ) -> Result<Self> {
        let held = Mutex::new(new_owner(connection, duration).await?);
        let (witness, renewal) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { duration, held, witness, metrics, renewal })
    }

    pub(super) fn duration(&self) -> Duration {
        self.duration
    }

    pub(super) fn owner(&self) -> i64 {
        self.held().owner
    }

    /// Fails if `owner` may count as gone by now.
    pub(super) fn check(&self, owner: i64) -> Result<()> {
        let held = self.held();
        if held.owner == owner && Instant::now() < held.until { Ok(()) } else { Err(lost()) }
    }

    /// Renews it, or takes a new one if it has ended: claims of the old one stay unknown to others until they are
    /// settled.
    pub(super) async fn renew(&self, connection: &mut PgConnection) -> Result<()> {
        let _renewal = self.renewal.lock().await;
        let asked = Instant::now();
        let before = self.held();
        self.check_history_of(before, connection).await?;
        let renewed: Option<i64> = sqlx::query_scalar(statements::RENEW)
            .bind(before.owner)
            .bind(self.duration.as_secs_f64())
            .fetch_optional(&mut *connection)
            .await?;
        let held = match renewed {
            Some(renewals) => Held { owner: before.owner, renewals, until: asked + self.duration },
            None => {
                tracing::warn!(
                    "the lease on the ledger had run out: messages under way may be reported as unknown"
                );
                let held = new_owner(connection, self.duration).await?;
                if held.owner <= before.owner {
                    return Err(self.went_back(connection, before.owner).await);
                }
                held
            }
        };
        self.hold(held);
        Ok(())
    }

    /// Fails if the database does not know what it has told this process to be on disk. Claims of before count for nothing
    /// then: this process becomes another owner.
    pub(super) async fn check_history(&self, connection: &mut PgConnection) -> Result<()> {
        let _renewal = self.renewal.lock().await;
        self.check_history_of(self.held(), connection).await
    }

    async fn check_history_of(&self, held: Held, connection: &mut PgConnection) -> Result<()> {
        let renewals: Option<i64> = sqlx::query_scalar(statements::RENEWALS)
            .bind(held.owner)
            .fetch_optional(&mut *connection)
            .await?;
        let is_known = match renewals {
            // The renewals tell nothing of what was written since the last of them.
            Some(renewals) => renewals >= held.renewals && self.is_witnessed_by(held, connection).await?,
            // It is removed when it has expired, which it has not.
            None => held.until <= Instant::now(),
        };
        if is_known { Ok(()) } else { Err(self.went_back(connection, held.owner).await) }
    }

    /// Keeps in mind what the database has said to be on disk.
    pub(super) fn note(&self, settlements: &[&Settlement]) {
        if let Some(witness) = Witness::of(settlements) {
            *self.witness.lock().unwrap_or_else(PoisonError::into_inner) = Some(witness);
        }
    }

    /// True if the database knows the last record that was written since this renewal, if there is one.
    async fn is_witnessed_by(&self, held: Held, connection: &mut PgConnection) -> Result<bool> {
        let witness = self.witness.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(witness) = witness.filter(|witness| witness.time + self.duration > held.until) else {
            return Ok(true);
        };
        let is_known = sqlx::query_scalar(statements::IS_RECORDED)
            .bind(&*witness.key.page_id)
            .bind(&*witness.key.bulk_id)
            .bind(&*witness.key.id)
            .bind(witness.claim.0);
        Ok(is_known.fetch_one(connection).await?)
    }

    /// Says so, and becomes an owner whose number no process has that knows more than the database.
    async fn went_back(&self, connection: &mut PgConnection, owner: i64) -> LedgerError {
        tracing::error!(
            "the database has gone back to an earlier state, as a failover to a replica that was behind or a restored \
             backup does: claims and outcomes that it had confirmed since are lost, and their messages may be sent again"
        );
        self.metrics.ledger_went_back();
        let skipped = sqlx::query(statements::SKIP_OWNERS).bind(owner).execute(&mut *connection).await;
        let held = match skipped {
            Ok(_) => new_owner(connection, self.duration).await,
            Err(error) => Err(error.into()),
        };
        match held {
            Ok(held) => self.hold(held),
            // Whoever asks next finds the same.
            Err(error) => return error,
        }
        LedgerError::passing(
            "the database has gone back to an earlier state: claims of before do not hold any more",
        )
    }

    fn hold(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    fn held(&self) -> Held {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record that stays, the last one that the database has said to be on disk: what went back knows it no more than what
/// was written after it.
#[derive(Clone, Debug)]
struct Witness {
    key: Key,
    claim: ClaimNumber,
    time: Instant,
}

impl Witness {
    /// What is unknown may be somebody else's by now.
    fn of(settlements: &[&Settlement]) -> Option<Self> {
        let stays =
            |it: &&&Settlement| matches!(it.end, End::Recorded { state: State::Sent | State::Failed, .. });
        let last = settlements.iter().rev().find(stays)?;
        Some(Self { key: last.key().clone(), claim: last.claim(), time: Instant::now() })
    }
}

async fn new_owner(connection: &mut PgConnection, duration: Duration) -> Result<Held> {
    let asked = Instant::now();
    let owner =
        sqlx::query_scalar(statements::NEW_OWNER).bind(duration.as_secs_f64()).fetch_one(connection).await?;
    Ok(Held { owner, renewals: 0, until: asked + duration })
}

/// The error of an owner that is none any more.
pub(super) fn lost() -> LedgerError {
    LedgerError::passing(
        "this replica could not renew its lease in time, so others may take its claims for abandoned",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_whose_lease_still_runs_may_send() {
        let lease_until = |until| Lease {
            duration: Duration::from_secs(15),
            held: Mutex::new(Held { owner: 7, renewals: 0, until }),
            witness: Mutex::default(),
            metrics: Metrics::default(),
            renewal: tokio::sync::Mutex::default(),
        };
        let running = lease_until(Instant::now() + Duration::from_secs(15));
        assert_eq!(running.check(7), Ok(()));
        assert_eq!(running.check(6), Err(lost()), "a lease that was lost before this one was taken");
        assert_eq!(lease_until(Instant::now()).check(7), Err(lost()));
    }
}
