//! A ledger in memory, for simulations in virtual time: what both databases do, without I/O, tasks and clocks.
//!
//! ```text
//! let mut ledger = MemoryLedger::default();
//! let owner = ledger.open();                              // a process that has the ledger open, or a replica
//! let claimed = ledger.claim(&claims, owner, now_ms)?;    // before a call to Graph
//! ledger.settle(&settlements);                            // after it
//! ledger.crash_owner(owner);                              // its claims are unknown, its shares end with their lease
//! ledger.sweep(before_ms);                                // forgets
//! let grants = ledger.share(owner, &asks, now_ms);        // twice a second
//! let stale = ledger.clone();                             // a copy, to fail over to, later
//! ledger.crash_database();                                // what is not on disk is lost: shares, standings
//! ```
//!
//! Times are milliseconds of the one clock that all owners share. Nothing in here waits or fails by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::clock::millis;
use super::error::{LedgerError, Result};
use super::record::{BulkRecord, Claim, ClaimNumber, Claimed, End, Key, Settlement, State, from_ms};
use super::shares::{Ask, Grant, Holding, Other, PageStanding, allot_page, turn};
use super::store::{Decision, Row, carry_out, decide, read_recorded, state};
use crate::error::Outcome;
use crate::ledger::outcome;
use crate::limits::{RATE_WINDOW, SHARE_LEASE};

/// As in Postgres: a claim's number is its owner's, and one of the owner's own.
const COUNT_BITS: u32 = 38;

/// A ledger that any number of owners share. A clone is a copy of the data: what is done to one is not in the other. Both
/// give out different numbers, though, as processes do that outlive a failover.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryLedger {
    rows: BTreeMap<Key, MemoryRow>,
    owners: BTreeSet<i64>,
    shares: BTreeMap<(Arc<str>, i64), [Option<MemoryShare>; 2]>,
    standings: BTreeMap<Arc<str>, MemoryStanding>,
    /// Nobody gets a share before this: whoever had one before the database crashed may still use it.
    shares_from_ms: i64,
    numbers: Arc<AtomicI64>,
}

#[derive(Clone, Debug)]
struct MemoryRow {
    fingerprint: [u8; 16],
    state: i64,
    claim: ClaimNumber,
    claim_time: i64,
    update_time: i64,
    outcome: Option<String>,
    runs: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct MemoryShare {
    rate: f64,
    wanted: f64,
    holding: Holding,
}

#[derive(Clone, Debug)]
struct MemoryStanding {
    standing: PageStanding,
    until_ms: i64,
    owner: i64,
    version: i64,
}

impl MemoryLedger {
    /// Becomes an owner. Until [`Self::crash_owner`] its claims are in progress for everybody.
    pub(crate) fn open(&mut self) -> i64 {
        let owner = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        self.owners.insert(owner);
        owner
    }

    /// True if its lease holds here. After a failover to a copy that is older than the owner, it does not.
    pub(crate) fn is_owner(&self, owner: i64) -> bool {
        self.owners.contains(&owner)
    }

    /// Ends an owner: what it has claimed and not settled is unknown from now on. It may settle all the same, which
    /// counts for what nobody has taken over.
    pub(crate) fn crash_owner(&mut self, owner: i64) {
        self.owners.remove(&owner);
    }

    /// What is only in the database's memory is lost: shares and standings. Whoever has a share may use it until its
    /// lease ends, so nobody gets one until then.
    pub(crate) fn crash_database(&mut self, now_ms: i64) {
        self.shares.clear();
        self.standings.clear();
        self.shares_from_ms = now_ms + millis(SHARE_LEASE + RATE_WINDOW);
    }

