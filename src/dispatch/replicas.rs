//! What replicas do together: they share each page's rates, and tell each other when a page pauses, stops or recovers.
//!
//! Each asks the ledger for its shares of all its pages at once, again and again. A share is a lease: what a replica that
//! died had is the others' soon after. With a ledger of its own a process has every page alone, and nothing of this runs.

use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use futures_util::future::join_all;

use super::gate::{Gate, Standing};
use super::lane::Handle;
use super::{Context, Lanes, lane};
use crate::error::{Reason, SendError};
use crate::ledger::{Ask, Demand, Grant, PageStanding, PageState};
use crate::limits::{SHARE_INTERVAL, SHARE_LEASE};
use crate::pages::Page;

/// Asks for shares until the dispatcher has gone or the service shuts down.
pub(super) async fn run(context: Arc<Context>, lanes: Weak<Lanes>) {
    let mut interval = tokio::time::interval(SHARE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = context.share_now.notified() => {}
            () = context.draining.cancelled() => return,
        }
        let Some(lanes) = lanes.upgrade() else { return };
        // Of every page, so that its standing is known before something is sent for it.
        let pages = context.pages.list();
        let handles: Vec<_> = pages.iter().map(|page| lane(&lanes, &page.id, &context)).collect();
        drop(lanes);
        let (handles, asks): (Vec<Handle>, Vec<Ask>) =
            join_all(handles.into_iter().map(ask)).await.into_iter().flatten().unzip();
        let until = Instant::now() + SHARE_LEASE;
        match context.ledger.share(&asks).await {
            Ok(grants) => {
                for (handle, grant) in handles.iter().zip(grants) {
                    handle.grant(grant, until);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "this replica's shares of the pages' rates were not renewed")
            }
        }
    }
}

async fn ask(handle: Handle) -> Option<(Handle, Ask)> {
    let ask = handle.ask().await?;
    Some((handle, ask))
}

/// What a lane has told the other replicas, and heard from them.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The gate's era that they know of, and the one in the ask that is under way.
    known_era: u64,
    asked_era: u64,
    /// Version of the standing that was last heard of.
    version: i64,
}

impl Asked {
    /// What to ask for now.
    pub(super) fn ask(
        &mut self,
        page_id: Arc<str>,
        page: &Page,
        demands: [Option<Demand>; 2],
        gate: &Gate,
        now: Instant,
    ) -> Ask {
        self.asked_era = gate.era();
        let is_news = self.asked_era != self.known_era;
        let standing = is_news.then(|| shared(gate, page, now));
        Ask { page_id, demands, standing, version: self.version }
    }

    /// Takes up what others found out, unless something has changed here meanwhile, which they hear of next.
    pub(super) fn take_up(&mut self, grant: Grant, page: &Page, gate: &mut Gate, now: Instant) {
        self.known_era = self.asked_era;
        self.version = grant.version;
        let Some(heard) = grant.standing.filter(|_| gate.era() == self.known_era) else { return };
        let is_our_token = heard.token == page.token_digest();
        let since = heard.since;
        let standing = match (heard.state, heard.error) {
            // What the token that another replica has is good for says nothing about ours.
            (PageState::Open, _) if is_our_token => Standing::Open,
            (PageState::Suspended, Some(error)) if is_our_token || error.reason == Reason::PageRestricted => {
                Standing::Suspended { error, until: now + heard.wait }
            }
            (PageState::Paused, Some(error)) => {
                let error = SendError { retry_after: Some(heard.wait), ..error };
                Standing::Paused { error, until: now + heard.wait }
            }
            (PageState::Open | PageState::Paused | PageState::Suspended, _) => return,
        };
        if standing != *gate.standing() {
            gate.adopt(standing, since);
            self.known_era = gate.era();
        }
    }
}

/// The gate's standing as other replicas can use it.
fn shared(gate: &Gate, page: &Page, now: Instant) -> PageStanding {
    let (state, error, until) = match gate.standing() {
        Standing::Open => (PageState::Open, None, now),
        Standing::Paused { error, until } => (PageState::Paused, Some(error.clone()), *until),
        Standing::Suspended { error, until } => (PageState::Suspended, Some(error.clone()), *until),
    };
    let wait = until.saturating_duration_since(now);
    let since: SystemTime = gate.since();
    PageStanding { state, error, wait, since, token: page.token_digest() }
}
