//! Decides what is sent when: a [`lane`] per page, [`call`]s that carry what the lane picked.
//!
//! A lane picks, a call sends and answers. Whoever queued a message gets exactly one [`Outcome`] for it, and may
//! leave before that.
//!
//! The map: `lane` owns a page's clock and channels; its core decides: it asks `queue` who is next, `gate` whether the page
//! may send at all, `rates` (one `pacing` per rate) whether it may now. `call` waits for ledger and Graph, `attempt` decides
//! what becomes of its messages, with `retry` for those that were not sent. `replicas` shares a page's rates and `standing`
//! with other processes.

pub(crate) mod attempt;
mod call;
mod gate;
pub(crate) mod lane;
mod pacing;
mod queue;
pub(crate) mod queued;
mod rates;
mod replicas;
pub(crate) mod retry;
pub(crate) mod sharing;
pub(crate) mod standing;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use attempt::recorded;
pub use gate::Standing;
pub use queued::{BulkItemId, Queued, Reply, Source};

use crate::error::{Reason, SendError};
use crate::graph::client::Client;
use crate::ledger::Ledger;
use crate::limits::UNARY_QUEUED_MAX;
use crate::pages::Pages;
use crate::supervised::Lifeline;
use crate::telemetry::metrics::{Load, Metrics};

/// Takes messages and sees to it that they are sent.
#[derive(Debug)]
pub struct Dispatcher {
    context: Arc<Context>,
    lanes: Arc<Lanes>,
    bulk_number: AtomicU64,
    started: SystemTime,
}

/// Lanes by page id.
type Lanes = Mutex<HashMap<String, lane::Handle>>;

/// What every lane and call shares.
#[derive(Debug)]
struct Context {
    pages: Arc<Pages>,
    graph: Arc<Client>,
    ledger: Ledger,
    metrics: Metrics,
    draining: CancellationToken,
    /// Told when a lane or the sharing has died.
    lifeline: Lifeline,
    /// The calls under way.
    calls: TaskTracker,
    /// Told when shares must be asked for before it is time.
    share_now: Notify,
}

/// How a page fares.
#[derive(Clone, Debug, Default)]
pub struct PageStatus {
    /// Whether it sends.
    pub standing: Standing,
    /// Since when.
    pub since: Option<SystemTime>,
    /// Messages per second that may go now: audio and video, and the rest; `None` for no limit.
    pub rates: [Option<f64>; 2],
    /// Messages that wait to be sent.
    pub queued: usize,
    /// Messages being sent.
    pub in_flight: usize,
    /// How full its budget is, in percent, as the usage headers said last; 0 if they never did.
    pub usage_percent: f64,
}

impl Dispatcher {
    /// A dispatcher that starts nothing new once `draining` is cancelled: what waits then ends as not sent. If a part of it
    /// dies by a bug, `lifeline` is told: its page stands still until the process starts anew.
    pub fn new(
        pages: Arc<Pages>,
        graph: Arc<Client>,
        ledger: Ledger,
        metrics: Metrics,
        draining: CancellationToken,
        lifeline: Lifeline,
    ) -> Self {
        let (calls, share_now) = (TaskTracker::new(), Notify::new());
        let is_shared = ledger.is_shared();
        let context =
            Arc::new(Context { pages, graph, ledger, metrics, draining, lifeline, calls, share_now });
        let lanes = Arc::<Lanes>::default();
        let (pages, of_lanes) = (context.pages.clone(), Arc::downgrade(&lanes));
        context
            .metrics
            .watch_load(move || of_lanes.upgrade().map_or_else(Load::default, |lanes| load(&pages, &lanes)));
        if is_shared {
            let sharing = replicas::run(context.clone(), Arc::downgrade(&lanes));
            context.lifeline.spawn("the sharing with other replicas", sharing);
        }
        Self { context, lanes, bulk_number: AtomicU64::default(), started: SystemTime::now() }
    }

    /// Waits for the calls under way, once nothing new is started: what they bring is on record then.
    pub async fn finish(&self) {
        self.context.calls.close();
        self.context.calls.wait().await;
    }

    /// A number for a new bulk stream, unique in this process.
    pub fn new_bulk(&self) -> u64 {
        self.bulk_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Queues messages on the lane of a page, in order. Every one of them is answered.
    pub fn queue(&self, page_id: &str, messages: Vec<Queued>) {
        self.lane(page_id).queue(messages);
    }

    /// Makes room for one unary message on the lane of a page.
    ///
    /// # Errors
    /// [`Reason::RateLimited`] if too many wait already.
    pub fn check_unary_room(&self, page_id: &str) -> Result<(), SendError> {
        if self.lane(page_id).unary_queued() < UNARY_QUEUED_MAX {
            return Ok(());
        }
        let message =
            format!("{UNARY_QUEUED_MAX} unary messages of this page wait already: send them more slowly");
        Err(SendError {
            retry_after: Some(std::time::Duration::from_secs(1)),
            ..SendError::new(Reason::RateLimited, message)
        })
    }

    /// True if messages of a page have to wait before they are sent.
    pub fn holds_back(&self, page_id: &str) -> bool {
        let status = self.status(page_id);
        status.queued > 0 || status.standing != Standing::Open
    }

    /// Drops what waits of a bulk whose stream has gone; what is being sent is finished.
    pub fn cancel_bulk(&self, page_id: &str, bulk_number: u64) {
        self.lane(page_id).cancel_bulk(bulk_number);
    }

    /// How a page fares.
    pub fn status(&self, page_id: &str) -> PageStatus {
        let status = self.lane(page_id).status();
        PageStatus { since: status.since.or(Some(self.started)), ..status }
    }

    fn lane(&self, page_id: &str) -> lane::Handle {
        lane(&self.lanes, page_id, &self.context)
    }
}

/// How all pages fare.
fn load(pages: &Pages, lanes: &Lanes) -> Load {
    let lanes = lanes.lock().unwrap_or_else(PoisonError::into_inner);
    let mut load = Load::default();
    for page in pages.list() {
        // A page without a lane has sent nothing yet.
        let status = lanes.get(&page.id).map(lane::Handle::status).unwrap_or_default();
        load.queued += status.queued;
        load.in_flight += status.in_flight;
        load.usage = load.usage.max(status.usage_percent / 100.0);
        match status.standing {
            Standing::Open => load.active += 1,
            Standing::Paused { .. } => load.paused += 1,
            Standing::Suspended { .. } => load.suspended += 1,
        }
    }
    load
}

/// The lane of a page; it starts when it is first asked for.
fn lane(lanes: &Lanes, page_id: &str, context: &Arc<Context>) -> lane::Handle {
    let mut lanes = lanes.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lane) = lanes.get(page_id) {
        return lane.clone();
    }
    let lane = lane::start(page_id, context.clone());
    lanes.insert(page_id.to_owned(), lane.clone());
    lane
}