    /// Claims messages: what each of them found, in the same order.
    ///
    /// # Errors
    /// If the owner has no lease.
    pub(crate) fn claim(&mut self, claims: &[Claim], owner: i64, now_ms: i64) -> Result<Vec<Claimed>> {
        if !self.is_owner(owner) {
            return Err(LedgerError::passing("the owner has no lease"));
        }
        let count = self.numbers.fetch_add(claims.len() as i64, Ordering::Relaxed);
        let first = ClaimNumber((owner << COUNT_BITS) + count);
        for (ordinal, claim) in claims.iter().enumerate() {
            self.rows.entry(claim.key.clone()).or_insert_with(|| MemoryRow {
                fingerprint: claim.fingerprint,
                state: state::CLAIMED,
                claim: first.nth(ordinal),
                claim_time: now_ms,
                update_time: now_ms,
                outcome: None,
                runs: claim.resend.iter().flat_map(|run| run.0).collect(),
            });
        }
        let decisions = decide(claims, self.find(claims), first);
        for (ordinal, (claim, decision)) in claims.iter().zip(&decisions).enumerate() {
            if let (Decision::Reclaim { runs, .. }, Some(row)) = (decision, self.rows.get_mut(&claim.key)) {
                row.state = state::RECLAIMED;
                row.claim = first.nth(ordinal);
                (row.claim_time, row.update_time) = (now_ms, now_ms);
                row.runs.clone_from(runs);
            }
        }
        Ok(carry_out(claims, decisions, first, |_| true))
    }

    /// What is on record under the keys of claims, what is in progress included.
    pub(crate) fn on_record(&self, claims: &[Claim]) -> Vec<Option<Claimed>> {
        read_recorded(claims, self.find(claims))
    }

    fn find(&self, claims: &[Claim]) -> Vec<Row> {
        let rows = claims.iter().enumerate().filter_map(|(ordinal, claim)| {
            let row = self.rows.get(&claim.key)?;
            Some(Row {
                ordinal,
                state: row.state,
                claim: row.claim,
                is_owned: self.has_owner(row),
                fingerprint: row.fingerprint.to_vec(),
                update_time: row.update_time,
                outcome: row.outcome.clone(),
                runs: row.runs.clone(),
            })
        });
        rows.collect()
    }

    fn has_owner(&self, row: &MemoryRow) -> bool {
        self.owners.contains(&(row.claim.0 >> COUNT_BITS))
    }

    /// Settles messages that were claimed. A settlement counts only for the claim that it was made for.
    pub(crate) fn settle(&mut self, settlements: &[Settlement]) {
        for settlement in settlements {
            let Some(row) = self.rows.get_mut(settlement.key()) else {
                self.record_lost(settlement);
                continue;
            };
            if row.claim != settlement.claim() || !matches!(row.state, state::CLAIMED | state::RECLAIMED) {
                continue;
            }
            match &settlement.end {
                End::Recorded { state, time_ms, outcome } => {
                    row.state = state.number();
                    row.update_time = time_ms.unwrap_or(row.update_time);
                    row.outcome = Some(outcome.get().to_owned());
                }
                End::Released | End::Voided if row.state == state::CLAIMED => {
                    self.rows.remove(settlement.key());
                }
                End::Released | End::Voided => {
                    row.state = state::UNKNOWN;
                    row.runs.truncate(row.runs.len().saturating_sub(8));
                }
            }
        }
    }

    /// Records what became of a message whose claim the ledger has lost, because it went back to a stale copy.
    fn record_lost(&mut self, settlement: &Settlement) {
        let End::Recorded { state, time_ms, outcome } = &settlement.end else { return };
        let row = MemoryRow {
            fingerprint: *settlement.fingerprint(),
            state: state.number(),
            claim: settlement.claim(),
            claim_time: time_ms.unwrap_or_default(),
            update_time: time_ms.unwrap_or_default(),
            outcome: Some(outcome.get().to_owned()),
            runs: Vec::new(),
        };
        self.rows.insert(settlement.key().clone(), row);
    }

    /// Forgets what was claimed before a time; what is in progress stays.
    pub(crate) fn sweep(&mut self, before_ms: i64) {
        let owners = &self.owners;
        self.rows.retain(|_, row| {
            let is_owned = owners.contains(&(row.claim.0 >> COUNT_BITS));
            row.claim_time >= before_ms || is_owned && matches!(row.state, state::CLAIMED | state::RECLAIMED)
        });
    }

    /// Takes an owner's shares, tells what it found out about pages, and hears what others did, in the order of the asks.
    pub(crate) fn share(&mut self, owner: i64, asks: &[Ask], now_ms: i64) -> Vec<Grant> {
        asks.iter().map(|ask| self.share_page(owner, ask, now_ms)).collect()
    }

