//! Opens the file: locks it, migrates it, and becomes its owner.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};

use super::super::MIGRATIONS_TABLE;
use super::super::error::{LedgerError, Result};
use crate::limits::SQLITE_BUSY_TIMEOUT;

/// The open file.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) writer: SqliteConnection,
    pub(super) reader: SqliteConnection,
    /// A number above those of all claims in the file.
    pub(super) first_claim: i64,
}

pub(super) async fn open(path: &Path) -> Result<Opened> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder
        && !folder.is_dir()
    {
        return Err(LedgerError::passing(format!(
            "the folder {} does not exist: create it",
            folder.display()
        )));
    }
    let lock = lock(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(SQLITE_BUSY_TIMEOUT)
        // No temporary files: they cost time, and a container may have no folder for them.
        .pragma("temp_store", "memory")
        .disable_statement_logging();
    let mut writer = options
        .clone()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A claim must outlive a power cut, or a message could be sent twice.
        .synchronous(SqliteSynchronous::Full)
        // A message's row has some 200 bytes: larger pages have fewer levels and splits above them.
        .page_size(8192)
        // 8 MiB. A larger one costs memory and, for keys that come in order, even time.
        .pragma("cache_size", "-8192")
        // Checkpoints after 16 MiB: random keys touch the same pages again and again.
        .pragma("wal_autocheckpoint", "2048")
        // What a checkpoint that was held up let the log grow to is given back.
        .pragma("journal_size_limit", "67108864")
        .connect()
        .await?;
    sqlx::migrate!("src/ledger/migrations/sqlite")
        .dangerous_set_table_name(MIGRATIONS_TABLE)
        .run(&mut writer)
        .await?;
    // A probe that was broken off may have left it full.
    sqlx::query("UPDATE ledger_probe SET filler = NULL").execute(&mut writer).await?;
    let first_claim = sqlx::query_scalar("SELECT coalesce(max(claim), 0) + 1 FROM ledger_message")
        .fetch_one(&mut writer)
        .await?;
    let reader = options.read_only(true).connect().await?;
    Ok(Opened { lock, writer, reader, first_claim })
}

/// Locks the file for this process. SQLite's own exclusive mode would keep our reading connection out, and whoever
/// looks into the file with the `sqlite3` command.
fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let name = PathBuf::from(name);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name);
    let file =
        file.map_err(|error| LedgerError::passing(format!("cannot write {}: {error}", name.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::passing(
            "the file is in use: is another messenger-connector using it? Replicas share a ledger through postgres",
        )),
        Err(TryLockError::Error(error)) => {
            Err(LedgerError::passing(format!("cannot lock {}: {error}", name.display())))
        }
    }
}
