//! What a bulk tells its caller.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::Stream;
use tokio::sync::watch;

use crate::error::MessengerError;
use crate::v1;

/// What happens to a bulk: for callers who want to know more than the results.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BulkEvent {
    /// The service has accepted the bulk on a stream: the first one, or another after one that ended early.
    Opened,
    /// A stream could not be opened, or ended early, for this reason. Another one is tried for.
    Interrupted(MessengerError),
    /// An item has its result.
    Settled {
        /// The item's place in the order of the source, from 0.
        index: u64,
        /// The result.
        result: v1::ItemResult,
    },
    /// The bulk ends, and this item will have no result. All of these come right before the error that ends the bulk.
    GivenUp {
        /// The item's place in the order of the source, from 0.
        index: u64,
        /// The item's id.
        item_id: String,
        /// What is known of it.
        fate: Fate,
    },
}

/// What is known of an item without a result.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// Nothing was sent, for this reason: the service's own, or, with the reason unspecified, that no stream had it.
    NotSent(Box<v1::SendError>),
    /// It may have been sent. The bulk tells, when it is opened again under its id.
    InDoubt,
}

pub(super) type Events<'a> = Pin<Box<dyn Stream<Item = Result<BulkEvent, MessengerError>> + Send + 'a>>;

/// The results of a bulk, as they come. Dropping it cancels the bulk: nothing new is sent then.
pub struct BulkResults<'a> {
    pub(super) bulk_id: String,
    pub(super) run_id: String,
    pub(super) stop: watch::Sender<bool>,
    pub(super) events: Events<'a>,
}

impl BulkResults<'_> {
    /// Name of the bulk: the start's, or the one made up for it.
    pub fn bulk_id(&self) -> &str {
        &self.bulk_id
    }

    /// Name of this run of the bulk: the start's, or the one made up for it.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Takes no more items from the source, and writes none to the service; results of what it has go on to come. The
    /// bulk then ends as if the source had ended: with an error if an item has no result, because there is no stream at
    /// the moment, or this one ends early. No other stream is opened.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// The next result; `None` when every item has its own. An error is the last element. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<Result<v1::ItemResult, MessengerError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The next event, of which results are one kind; `None` when every item has its result. An error is the last
    /// element. Dropping the future loses nothing.
    pub async fn next_event(&mut self) -> Option<Result<BulkEvent, MessengerError>> {
        std::future::poll_fn(|context| self.events.as_mut().poll_next(context)).await
    }
}

impl Stream for BulkResults<'_> {
    type Item = Result<v1::ItemResult, MessengerError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return match std::task::ready!(self.events.as_mut().poll_next(context)) {
                Some(Ok(BulkEvent::Settled { result, .. })) => Poll::Ready(Some(Ok(result))),
                Some(Ok(BulkEvent::Opened | BulkEvent::Interrupted(_) | BulkEvent::GivenUp { .. })) => {
                    continue;
                }
                Some(Err(error)) => Poll::Ready(Some(Err(error))),
                None => Poll::Ready(None),
            };
        }
    }
}

impl fmt::Debug for BulkResults<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bulk_id, run_id, stop: _, events: _ } = self;
        let mut debug = formatter.debug_struct("BulkResults");
        debug.field("bulk_id", bulk_id).field("run_id", run_id).finish_non_exhaustive()
    }
}
