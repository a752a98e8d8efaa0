//! The rates at which one page may send right now: as configured, less what Graph's usage headers ask for, and of that
//! this replica's share.

use std::time::Instant;

use super::pacing::Pace;
use super::queue::RateKind;
use crate::ledger::Demand;
use crate::limits::{USAGE_MEMORY, USAGE_SLOW_PERCENT};
use crate::pages::{MEDIA_RATE_PER_SECOND_DEFAULT, Page, RATE_PER_SECOND_DEFAULT};

/// Share of its rate that a page keeps when Graph's budget is used up, so that it learns when there is a new one.
const SHARE_AT_FULL_USAGE: f64 = 0.1;

/// The paces of a page's kinds of message.
#[derive(Debug)]
pub(super) struct Rates {
    /// In the order of [`RateKind::ALL`].
    paces: [Pace; 2],
    /// How full the page's budget with Graph was, in percent, and when.
    usage: Option<(f64, Instant)>,
    share: Share,
}

/// What this process may use of the page's rates.
#[derive(Clone, Copy, Debug)]
pub(super) enum Share {
    /// All of it: nobody else sends for the page.
    Whole,
    /// As many messages per second of each kind, in the order of [`RateKind::ALL`]; `None` if it has not asked for any.
    Part { rates: [Option<f64>; 2], until: Instant },
}

impl Rates {
    pub(super) fn new(share: Share, now: Instant) -> Self {
        // Each pace gets its rate before it is first asked.
        Self { paces: [(); 2].map(|()| Pace::new(Some(0.0), now)), usage: None, share }
    }

    /// Takes the configuration as it is now, and brings the paces up to a time.
    pub(super) fn advance(&mut self, page: &Page, now: Instant) {
        let allowed = self.allowed(page, now);
        let shares = match self.share {
            Share::Whole => [f64::INFINITY; 2],
            Share::Part { rates, until } if now < until => rates.map(Option::unwrap_or_default),
            Share::Part { .. } => [0.0; 2],
        };
        for ((pace, allowed), share) in self.paces.iter_mut().zip(allowed).zip(shares) {
            pace.set_rate(allowed.map(|allowed| allowed.min(share)), now);
            pace.advance(now);
        }
    }

    pub(super) fn pace(&self, kind: RateKind) -> &Pace {
        let [media, other] = &self.paces;
        match kind {
            RateKind::Media => media,
            RateKind::Other => other,
        }
    }

    pub(super) fn pace_mut(&mut self, kind: RateKind) -> &mut Pace {
        let [media, other] = &mut self.paces;
        match kind {
            RateKind::Media => media,
            RateKind::Other => other,
        }
    }

    /// How full the page's budget with Graph is, in percent.
    pub(super) fn note_usage(&mut self, percent: f64, now: Instant) {
        self.usage = Some((percent, now));
    }

    /// When this replica's share lapses, if it has not the whole.
    pub(super) fn share_until(&self) -> Option<Instant> {
        match self.share {
            Share::Whole => None,
            Share::Part { until, .. } => Some(until),
        }
    }

    /// Whether this replica has no share yet of a rate that is limited.
    pub(super) fn lacks_share(&self, kind: RateKind) -> bool {
        let Share::Part { rates: [media, other], .. } = self.share else { return false };
        let share = match kind {
            RateKind::Media => media,
            RateKind::Other => other,
        };
        share.is_none() && self.pace(kind).rate_per_second().is_some()
    }

    /// Messages per second that may go now, in the order of [`RateKind::ALL`]; `None` for no limit.
    pub(super) fn current(&self) -> [Option<f64>; 2] {
        self.paces.each_ref().map(Pace::rate_per_second)
    }

    pub(super) fn set_share(&mut self, share: Share) {
        self.share = share;
    }

    /// What this process could use of the page's rates, given whether something waits for them; both in the order of
    /// [`RateKind::ALL`]. `None` where there is no limit.
    pub(super) fn demands(&self, page: &Page, is_waiting: [bool; 2], now: Instant) -> [Option<Demand>; 2] {
        let mut allowed = self.allowed(page, now).into_iter().zip(is_waiting);
        self.paces.each_ref().map(|pace| {
            let (rate, is_waiting) = allowed.next()?;
            let rate = rate?;
            let in_use = pace.rate_per_second().unwrap_or_default().min(rate);
            Some(Demand { rate, wanted: pace.wanted(rate, is_waiting, now), in_use })
        })
    }

    /// Messages per second of all replicas together, in the order of [`RateKind::ALL`]; `None` where there is no limit.
    fn allowed(&self, page: &Page, now: Instant) -> [Option<f64>; 2] {
        // Other replicas may have heard something newer.
        let usage = self.usage.filter(|(_, at)| now.saturating_duration_since(*at) < USAGE_MEMORY);
        let percent = usage.map_or(0.0, |(percent, _)| percent);
        let left = (100.0 - percent) / (100.0 - USAGE_SLOW_PERCENT);
        let factor = left.clamp(SHARE_AT_FULL_USAGE, 1.0);
        let configured = [
            (page.media_rate_per_second, MEDIA_RATE_PER_SECOND_DEFAULT),
            (page.rate_per_second, RATE_PER_SECOND_DEFAULT),
        ];
        configured.map(|(rate, default)| match rate {
            0 if factor >= 1.0 => None,
            // A page without a limit slows down from Meta's.
            0 => Some(f64::from(default) * factor),
            rate => Some(f64::from(rate) * factor),
        })
    }
}
