//! Reads of whole bulks, which may take long: a few at a time, and one for all who ask for the same bulk meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::Semaphore;

use super::error::{LedgerError, Result};
use super::record::{BulkRecord, ResultsPage, ResultsQuery};
use super::store::Store;
use crate::limits::LEDGER_READS_MAX;

/// Finds the counts of a bulk.
type Count = BoxFuture<'static, Result<Option<BulkRecord>>>;

/// Page and bulk.
type Name = (String, String);

/// Makes reads wait for each other.
#[derive(Clone)]
pub(super) struct Reads(Arc<Inner>);

struct Inner {
    room: Semaphore,
    /// Counts that have not begun yet: whoever joins one sees all that was settled before.
    waiting: Mutex<HashMap<Name, WeakShared<Count>>>,
}

impl Reads {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner { room: Semaphore::new(LEDGER_READS_MAX), waiting: Mutex::default() }))
    }

    /// What is on record of a bulk.
    pub(super) async fn bulk(
        &self,
        store: &Arc<dyn Store>,
        page_id: &str,
        bulk_id: &str,
    ) -> Result<Option<BulkRecord>> {
        self.counts(store, (page_id.to_owned(), bulk_id.to_owned())).await
    }

    fn counts(&self, store: &Arc<dyn Store>, name: Name) -> Shared<Count> {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = waiting.get(&name).and_then(WeakShared::upgrade) {
            return counts;
        }
        // Nobody waits any more for those whose callers have left.
        waiting.retain(|_, counts| counts.upgrade().is_some());
        let (inner, store) = (self.0.clone(), store.clone());
        let key = name.clone();
        let count: Count = async move {
            let _turn = inner.room.acquire().await.map_err(|_| LedgerError::closed())?;
            inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            store.bulk(&name.0, &name.1).await
        }
        .boxed();
        let counts = count.shared();
        waiting.extend(counts.downgrade().map(|counts| (key, counts)));
        counts
    }

    /// A page of a bulk's results. Those of one state may lie far apart.
    pub(super) async fn results(&self, store: &Arc<dyn Store>, query: &ResultsQuery) -> Result<ResultsPage> {
        let _turn = match query.state {
            Some(_) => Some(self.0.room.acquire().await.map_err(|_| LedgerError::closed())?),
            None => None,
        };
        store.results(query).await
    }
}

impl std::fmt::Debug for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reads").field("free", &self.0.room.available_permits()).finish_non_exhaustive()
    }
}
