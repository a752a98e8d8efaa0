//! This replica's lease: as long as it holds, nobody else takes its claims for abandoned.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

use super::super::error::{LedgerError, Result};
use super::statements;

/// A row of `ledger_owner`, renewed for as long as this process lives.
#[derive(Debug)]
pub(super) struct Lease {
    duration: Duration,
    held: Mutex<Held>,
    /// One renewal at a time.
    renewal: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    owner: i64,
    /// When it ends by our clock, which runs ahead of the database's: it counts from before the renewal was asked for.
    until: Instant,
}

impl Lease {
    /// Becomes an owner.
    pub(super) async fn take(connection: &mut PgConnection, duration: Duration) -> Result<Self> {
        let held = Mutex::new(new_owner(connection, duration).await?);
        Ok(Self { duration, held, renewal: tokio::sync::Mutex::default() })
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
        let owner = self.owner();
        let renewed: Option<i64> = sqlx::query_scalar(statements::RENEW)
            .bind(owner)
            .bind(self.duration.as_secs_f64())
            .fetch_optional(&mut *connection)
            .await?;
        let held = match renewed {
            Some(owner) => Held { owner, until: asked + self.duration },
            None => {
                tracing::warn!(
                    "the lease on the ledger had run out: messages under way may be reported as unknown"
                );
                new_owner(connection, self.duration).await?
            }
        };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(())
    }

    fn held(&self) -> Held {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn new_owner(connection: &mut PgConnection, duration: Duration) -> Result<Held> {
    let asked = Instant::now();
    let owner =
        sqlx::query_scalar(statements::NEW_OWNER).bind(duration.as_secs_f64()).fetch_one(connection).await?;
    Ok(Held { owner, until: asked + duration })
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
            held: Mutex::new(Held { owner: 7, until }),
            renewal: tokio::sync::Mutex::default(),
        };
        let running = lease_until(Instant::now() + Duration::from_secs(15));
        assert_eq!(running.check(7), Ok(()));
        assert_eq!(running.check(6), Err(lost()), "a lease that was lost before this one was taken");
        assert_eq!(lease_until(Instant::now()).check(7), Err(lost()));
    }
}
