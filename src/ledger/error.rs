//! What the ledger says when it cannot do its work.

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

/// Why the ledger could not answer. Its sentence names the ledger without a password, and holds no content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerError {
    message: String,
    kind: Kind,
}

/// What trying again would bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Success, once the database is well again.
    Passing,
    /// Success, right now: another process was in the way.
    Conflict,
    /// The same.
    Refusal,
}

/// What the ledger's own functions return.
pub(super) type Result<T> = std::result::Result<T, LedgerError>;

impl LedgerError {
    /// Something that may pass: a full disk, a database that is away.
    pub(crate) fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Kind::Passing }
    }

    /// The database did not take these very values, and never will.
    pub(super) fn refusal(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Kind::Refusal }
    }

    pub(super) fn closed() -> Self {
        Self::passing("the ledger is closed")
    }

    /// The same, saying which ledger it is about.
    pub(super) fn at(self, name: &str) -> Self {
        Self { message: format!("ledger {name}: {}", self.message), ..self }
    }

    /// True if the same values cannot succeed later either.
    pub(super) fn is_refusal(&self) -> bool {
        self.kind == Kind::Refusal
    }

    /// True if the database ended one of several transactions that stood in each other's way: the others are done by now.
    pub(super) fn is_conflict(&self) -> bool {
        self.kind == Kind::Conflict
    }
}

impl std::fmt::Display for LedgerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LedgerError {}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error::{Configuration, Database, Io, PoolTimedOut};
        if let Database(database) = &error {
            if let Some(sqlite) = database.try_downcast_ref::<SqliteError>() {
                return of_sqlite(sqlite);
            }
            if let Some(postgres) = database.try_downcast_ref::<PgDatabaseError>() {
                return of_postgres(postgres);
            }
        }
        if let Io(error) = &error {
            return Self::passing(format!("the database cannot be reached: {error}"));
        }
        if matches!(error, PoolTimedOut) {
            return Self::passing("the database did not answer in time");
        }
        if matches!(error, Configuration(_)) {
            // Its text may quote the address, password included.
            return Self::passing("the address is not valid");
        }
        Self::passing(error.to_string())
    }
}

impl From<MigrateError> for LedgerError {
    fn from(error: MigrateError) -> Self {
        if let MigrateError::VersionMissing(version) = error {
            return Self::passing(format!(
                "it was written by a newer version of messenger-connector (its migration {version} is not known here)"
            ));
        }
        if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
            return error.into();
        }
        Self::passing(format!("cannot migrate: {error}"))
    }
}

/// SQLite's result codes: <https://www.sqlite.org/rescode.html>. The low byte is the primary one.
fn of_sqlite(error: &SqliteError) -> LedgerError {
    use sqlx::error::DatabaseError;
    let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default();
    let hint = match code & 0xff {
        5 | 6 => "another process has locked the file",
        8 => "the file cannot be written: check its permissions",
        10 => "the disk reports an error",
        11 | 26 => "the file is damaged, or no ledger at all",
        13 => "the disk is full: free some space",
        14 => "the file cannot be opened: check that its folder exists and may be written",
        18..=20 => return LedgerError::refusal(format!("sqlite does not take a row (code {code})")),
        _ => return LedgerError::passing(format!("{} (sqlite code {code})", error.message())),
    };
    LedgerError::passing(format!("{hint} (sqlite code {code})"))
}

/// Postgres' codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>. The message of a data error
/// may quote a value.
fn of_postgres(error: &PgDatabaseError) -> LedgerError {
    let code = error.code();
    if matches!(code, "40001" | "40P01") {
        let message = format!("replicas stood in each other's way (postgres code {code})");
        return LedgerError { message, kind: Kind::Conflict };
    }
    match code.get(..2) {
        Some("22" | "23") => LedgerError::refusal(format!("postgres does not take a row (code {code})")),
        _ => LedgerError::passing(format!("{} (postgres code {code})", error.message())),
    }
}
