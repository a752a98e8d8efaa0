//! Which file it is, whatever it is called: it is locked, and looked for as long as it is open.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::error::{LedgerError, Result};

/// The file, locked for this process. The lock is of the kind that SQLite has no use for, so neither disturbs the other,
/// and nobody is kept from looking into the file with the `sqlite3` command.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Closed after SQLite has closed its own: closing any of them takes away SQLite's locks.
    file: File,
    log_path: PathBuf,
    /// Which file the log is; SQLite keeps it as long as the database is open.
    log: Option<(u64, u64)>,
}

impl Place {
    /// Creates the file if need be, and locks it by whatever name.
    pub(super) fn lock(path: &Path) -> Result<Self> {
        let cannot = |what: &str, error: std::io::Error| {
            LedgerError::passing(format!("cannot {what} {}: {error}", path.display()))
        };
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
        let file = file.map_err(|error| cannot("write", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // Should it be this process that has it open, closing the file would take SQLite's locks away.
                std::mem::forget(file);
                return Err(LedgerError::passing(
                    "the file is in use: is another messenger-connector using it? Replicas share a ledger through \
                     postgres",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(cannot("lock", error)),
        }
        let path = path.canonicalize().map_err(|error| cannot("find", error))?;
        let mut log_path = path.clone().into_os_string();
        log_path.push("-wal");
        Ok(Self { path, file, log_path: log_path.into(), log: None })
    }

    /// The name of the file, without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// True if SQLite's log lies beside the file.
    pub(super) fn has_log(&self) -> bool {
        self.log_path.metadata().is_ok_and(|log| log.len() > 0)
    }

    /// Remembers the log of the open database.
    pub(super) fn note_log(&mut self) {
        self.log = self.log_path.metadata().ok().map(|log| identity(&log));
    }

    /// Fails if the file, or its log, is not where it was opened: whoever opens that name next would not find what is
    /// written here.
    pub(super) fn check(&self) -> Result<()> {
        let here = |path: &Path| path.metadata().ok().map(|found| identity(&found));
        let is_there =
            here(&self.path).is_some_and(|here| self.file.metadata().is_ok_and(|it| identity(&it) == here));
        if is_there && (self.log.is_none() || here(&self.log_path) == self.log) {
            return Ok(());
        }
        Err(LedgerError::passing(
            "the file, or its -wal beside it, was moved, removed or replaced while it was in use: put it back, or start \
             again with what there is now",
        ))
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
