//! What the calls of a service share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::bulk::room::SharedRoom;
use super::heavy::HeavyWork;
use crate::dispatch::Dispatcher;
use crate::graph::client::Client;
use crate::ledger::Ledger;
use crate::pages::Pages;
use crate::telemetry::metrics::Metrics;

/// What the calls of a service share.
#[derive(Debug)]
pub struct Context {
    /// The configured pages.
    pub pages: Arc<Pages>,
    /// Sends messages.
    pub dispatcher: Arc<Dispatcher>,
    /// Knows the address of the call that a preview shows.
    pub graph: Arc<Client>,
    /// Remembers what became of messages with an id.
    pub ledger: Ledger,
    /// Items that one bulk stream may have in flight.
    pub bulk_in_flight_max: usize,
    /// What all of them share.
    pub bulk_room: SharedRoom,
    /// Makes messages that take long to make.
    pub heavy: HeavyWork,
    /// Told what becomes of messages.
    pub metrics: Metrics,
    /// When the service shuts down.
    pub drain: Drain,
}

/// The two moments of a shutdown, as calls hear of them.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// Cancelled when nothing new is sent any more: what waits ends as not sent, what is being sent is finished.
    pub began: CancellationToken,
    /// Cancelled when its time is over: what is still being sent is answered as unknown.
    pub is_over: CancellationToken,
}
