//! What replicas share of each page: its rates, and whether it may send.
//!
//! Shares are leases on messages per second, not on single messages: a replica asks for those of all its pages twice a
//! second, whatever it sends. Together they never exceed a page's rate: one gets more only when another has less.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::clock::millis;
use crate::error::SendError;
use crate::limits::{RATE_WINDOW, SHARE_LEASE, SHARE_TURN};

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
    /// Messages per second that it may be using now.
    pub in_use: f64,
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
    /// What it may be using, or used so lately that it still counts: see [`Holding::taken`].
    pub(super) taken: f64,
}

/// What is known of one replica's part of a rate. What a replica sends counts for a second, and a grant may never reach
/// it: a part that shrinks is the others' only when nothing of what it was counts any more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Holding {
    pub(super) granted: f64,
    /// What the replica was using when it asked.
    pub(super) in_use: f64,
    /// What it used before, and until when that counts, in the database's milliseconds.
    pub(super) held: f64,
    pub(super) held_until_ms: i64,
    /// When it ends if it is not renewed.
    pub(super) expires_ms: i64,
}

impl Holding {
    /// How much of the rate is taken.
    pub(super) fn taken(&self, now_ms: i64) -> f64 {
        if now_ms >= self.expires_ms.saturating_add(millis(RATE_WINDOW)) {
            return 0.0;
        }
        self.granted.max(self.in_use).max(self.held_at(now_ms))
    }

    /// What others see of it; `None` once nothing of it counts.
    pub(super) fn as_other(&self, owner: i64, rate: f64, wanted: f64, now_ms: i64) -> Option<Other> {
        let (lives, taken) = (now_ms < self.expires_ms, self.taken(now_ms));
        // Whoever has gone wants nothing any more.
        let wanted = if lives { wanted } else { 0.0 };
        (lives || taken > 0.0).then_some(Other { owner, rate, wanted, taken })
    }

    fn held_at(&self, now_ms: i64) -> f64 {
        if now_ms < self.held_until_ms { self.held } else { 0.0 }
    }

    /// The next one, of a replica that asks, says what it is using, and is granted a part.
    pub(super) fn next(before: Option<&Self>, in_use: f64, granted: f64, now_ms: i64) -> Self {
        let window_ms = millis(RATE_WINDOW);
        let (was_in_use, held, held_until_ms) = before
            .map_or((0.0, 0.0, 0), |before| (before.in_use, before.held_at(now_ms), before.held_until_ms));
        // It used that until some time before now.
        let (held, held_until_ms) = if was_in_use > in_use {
            (was_in_use.max(held), now_ms.saturating_add(window_ms))
        } else {
            (held, held_until_ms)
        };
        let expires_ms = now_ms.saturating_add(millis(SHARE_LEASE));
        Self { granted, in_use, held, held_until_ms, expires_ms }
    }
}

/// Which turn it is at a time: what cannot be divided goes round.
pub(super) fn turn(now_ms: i64) -> i64 {
    now_ms / millis(SHARE_TURN).max(1)
}

/// This replica's share of a rate: a fair one, as far as the others leave it. Shares are whole messages per second, because
/// nobody can send a part of one: ten replicas that round up would send ten too many.
pub(super) fn allot(owner: i64, demand: Demand, others: &[Other], turn: i64) -> f64 {
    let rate = others.iter().map(|other| other.rate).fold(demand.rate, f64::min);
    let taken: f64 = others.iter().map(|other| other.taken).sum();
    let mut wanted: Vec<_> = others.iter().map(|other| (other.wanted, other.owner)).collect();
    wanted.push((demand.wanted, owner));
    if rate < 1.0 {
        // Less than a message per second is one replica's.
        let is_first = first_in_turn(wanted.iter().map(|(_, of)| *of), turn) == Some(owner);
        return if is_first && taken == 0.0 { rate } else { 0.0 };
    }
    wanted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    // The modest get what they want, the others an equal part of the rest.
    let (mut left, mut heads) = (rate, wanted.len());
    let mut parts = Vec::with_capacity(heads);
    for (wants, of) in wanted {
        let part = (left / heads as f64).min(wants);
        left -= part;
        heads -= 1;
        parts.push((part, of));
    }
    // What nobody wants is for whoever wants it before the next ask.
    let spare = left / parts.len() as f64;
    let mut unallotted = rate.floor() - parts.iter().map(|(part, _)| (part + spare).floor()).sum::<f64>();
    // Of what is left over by rounding down, one gets the first, another the next, and others when the turn is theirs.
    parts.sort_by_key(|(_, of)| in_turn(*of, turn));
    for (part, of) in parts {
        let has_one_more = unallotted >= 1.0;
        unallotted -= f64::from(u8::from(has_one_more));
        if of == owner {
            let mine = (part + spare).floor() + f64::from(u8::from(has_one_more));
            return mine.min((rate - taken).floor()).max(0.0);
        }
    }
    0.0
}

fn first_in_turn(owners: impl Iterator<Item = i64>, turn: i64) -> Option<i64> {
    owners.min_by_key(|owner| in_turn(*owner, turn))
}

