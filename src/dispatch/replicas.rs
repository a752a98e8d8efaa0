//! What replicas do together: they share each page's rates, and tell each other when a page pauses, stops or recovers.
//!
//! Each asks the ledger for its shares of all its pages at once, again and again. A share is a lease: what a replica that
//! died had is the others' soon after. With a ledger of its own a process has every page alone, and nothing of this runs.

use std::sync::{Arc, Weak};
use std::time::Instant;

use futures_util::future::join_all;

use super::lane::Handle;
use super::sharing::AskSchedule;
use super::standing::{ShareAsk, ShareGrant};
use super::{Context, Lanes, lane};
use crate::limits::SHARE_LEASE;

/// Asks for shares until the dispatcher has gone or the service shuts down.
pub(super) async fn run(context: Arc<Context>, lanes: Weak<Lanes>) {
    let mut schedule = AskSchedule::new();
    loop {
        let next = schedule.next(Instant::now());
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = context.share_now.notified() => {
                schedule.hurry();
                continue;
            }
            () = context.draining.cancelled() => return,
        }
        schedule.begin(Instant::now());
        let Some(lanes) = lanes.upgrade() else { return };
        share(&context, &lanes).await;
    }
}

async fn share(context: &Arc<Context>, lanes: &Arc<Lanes>) {
    // Of every page, so that its standing is known before something is sent for it.
    let pages = context.pages.list();
    let handles: Vec<_> = pages.iter().map(|page| lane(lanes, &page.id, context)).collect();
    let asked: Vec<(Handle, ShareAsk)> =
        join_all(handles.into_iter().map(ask)).await.into_iter().flatten().collect();
    let (handles, asks): (Vec<_>, Vec<_>) =
        asked.into_iter().map(|(handle, asked)| ((handle, asked.era), asked.ask)).unzip();
    let until = Instant::now() + SHARE_LEASE;
    match context.ledger.share(&asks).await {
        Ok(grants) => {
            for ((handle, era), grant) in handles.into_iter().zip(grants) {
                handle.grant(ShareGrant { grant, era, until });
            }
        }
        Err(error) => tracing::warn!(%error, "this replica's shares of the pages' rates were not renewed"),
    }
}

async fn ask(handle: Handle) -> Option<(Handle, ShareAsk)> {
    let asked = handle.ask().await?;
    Some((handle, asked))
}