    fn share_page(&mut self, owner: i64, ask: &Ask, now_ms: i64) -> Grant {
        let others = self.others(owner, &ask.page_id, now_ms);
        let mut rates = allot_page(owner, ask, &others, turn(now_ms));
        if now_ms < self.shares_from_ms {
            rates = rates.map(|rate| rate.map(|_| 0.0));
        }
        let shares = self.shares.entry((ask.page_id.clone(), owner)).or_default();
        for ((share, demand), rate) in shares.iter_mut().zip(&ask.demands).zip(rates) {
            let Some((demand, granted)) = demand.zip(rate) else { continue };
            let before = share.as_ref().map(|share: &MemoryShare| &share.holding);
            let holding = Holding::next(before, demand.in_use, granted, now_ms);
            *share = Some(MemoryShare { rate: demand.rate, wanted: demand.wanted, holding });
        }
        if let Some(standing) = &ask.standing {
            let wait_ms = i64::try_from(standing.wait.as_millis()).unwrap_or(i64::MAX);
            let told = MemoryStanding {
                standing: standing.clone(),
                until_ms: now_ms.saturating_add(wait_ms),
                owner,
                version: self.numbers.fetch_add(1, Ordering::Relaxed) + 1,
            };
            self.standings.insert(ask.page_id.clone(), told);
        }
        let heard = self.standings.get(&ask.page_id);
        let heard = heard.filter(|told| told.owner != owner && told.version != ask.version);
        let standing = heard.map(|told| PageStanding {
            wait: std::time::Duration::from_millis((told.until_ms - now_ms).max(0).unsigned_abs()),
            ..told.standing.clone()
        });
        Grant { rates, standing, version: heard.map_or(ask.version, |told| told.version) }
    }

    fn others(&self, owner: i64, page_id: &Arc<str>, now_ms: i64) -> [Vec<Other>; 2] {
        let mut others = [Vec::new(), Vec::new()];
        let of_page = self.shares.range((page_id.clone(), i64::MIN)..=(page_id.clone(), i64::MAX));
        for ((_, other), shares) in of_page.filter(|((_, other), _)| *other != owner) {
            for (others, share) in others.iter_mut().zip(shares) {
                let Some(share) = share else { continue };
                others.extend(share.holding.as_other(*other, share.rate, share.wanted, now_ms));
            }
        }
        others
    }

    /// What is on record of a message: its outcome, or `None` if it is in progress or not on record.
    pub(crate) fn outcome(&self, key: &Key) -> Option<Outcome> {
        let row = self.rows.get(key)?;
        let is_in_progress = matches!(row.state, state::CLAIMED | state::RECLAIMED) && self.has_owner(row);
        let read = || outcome::read(State::of_number(row.state), row.update_time, row.outcome.as_deref());
        (!is_in_progress).then(read)
    }

    /// Every message on record, with its outcome unless it is in progress.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (&Key, Option<Outcome>)> {
        self.rows.keys().map(|key| (key, self.outcome(key)))
    }

    /// What is on record of a bulk; `None` if nothing is.
    pub(crate) fn bulk(&self, page_id: &str, bulk_id: &str) -> Option<BulkRecord> {
        let is_of_bulk = |key: &Key| &*key.page_id == page_id && &*key.bulk_id == bulk_id;
        let rows: Vec<_> = self.rows.iter().filter(|(key, _)| is_of_bulk(key)).collect();
        let count = |is_counted: fn(Option<Outcome>) -> bool| {
            rows.iter().filter(|(key, _)| is_counted(self.outcome(key))).count() as u64
        };
        Some(BulkRecord {
            sent: count(|outcome| matches!(outcome, Some(Outcome::Sent(_)))),
            failed: count(|outcome| matches!(outcome, Some(Outcome::Failed(_)))),
            unknown: count(|outcome| matches!(outcome, Some(Outcome::Unknown(_)))),
            in_flight: count(|outcome| outcome.is_none()),
            create_time: from_ms(rows.iter().map(|(_, row)| row.claim_time).min()?),
            update_time: from_ms(rows.iter().map(|(_, row)| row.update_time).max()?),
        })
    }
}

#[cfg(test)]
mod tests;
