//! Where a ledger lives during a test, and the ways to get at it from the side.

use std::time::Duration;

use messenger_connector::ledger::{Ledger, Options};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::postgres::{self, Wire};

/// An empty database for a ledger, removed with the test.
pub struct Place {
    pub url: String,
    database: Database,
}

enum Database {
    Sqlite { _folder: tempfile::TempDir, locked_by: Option<SqliteConnection> },
    Postgres { direct_url: String, wire: Wire },
}

impl Place {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/ledger.db", folder.path().display());
        Self { url, database: Database::Sqlite { _folder: folder, locked_by: None } }
    }

    pub async fn postgres() -> Self {
        let direct = postgres::new_database().await;
        let (wire, url) = Wire::to(&direct).await;
        Self { url: url.into(), database: Database::Postgres { direct_url: direct.into(), wire } }
    }

    /// The ledger, with options under which a test need not wait.
    pub async fn open(&self) -> Ledger {
        self.open_with(Options { retry_interval: Duration::from_millis(20), ..Options::default() }).await
    }

    pub async fn open_with(&self, options: Options) -> Ledger {
        Ledger::open(&self.url, options).await.unwrap()
    }

    /// Runs a statement behind the ledger's back.
    pub async fn execute(&self, statement: &str) {
        let statement = AssertSqlSafe(statement);
        match &self.database {
            Database::Sqlite { .. } => {
                SqliteConnection::connect(&self.url).await.unwrap().execute(statement).await.map(drop)
            }
            Database::Postgres { direct_url, .. } => {
                PgConnection::connect(direct_url).await.unwrap().execute(statement).await.map(drop)
            }
        }
        .unwrap();
    }

    /// The number that a query returns.
    pub async fn number(&self, query: &str) -> i64 {
        let query = AssertSqlSafe(query);
        match &self.database {
            Database::Sqlite { .. } => {
                let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(query).fetch_one(&mut connection).await
            }
            Database::Postgres { direct_url, .. } => {
                let mut connection = PgConnection::connect(direct_url).await.unwrap();
                sqlx::query_scalar(query).fetch_one(&mut connection).await
            }
        }
        .unwrap()
    }

    /// Makes all that was claimed so far an hour older, by the ledger's own count of time.
    pub async fn age(&self) {
        self.execute("UPDATE ledger_message SET claim_time = claim_time - 3600000").await;
        let mark = match &self.database {
            Database::Sqlite { .. } => {
                "INSERT INTO ledger_mark SELECT uptime_ms - 3600000, (SELECT max(claim) + 1 FROM ledger_message)
                FROM ledger_meta"
            }
            Database::Postgres { .. } => {
                "INSERT INTO ledger_mark SELECT -3600000, time_ms FROM ledger_mark WHERE uptime_ms = 0"
            }
        };
        self.execute(mark).await;
    }

    /// Makes the clock jump by so many milliseconds: all times of before are that much earlier. What knows no clock stays.
    pub async fn jump(&self, milliseconds: i64) {
        let mut statements = vec![
            format!("UPDATE ledger_message SET claim_time = claim_time - {milliseconds}"),
            format!("UPDATE ledger_meta SET time_ms = time_ms - {milliseconds}"),
        ];
        if matches!(self.database, Database::Postgres { .. }) {
            statements.push(format!("UPDATE ledger_mark SET time_ms = time_ms - {milliseconds}"));
        }
        for statement in statements {
            self.execute(&statement).await;
        }
    }

    /// The SQLite file.
    pub fn path(&self) -> std::path::PathBuf {
        self.url.strip_prefix("sqlite://").unwrap().into()
    }

    /// Begins a transaction on Postgres, does a statement, and leaves it there.
    pub async fn begin(&self, statement: &str) -> PgConnection {
        let Database::Postgres { direct_url, .. } = &self.database else { panic!("only on Postgres") };
        let mut connection = PgConnection::connect(direct_url).await.unwrap();
        connection.execute("BEGIN").await.unwrap();
        connection.execute(AssertSqlSafe(statement)).await.unwrap();
        connection
    }

    /// Makes the database unusable: locked by someone else, or out of reach.
    pub async fn go_away(&mut self) {
        match &mut self.database {
            Database::Sqlite { locked_by, .. } => {
                let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
                connection.execute("BEGIN IMMEDIATE").await.unwrap();
                *locked_by = Some(connection);
            }
            Database::Postgres { wire, .. } => wire.cut(),
        }
    }

    pub async fn come_back(&mut self) {
        match &mut self.database {
            Database::Sqlite { locked_by, .. } => {
                locked_by.take().unwrap().execute("ROLLBACK").await.map(drop).unwrap();
            }
            Database::Postgres { wire, .. } => wire.mend(),
        }
    }
}

/// Runs each test on a place of either kind.
macro_rules! on_both_stores {
    ($($test:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::ledger_place::Place::sqlite()).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::ledger_place::Place::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both_stores;

/// Waits until `is_so` holds, for something that says no word when it happens.
pub async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it does not happen");
}
