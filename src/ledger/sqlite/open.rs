//! Opens the file: locks it, migrates it, and becomes its owner.

use std::path::Path;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};

use super::super::MIGRATIONS_TABLE;
use super::super::error::{LedgerError, Result};
use super::super::origin::Origin;
use super::super::record::now_ms;
use super::place::Place;
use crate::limits::{LEDGER_CLOCK_JUMP, SQLITE_BUSY_TIMEOUT};

/// The open file.
pub(super) struct Opened {
    pub(super) place: Place,
    pub(super) writer: SqliteConnection,
    /// For short reads.
    pub(super) finder: SqliteConnection,
    /// For reads that may take long.
    pub(super) counter: SqliteConnection,
    /// This process, among all that had the file open.
    pub(super) owner: i64,
    /// A number above those of all claims in the file.
    pub(super) first_claim: i64,
}

pub(super) async fn open(path: &Path, origin: &Origin) -> Result<Opened> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder
        && !folder.is_dir()
    {
        return Err(LedgerError::passing(format!(
            "the folder {} does not exist: create it",
            folder.display()
        )));
    }
    let mut place = Place::lock(path)?;
    let has_log = place.has_log();
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(SQLITE_BUSY_TIMEOUT)
        // No temporary files: they cost time, and a container may have no folder for them.
        .pragma("temp_store", "memory")
        .disable_statement_logging();
    let mut writer = connect_writer(&options).await?;
    sqlx::migrate!("src/ledger/migrations/sqlite")
        .dangerous_set_table_name(MIGRATIONS_TABLE)
        .run(&mut writer)
        .await?;
    check_meta(&mut writer, &place, has_log, origin).await?;
    let name = place.path().to_string_lossy();
    let owner = sqlx::query_scalar("UPDATE ledger_meta SET owner = owner + 1, path = $1 RETURNING owner")
        .bind(&*name)
        .fetch_one(&mut writer)
        .await?;
    // Whoever finds the file without its log must see who had it.
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut writer).await?;
    // A probe that was broken off may have left it full.
    sqlx::query("UPDATE ledger_probe SET filler = NULL").execute(&mut writer).await?;
    let first_claim = sqlx::query_scalar("SELECT coalesce(max(claim), 0) + 1 FROM ledger_message")
        .fetch_one(&mut writer)
        .await?;
    place.note_log();
    let options = options.read_only(true);
    let (finder, counter) = (options.connect().await?, options.connect().await?);
    Ok(Opened { place, writer, finder, counter, owner, first_claim })
}

async fn connect_writer(options: &SqliteConnectOptions) -> Result<SqliteConnection> {
    let writer = options
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
        .pragma("journal_size_limit", "67108864");
    Ok(writer.connect().await?)
}

/// Reads what the file says of itself, and refuses one that would forget, or that is of another Graph.
async fn check_meta(
    writer: &mut SqliteConnection,
    place: &Place,
    has_log: bool,
    origin: &Origin,
) -> Result<()> {
    let (path, time_ms, known): (Option<String>, i64, Option<String>) =
        sqlx::query_as("SELECT path, time_ms, origin FROM ledger_meta").fetch_one(&mut *writer).await?;
    if let Some(path) = path.filter(|path| **path != *place.path().to_string_lossy() && !has_log) {
        return Err(LedgerError::passing(format!(
            "the process that had it last died, and used it as {path}: its last records are in {path}-wal. Start once \
             with that name, or move both files together"
        )));
    }
    let behind_ms = time_ms.saturating_sub(now_ms());
    if behind_ms > i64::try_from(LEDGER_CLOCK_JUMP.as_millis()).unwrap_or(i64::MAX) {
        tracing::error!(
            behind_s = behind_ms / 1000,
            "the clock is behind the one that the ledger was last used with: times on record may be wrong"
        );
    }
    if let Some(origin) = origin.settle(known.as_deref())? {
        sqlx::query("UPDATE ledger_meta SET origin = $1").bind(origin).execute(writer).await?;
    }
    Ok(())
}
