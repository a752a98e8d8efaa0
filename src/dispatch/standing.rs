//! A page's standing among replicas: what a lane tells the others, and takes over from them.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::gate::{Gate, Standing};
use crate::error::{Reason, SendError};
use crate::ledger::{Ask, Demand, Grant, PageStanding, PageState};
use crate::pages::{Page, TokenDigest};

/// The same moment by both clocks: the one that never jumps, and the one that people and other machines go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    pub(crate) time: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }

    /// The time of an instant.
    pub(super) fn time_of(self, instant: Instant) -> SystemTime {
        let age = self.instant.saturating_duration_since(instant);
        self.time.checked_sub(age).unwrap_or(self.time)
    }

    /// The instant of a time; now for one that has not come or is too long ago to tell.
    fn instant_of(self, time: SystemTime) -> Instant {
        let age = self.time.duration_since(time).unwrap_or_default();
        self.instant.checked_sub(age).unwrap_or(self.instant)
    }
}

/// What this replica wants to use of a page's rates, and in which era of the gate it says so.
#[derive(Debug)]
pub(crate) struct ShareAsk {
    pub(crate) ask: Ask,
    pub(crate) era: u64,
}

/// What this replica got, for an ask that it made in an era of the gate, and until when.
#[derive(Debug)]
pub(crate) struct ShareGrant {
    pub(crate) grant: Grant,
    pub(crate) era: u64,
    pub(crate) until: Instant,
}

/// How far this replica and the others know of each other's standing.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The gate's era that the others know of.
    known_era: u64,
    /// Version of the standing that was last heard of.
    version: i64,
}

impl Exchange {
    /// What to ask for at a moment.
    pub(super) fn ask(
        &self,
        page_id: Arc<str>,
        page: &Page,
        demands: [Option<Demand>; 2],
        gate: &Gate,
        now: Moment,
    ) -> ShareAsk {
        let is_news = gate.era() != self.known_era;
        let standing = is_news.then(|| told(gate, page, now));
        let ask = Ask { page_id, demands, standing, version: self.version };
        ShareAsk { ask, era: gate.era() }
    }

    /// Takes over what others found out, unless something has changed here since the ask, which they hear of next.
    pub(super) fn take_over(&mut self, granted: ShareGrant, page: &Page, gate: &mut Gate, now: Moment) {
        let ShareGrant { grant, era, .. } = granted;
        self.known_era = era;
        self.version = grant.version;
        let Some(heard) = grant.standing.filter(|_| gate.era() == era) else { return };
        let since = now.instant_of(heard.since);
        if let Some(standing) = standing_of(heard, page.token_digest(), now.instant)
            && standing != *gate.standing()
        {
            gate.adopt(standing, since, now.instant);
            self.known_era = gate.era();
        }
    }
}

/// What another replica's standing means for a page with this token; `None` if nothing.
fn standing_of(heard: PageStanding, token: TokenDigest, now: Instant) -> Option<Standing> {
    let is_our_token = heard.token == token.0;
    let until = now + heard.wait;
    match (heard.state, heard.error) {
        // What the token that another replica has is good for says nothing about ours.
        (PageState::Open, _) if is_our_token => Some(Standing::Open),
        (PageState::Suspended, Some(error)) if is_our_token || error.reason == Reason::PageRestricted => {
            Some(Standing::Suspended { error, until, token })
        }
        (PageState::Paused, Some(error)) => {
            Some(Standing::Paused { error: SendError { retry_after: Some(heard.wait), ..error }, until })
        }
        (PageState::Open | PageState::Paused | PageState::Suspended, _) => None,
    }
}

/// The gate's standing as other replicas can use it.
fn told(gate: &Gate, page: &Page, now: Moment) -> PageStanding {
    let (state, error, until, token) = match gate.standing() {
        Standing::Open => (PageState::Open, None, now.instant, page.token_digest()),
        Standing::Paused { error, until } => {
            (PageState::Paused, Some(error.clone()), *until, page.token_digest())
        }
        Standing::Suspended { error, until, token } => {
            (PageState::Suspended, Some(error.clone()), *until, *token)
        }
    };
    let wait = until.saturating_duration_since(now.instant);
    PageStanding { state, error, wait, since: now.time_of(gate.since()), token: token.0 }
}
