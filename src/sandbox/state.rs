//! All the sandbox remembers: counts, pages, the messages it keeps, and the scripted faults.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::RawValue;

use super::credential::TokenSource;
use super::ids::Ids;
use super::options::Options;
use super::page::Page;
use super::script::Script;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) ids: Ids,
    pub(crate) counters: Counters,
    script: Mutex<Arc<Script>>,
    pages: Mutex<HashMap<String, Arc<Page>>>,
    kept: Mutex<VecDeque<Arc<KeptMessage>>>,
}

/// Counts of the whole sandbox.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) plain_calls: AtomicU64,
    pub(crate) batch_calls: AtomicU64,
    pub(crate) batch_items: AtomicU64,
    pub(crate) probes: AtomicU64,
    pub(crate) uploads: AtomicU64,
    pub(crate) same_recipient_batches: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) open_connections: AtomicU64,
}

/// Adds one to a counter.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    fn clear(&self) {
        // Open connections stay open, so their number stays.
        for counter in [
            &self.calls,
            &self.plain_calls,
            &self.batch_calls,
            &self.batch_items,
            &self.probes,
            &self.uploads,
            &self.same_recipient_batches,
            &self.connections,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// A delivered message as `GET /sandbox/messages` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct KeptMessage {
    pub(crate) page_id: String,
    pub(crate) version: String,
    /// Absent for sender actions, which have none.
    pub(crate) message_id: Option<String>,
    pub(crate) in_batch: bool,
    /// Milliseconds since the Unix epoch.
    pub(crate) received_at: u64,
    /// As JSON text, a tenth of the size of parsed JSON.
    pub(crate) body: Option<Box<RawValue>>,
    /// Whether the call carried one.
    pub(crate) appsecret_proof: bool,
    pub(crate) authorization: TokenSource,
    #[serde(skip)]
    pub(crate) recipient: String,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            ids: Ids::new(),
            counters: Counters::default(),
            script: Mutex::default(),
            pages: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// The faults scripted now.
    pub(crate) fn script(&self) -> Arc<Script> {
        Arc::clone(&lock(&self.script))
    }

    pub(crate) fn set_script(&self, script: Script) {
        *lock(&self.script) = Arc::new(script);
    }

    /// The page with this id; every id is one.
    pub(crate) fn page(&self, id: &str) -> Arc<Page> {
        let mut pages = lock(&self.pages);
        if let Some(page) = pages.get(id) {
            return Arc::clone(page);
        }
        Arc::clone(pages.entry(id.to_owned()).or_default())
    }

    /// All pages that were named so far, by id.
    pub(crate) fn pages(&self) -> Vec<(String, Arc<Page>)> {
        let mut pages: Vec<_> =
            lock(&self.pages).iter().map(|(id, page)| (id.clone(), Arc::clone(page))).collect();
        pages.sort_by(|left, right| left.0.cmp(&right.0));
        pages
    }

    /// Keeps a message and drops the oldest one if there are too many.
    pub(crate) fn keep(&self, message: KeptMessage) {
        let mut kept = lock(&self.kept);
        kept.push_back(Arc::new(message));
        if kept.len() > self.options.keep {
            kept.pop_front();
        }
    }

    /// The messages that are kept, oldest first.
    pub(crate) fn kept(&self) -> Vec<Arc<KeptMessage>> {
        lock(&self.kept).iter().cloned().collect()
    }

    /// Forgets everything but the options and the open connections.
    pub(crate) fn reset(&self) {
        self.counters.clear();
        self.set_script(Script::default());
        lock(&self.pages).clear();
        lock(&self.kept).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
