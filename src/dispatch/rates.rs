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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn page(rate_per_second: u32) -> Page {
        Page { rate_per_second, media_rate_per_second: 10, ..Page::sample("1") }
    }

    #[test]
    fn a_page_slows_down_as_its_budget_fills_up_and_forgets_that_by_and_by() {
        let now = Instant::now();
        let table = [(0.0, 300.0), (80.0, 300.0), (90.0, 150.0), (95.0, 75.0), (99.0, 30.0), (150.0, 30.0)];
        for (percent, expected) in table {
            let mut rates = Rates::new(Share::Whole, now);
            rates.note_usage(percent, now);
            rates.advance(&page(300), now);
            assert_eq!(rates.current()[1].map(f64::round), Some(expected), "{percent} %");
            rates.advance(&page(300), now + USAGE_MEMORY);
            assert_eq!(rates.current(), [Some(10.0), Some(300.0)]);
        }
    }

    #[test]
    fn a_page_without_a_limit_slows_down_from_metas() {
        let now = Instant::now();
        let mut rates = Rates::new(Share::Whole, now);
        rates.advance(&page(0), now);
        assert_eq!(rates.current(), [Some(10.0), None]);
        rates.note_usage(90.0, now);
        rates.advance(&page(0), now);
        assert_eq!(rates.current(), [Some(5.0), Some(150.0)]);
    }

    #[test]
    fn a_share_is_the_most_that_may_be_used_and_nothing_once_it_has_lapsed() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut rates = Rates::new(Share::Part { rates: [None; 2], until: now }, now);
        rates.advance(&page(300), now);
        assert!(rates.lacks_share(RateKind::Other) && rates.lacks_share(RateKind::Media));
        rates.set_share(Share::Part { rates: [None, Some(40.0)], until: now + second });
        rates.advance(&page(300), now);
        assert!(!rates.lacks_share(RateKind::Other) && rates.lacks_share(RateKind::Media));
        assert_eq!((rates.current(), rates.share_until()), ([Some(0.0), Some(40.0)], Some(now + second)));
        let demands = rates.demands(&page(300), [false, true], now);
        let demands = demands.map(|demand| demand.map(|demand| (demand.rate, demand.wanted, demand.in_use)));
        assert_eq!(demands, [Some((10.0, 2.0, 0.0)), Some((300.0, 300.0, 40.0))]);
        rates.advance(&page(300), now + second);
        assert_eq!(rates.current(), [Some(0.0), Some(0.0)]);
        let mut whole = Rates::new(Share::Whole, now);
        whole.advance(&page(300), now);
        assert_eq!((whole.share_until(), whole.lacks_share(RateKind::Other)), (None, false));
    }
}
