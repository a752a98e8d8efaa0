//! What replicas share of each page: its rates, and whether it may send.
//!
//! Shares are leases on messages per second, not on single messages: a replica asks for those of all its pages twice a
//! second, whatever it sends. Together they never exceed a page's rate: one gets more only when another has less.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::SendError;

/// What a replica asks for one page.
#[derive(Debug)]
pub struct Ask {
    /// The page.
    pub page_id: Arc<str>,
    /// What it wants of each kind of rate; `None` where there is no limit.
    pub demands: [Option<Demand>; 2],
    /// The page's standing, if it has changed here.
    pub standing: Option<PageStanding>,
    /// Version of the standing that the replica knows; 0 for none.
    pub version: i64,
}

/// What a replica wants of one rate.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Messages per second of all replicas together, as this one sees it: the lowest of what they see counts.
    pub rate: f64,
    /// Messages per second that this one could use.
    pub wanted: f64,
}

/// What it gets.
#[derive(Debug)]
pub struct Grant {
    /// Messages per second of each kind; `None` where no limit was asked about.
    pub rates: [Option<f64>; 2],
    /// The page's standing, if it has changed elsewhere.
    pub standing: Option<PageStanding>,
    /// Version of the standing that is known now.
    pub version: i64,
}

/// Whether a page may send, as one replica has found out.
#[derive(Clone, Debug)]
pub struct PageStanding {
    /// Whether it may.
    pub state: PageState,
    /// Why not.
    pub error: Option<SendError>,
    /// How long from now until it may be tried.
    pub wait: Duration,
    /// Since when.
    pub since: SystemTime,
    /// Which token it was found out with ([`crate::pages::Page::token_digest`]).
    pub token: [u8; 8],
}

/// The three standings of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // one-to-one with the documented Standing of the dispatcher
pub enum PageState {
    Open,
    Paused,
    Suspended,
}

/// Another replica's part of a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Other {
    /// Decides who is first among equals, the same for all.
    pub(super) owner: i64,
    /// The rate of all together, as it sees it.
    pub(super) rate: f64,
    pub(super) wanted: f64,
    pub(super) granted: f64,
}

/// This replica's share of a rate: a fair one, as far as the others leave it.
pub(super) fn allot(owner: i64, demand: Demand, others: &[Other]) -> f64 {
    let mut wanted: Vec<_> = others.iter().map(|other| (other.wanted, other.owner)).collect();
    wanted.push((demand.wanted, owner));
    wanted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let rate = others.iter().map(|other| other.rate).fold(demand.rate, f64::min);
    // The modest get what they want, the others an equal part of the rest.
    let (mut left, mut heads, mut mine) = (rate, wanted.len(), 0.0);
    for (wants, of) in wanted {
        let part = (left / heads as f64).min(wants);
        left -= part;
        heads -= 1;
        if of == owner {
            mine = part;
        }
    }
    // What nobody wants is for whoever wants it before the next ask.
    let spare = left / (others.len() + 1) as f64;
    let taken: f64 = others.iter().map(|other| other.granted).sum();
    (mine + spare).min(rate - taken).max(0.0)
}

/// This replica's shares of a page's rates, in the order of [`Ask::demands`], given the parts of the others.
pub(super) fn allot_page(owner: i64, ask: &Ask, others: &[Vec<Other>; 2]) -> [Option<f64>; 2] {
    let mut rates = [None; 2];
    for ((demand, others), rate) in ask.demands.iter().zip(others).zip(&mut rates) {
        *rate = demand.map(|demand| allot(owner, demand, others));
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas that ask in turn, each with what it wants; returns what each has after some rounds.
    fn settled(rate: f64, wanted: &[f64]) -> Vec<f64> {
        let mut granted = vec![0.0; wanted.len()];
        for round in 0..3 * wanted.len() {
            let me = round % wanted.len();
            let others: Vec<_> = (0..wanted.len())
                .filter(|other| *other != me)
                .map(|other| Other {
                    owner: other as i64,
                    rate,
                    wanted: wanted[other],
                    granted: granted[other],
                })
                .collect();
            granted[me] = allot(me as i64, Demand { rate, wanted: wanted[me] }, &others);
            assert!(granted.iter().sum::<f64>() <= rate + 1e-9, "{granted:?}");
        }
        granted
    }

    #[test]
    fn shares_are_fair_and_never_exceed_the_rate() {
        let table: [(f64, &[f64], &[f64]); 7] = [
            (300.0, &[300.0], &[300.0]),
            (300.0, &[2.0], &[300.0]),
            (300.0, &[300.0, 300.0], &[150.0, 150.0]),
            (300.0, &[300.0, 2.0], &[298.0, 2.0]),
            (300.0, &[300.0, 20.0, 300.0], &[140.0, 20.0, 140.0]),
            (300.0, &[2.0, 2.0], &[150.0, 150.0]),
            (1.0, &[1.0, 1.0], &[0.5, 0.5]),
        ];
        for (rate, wanted, expected) in table {
            assert_eq!(settled(rate, wanted), expected, "{rate} among {wanted:?}");
        }
    }

    #[test]
    fn a_newcomer_waits_until_the_others_have_less() {
        let demand = Demand { rate: 300.0, wanted: 300.0 };
        let all = |granted| Other { owner: 1, rate: 300.0, wanted: 300.0, granted };
        assert_eq!(allot(2, demand, &[all(300.0)]), 0.0);
        assert_eq!(allot(2, demand, &[all(200.0)]), 100.0);
        assert_eq!(allot(2, demand, &[all(150.0)]), 150.0);
    }

    #[test]
    fn the_lowest_rate_that_a_replica_sees_counts() {
        let slow = Other { owner: 1, rate: 30.0, wanted: 30.0, granted: 0.0 };
        assert_eq!(allot(2, Demand { rate: 300.0, wanted: 300.0 }, &[slow]), 15.0);
    }
}