/// An order of owners that is another one at each turn (a step of SplitMix64, so that neighbours are far apart).
fn in_turn(owner: i64, turn: i64) -> u64 {
    let mut mixed = owner.wrapping_mul(0x1_0001).wrapping_add(turn).cast_unsigned();
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// This replica's shares of a page's rates, in the order of [`Ask::demands`], given the parts of the others.
pub(super) fn allot_page(owner: i64, ask: &Ask, others: &[Vec<Other>; 2], turn: i64) -> [Option<f64>; 2] {
    let mut rates = [None; 2];
    for ((demand, others), rate) in ask.demands.iter().zip(others).zip(&mut rates) {
        *rate = demand.map(|demand| allot(owner, demand, others, turn));
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(rate: f64, wanted: f64) -> Demand {
        Demand { rate, wanted, in_use: 0.0 }
    }

    /// Replicas that ask in turn, each with what it wants; returns what each has after some rounds.
    fn settled(rate: f64, wanted: &[f64], turn: i64) -> Vec<f64> {
        let mut granted = vec![0.0; wanted.len()];
        for round in 0..3 * wanted.len() {
            let me = round % wanted.len();
            let others: Vec<_> = (0..wanted.len())
                .filter(|other| *other != me)
                .map(|other| Other {
                    owner: other as i64,
                    rate,
                    wanted: wanted[other],
                    taken: granted[other],
                })
                .collect();
            granted[me] = allot(me as i64, demand(rate, wanted[me]), &others, turn);
            assert!(granted.iter().sum::<f64>() <= rate + 1e-9, "{granted:?}");
        }
        granted
    }

    #[test]
    fn shares_are_fair_and_whole_and_never_exceed_the_rate() {
        let table: [(f64, &[f64], &[f64]); 8] = [
            (300.0, &[300.0], &[300.0]),
            (300.0, &[2.0], &[300.0]),
            (300.0, &[300.0, 300.0], &[150.0, 150.0]),
            (300.0, &[300.0, 2.0], &[298.0, 2.0]),
            (300.0, &[300.0, 20.0, 300.0], &[140.0, 20.0, 140.0]),
            (300.0, &[2.0, 2.0], &[150.0, 150.0]),
            (165.7, &[300.0], &[165.0]),
            (0.4, &[1.0], &[0.4]),
        ];
        for (rate, wanted, expected) in table {
            assert_eq!(settled(rate, wanted, 0), expected, "{rate} among {wanted:?}");
        }
    }

    #[test]
    fn what_cannot_be_divided_goes_round() {
        for (rate, wanted, whole) in
            [(1.0, vec![1.0; 3], 1.0), (10.0, vec![10.0; 4], 10.0), (0.5, vec![1.0; 3], 0.5)]
        {
            let mut most: Vec<f64> = vec![0.0; wanted.len()];
            for turn in 0..40 {
                let shares = settled(rate, &wanted, turn);
                assert_eq!(shares.iter().sum::<f64>(), whole, "nothing of {rate} is lost: {shares:?}");
                most.iter_mut().zip(&shares).for_each(|(most, share)| *most = most.max(*share));
            }
            let one_more = (rate / wanted.len() as f64).ceil().min(rate);
            assert!(most.iter().all(|most| *most == one_more), "everybody's turn came: {most:?}");
        }
    }

    #[test]
    fn a_newcomer_waits_until_the_others_have_less() {
        let all = |taken| Other { owner: 1, rate: 300.0, wanted: 300.0, taken };
        for (taken, share) in [(300.0, 0.0), (200.0, 100.0), (150.0, 150.0), (0.0, 150.0)] {
            assert_eq!(allot(2, demand(300.0, 300.0), &[all(taken)], 0), share);
        }
    }

    #[test]
    fn the_lowest_rate_that_a_replica_sees_counts() {
        let slow = Other { owner: 1, rate: 30.0, wanted: 30.0, taken: 0.0 };
        assert_eq!(allot(2, demand(300.0, 300.0), &[slow], 0), 15.0);
    }

    #[test]
    fn a_part_that_shrinks_counts_until_a_window_after_the_replica_has_taken_that_up() {
        let window_ms = millis(RATE_WINDOW);
        let first = Holding::next(None, 0.0, 300.0, 1000);
        assert_eq!(first.taken(1000), 300.0);
        let shrinks = Holding::next(Some(&first), 300.0, 100.0, 1500);
        assert_eq!(shrinks.taken(1500), 300.0, "it may not have heard of it");
        let lost = Holding::next(Some(&shrinks), 300.0, 100.0, 2000);
        assert_eq!(lost.taken(2000 + window_ms), 300.0, "it has not");
        let heard = Holding::next(Some(&lost), 100.0, 100.0, 2500);
        assert_eq!(heard.taken(2500 + window_ms - 1), 300.0, "what it sent before counts");
        assert_eq!(heard.taken(2500 + window_ms), 100.0);
        let again = Holding::next(Some(&heard), 100.0, 100.0, 3000);
        assert_eq!((again.taken(3000), again.taken(2500 + window_ms)), (300.0, 100.0));
        let grows = Holding::next(Some(&again), 100.0, 200.0, 5000);
        assert_eq!(grows.taken(5000), 200.0);
        let expired_ms = 5000 + millis(SHARE_LEASE) + window_ms;
        assert_eq!((grows.taken(expired_ms - 1), grows.taken(expired_ms)), (200.0, 0.0));
    }
}
