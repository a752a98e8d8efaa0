//! Connections to Postgres: how they are set up, and the migrations.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};

use super::super::MIGRATIONS_TABLE;
use super::super::error::{LedgerError, Result};
use super::super::origin::Origin;
use super::write::Writers;
use crate::limits::{POSTGRES_READ_TIMEOUT, POSTGRES_TIMEOUT};

/// How to reach one database.
#[derive(Clone, Debug)]
pub(super) struct Address(PgConnectOptions);

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)?.disable_statement_logging();
        // Compiling a plan takes longer than any of our statements.
        Ok(Self(options.application_name("messenger-connector").options([("jit", "off")])))
    }

    /// Connections for claims and settlements.
    pub(super) async fn connect_writers(&self) -> Result<Writers> {
        // A claim must outlive a power cut, or a message could be sent twice.
        let (lasting, joining) = tokio::try_join!(self.connect_writer("on"), self.connect_writer("off"))?;
        Ok(Writers { lasting, joining })
    }

    async fn connect_writer(&self, synchronous_commit: &str) -> Result<PgConnection> {
        let timeout_ms = POSTGRES_TIMEOUT.as_millis().to_string();
        let options = self.0.clone().options([
            ("statement_timeout", timeout_ms.as_str()),
            // A replica that stops in the middle of a transaction must not hold its keys for ever.
            ("idle_in_transaction_session_timeout", timeout_ms.as_str()),
            ("synchronous_commit", synchronous_commit),
            // Groups seek each key in turn, whatever the statistics of a table that has just begun to grow say.
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_seqscan", "off"),
        ]);
        within(POSTGRES_TIMEOUT, async { Ok(options.connect().await?) }).await
    }

    /// At most so many connections, whose statements may take so long. They are made when they are needed.
    pub(super) fn pool(&self, connections_max: u32, timeout: Duration) -> PgPool {
        let timeout_ms = timeout.as_millis().to_string();
        let options = self.0.clone().options([
            ("statement_timeout", timeout_ms.as_str()),
            // What a database has confirmed to a lease tells whether it has gone back since.
            ("synchronous_commit", "on"),
            // A replica that stops while it takes its shares must not keep others from taking theirs.
            ("idle_in_transaction_session_timeout", timeout_ms.as_str()),
        ]);
        PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(POSTGRES_TIMEOUT)
            .connect_lazy_with(options)
    }

    /// Brings the tables up to date; replicas that start together do so one after the other. Refuses the records of another
    /// Graph.
    pub(super) async fn migrate(&self, origin: &Origin) -> Result<()> {
        let mut connection = within(POSTGRES_TIMEOUT, async { Ok(self.0.connect().await?) }).await?;
        within(POSTGRES_READ_TIMEOUT, async {
            // Takes an advisory lock.
            sqlx::migrate!("src/ledger/migrations/postgres")
                .dangerous_set_table_name(MIGRATIONS_TABLE)
                .run(&mut connection)
                .await?;
            check_origin(&mut connection, origin).await
        })
        .await?;
        Ok(connection.close().await?)
    }
}

async fn check_origin(connection: &mut PgConnection, origin: &Origin) -> Result<()> {
    let mut transaction = connection.begin().await?;
    let known: Option<String> =
        sqlx::query_scalar("SELECT origin FROM ledger_meta FOR UPDATE").fetch_one(&mut *transaction).await?;
    if let Some(origin) = origin.settle(known.as_deref())? {
        sqlx::query("UPDATE ledger_meta SET origin = $1").bind(origin).execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}

/// What `work` brings, if it does so in time.
pub(super) async fn within<T>(timeout: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let answer = tokio::time::timeout(timeout, work).await;
    answer.unwrap_or_else(|_| Err(LedgerError::passing("the database did not answer in time")))
}
