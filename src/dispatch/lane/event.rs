//! What happens to a lane, and what the lane says is to be done.

use std::sync::Arc;
use std::time::Instant;

use crate::dispatch::attempt::Report;
use crate::dispatch::queued::Queued;
use crate::dispatch::standing::ShareGrant;
use crate::error::Outcome;
use crate::graph::response::Refusal;
use crate::pages::{Page, TokenDigest};

/// What happens to a lane.
#[derive(Debug)]
pub(crate) enum Event {
    /// Messages are to be sent, in this order.
    Queue(Vec<Queued>),
    /// The stream of a bulk has gone.
    CancelBulk(u64),
    /// A call begins, with so many of its messages: the others need not be sent.
    CallBegan { call: CallNumber, count: usize, at: Instant },
    /// A call has ended.
    CallEnded { call: CallNumber, report: Box<Report> },
    /// A token of the page was tried while the page was suspended.
    Probed { token: TokenDigest, result: Result<(), Refusal> },
    /// What this replica may use of the page's rates, and what other replicas found out about the page.
    Granted(Box<ShareGrant>),
}

/// What a lane goes by that others decide.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// The page as it is configured; `None` if it is no more.
    pub(crate) page: Option<Arc<Page>>,
    /// Messages can be claimed.
    pub(crate) is_ledger_ready: bool,
    /// The service shuts down.
    pub(crate) is_draining: bool,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Calls to make.
    pub(crate) calls: Vec<Call>,
    /// Messages that wait no more, with what became of them.
    pub(crate) answers: Vec<(Queued, Outcome)>,
    /// The page whose token is to be tried.
    pub(crate) probe: Option<Arc<Page>>,
    /// The replicas are to share rates and standings before it is time.
    pub(crate) share_now: bool,
    /// When to look again, if nothing happens before.
    pub(crate) wake: Option<Instant>,
}

/// Names a call of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CallNumber(pub(super) u64);

/// A call to make.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) number: CallNumber,
    pub(crate) page: Arc<Page>,
    pub(crate) messages: Vec<Queued>,
    /// It goes to see whether the page is well again.
    pub(crate) is_try: bool,
}
