//! Copies all records of one ledger into another, such as those of a file into the database that replicas share.

use std::path::Path;
use std::sync::Arc;

use super::error::{LedgerError, Result};
use super::record::{Claim, Key, State};
use super::store::{Row, Store};
use super::{Options, Origin, open_store};
use crate::limits::LEDGER_COPY_ROWS;

/// A row as it is copied: nobody has it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) key: Key,
    pub(super) fingerprint: Vec<u8>,
    pub(super) state: i64,
    pub(super) claim_time: i64,
    pub(super) update_time: i64,
    pub(super) outcome: Option<String>,
    pub(super) runs: Option<Vec<u8>>,
}

impl Record {
    /// Not settled by whoever had it, who is gone: nobody knows what became of it.
    pub(super) fn settled(self) -> Self {
        Self { state: State::of_number(self.state).number(), ..self }
    }

    fn is_like(&self, row: &Row) -> bool {
        State::of_number(row.state).number() == self.state
            && (row.update_time, &row.outcome) == (self.update_time, &self.outcome)
            && row.fingerprint == self.fingerprint
    }
}

/// What a copy came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Records that are new in the target.
    pub records: u64,
    /// Records that it had already.
    pub known: u64,
}

/// Copies all records from one ledger to another one, which is made if need be. Nobody may use either meanwhile. What was
/// not settled is unknown in the target. Copying again changes nothing.
///
/// # Errors
/// If a ledger cannot be opened or is in use, if they are of different Graphs, or if the target says something else of a
/// message. What was copied before that stays.
pub async fn copy(from: &str, to: &str) -> std::result::Result<Copied, LedgerError> {
    if is_missing_file(from) {
        return Err(LedgerError::passing("there is no such file").at(from));
    }
    let source = open_alone(from, Origin::default()).await?;
    let copied = copy_from(&*source, to).await;
    source.close().await;
    copied
}

async fn copy_from(source: &dyn Store, to: &str) -> Result<Copied> {
    let origin = source.origin().await.map_err(|error| error.at(source.name()))?;
    let target = open_alone(to, Origin::default()).await?;
    let known = target.origin().await;
    let is_same = known.as_ref().is_ok_and(|known| known.is_none() || origin.is_none() || *known == origin);
    if !is_same {
        target.close().await;
        let [theirs, ours] = [known.map_err(|error| error.at(to))?, origin].map(Option::unwrap_or_default);
        return Err(LedgerError::passing(format!(
            "its records are of the graph at {theirs}, and those to copy of {ours}: copy them into another ledger"
        ))
        .at(target.name()));
    }
    target.close().await;
    let target = open_alone(to, Origin { origin, adopts: false }).await?;
    let copied = copy_records(source, &*target).await;
    target.close().await;
    copied
}

async fn copy_records(source: &dyn Store, target: &dyn Store) -> Result<Copied> {
    let mut copied = Copied::default();
    let mut after: Option<Key> = None;
    loop {
        let records = source.export(after.as_ref(), LEDGER_COPY_ROWS).await;
        let records = records.map_err(|error| error.at(source.name()))?;
        let Some(last) = records.last() else { return Ok(copied) };
        after = Some(last.key.clone());
        let new = target.import(&records).await.map_err(|error| error.at(target.name()))?;
        let known = records.len() as u64 - new;
        if known > 0 {
            compare(target, &records).await.map_err(|error| error.at(target.name()))?;
        }
        copied.records += new;
        copied.known += known;
    }
}

/// Fails if the target says something else of these messages.
async fn compare(target: &dyn Store, records: &[Record]) -> Result<()> {
    let claim = |record: &Record| Claim { key: record.key.clone(), fingerprint: [0; 16], resend: None };
    let rows = target.find(&records.iter().map(claim).collect::<Vec<_>>()).await?;
    let like = rows.iter().filter(|row| records.get(row.ordinal).is_some_and(|record| record.is_like(row)));
    match records.len() - like.count() {
        0 => Ok(()),
        others => Err(LedgerError::passing(format!(
            "it says something else of {others} of the messages to copy: they were sent by both, and nothing is overwritten"
        ))),
    }
}

/// Opens a ledger that nobody else uses.
async fn open_alone(url: &str, origin: Origin) -> Result<Arc<dyn Store>> {
    let options = Options { origin: origin.origin, adopts_origin: origin.adopts, ..Options::default() };
    let store = open_store(url, &options).await?;
    let others = store.other_owners().await.map_err(|error| error.at(store.name()));
    match others {
        Ok(0) => Ok(store),
        Ok(_) => {
            let error = LedgerError::passing("a service is using it: stop it first").at(store.name());
            store.close().await;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

fn is_missing_file(url: &str) -> bool {
    url.strip_prefix("sqlite://").is_some_and(|path| !path.is_empty() && !Path::new(path).exists())
}
