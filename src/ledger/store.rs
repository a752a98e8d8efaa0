//! What a database must do to be a ledger, and what its rows mean.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;

use super::error::Result;
use super::outcome;
use super::record::{
    BulkRecord, Claim, ClaimNumber, Claimed, End, Key, ResultsPage, ResultsQuery, RunId, Settlement, State,
    Ticket,
};
use super::shares::{Ask, Grant};
use super::transfer::Record;
use crate::error::Outcome;
use crate::limits::LEDGER_RUNS_MAX;

/// A database that holds the ledger. One caller writes; any number read.
#[async_trait]
pub(super) trait Store: std::fmt::Debug + Send + Sync {
    /// Its address, without a password.
    fn name(&self) -> &str;

    /// The number of the first of the claims of the next write, of which there are so many.
    fn next_claim(&self, claims: usize) -> ClaimNumber;

    /// Fails if claims with this number may be someone else's by now.
    fn check(&self, claim: ClaimNumber) -> Result<()>;

    /// One transaction: first the settlements, then the claims, numbered from `first`. Whether it was done is not known
    /// if it fails, but doing it again does no harm.
    async fn write(
        &self,
        first: ClaimNumber,
        settlements: &[&Settlement],
        claims: &[Claim],
    ) -> Result<Vec<Claimed>>;

    /// The rows of the keys of claims, whoever has them; claims nothing.
    async fn find(&self, claims: &[Claim]) -> Result<Vec<Row>>;

    async fn bulk(&self, page_id: &str, bulk_id: &str) -> Result<Option<BulkRecord>>;

    async fn results(&self, query: &ResultsQuery) -> Result<ResultsPage>;

    /// Takes one step through the records, of about [`crate::limits::LEDGER_SWEEP_ROWS`], and removes those that have been
    /// there for longer than the retention, as steady clocks tell; what is in progress stays. True if another step should
    /// follow soon.
    async fn sweep(&self, retention: Duration) -> Result<bool>;

    /// Gives the records of one page to another, but for those that the other one has already, and for what is in progress.
    /// Returns how many those are.
    async fn rename_page(&self, from: &str, to: &str) -> Result<u64>;

    /// Finds out whether it can be written, and renews what keeps its claims its own.
    async fn probe(&self) -> Result<()>;

    /// Which Graph the records are of.
    async fn origin(&self) -> Result<Option<String>>;

    /// How many others use it right now.
    async fn other_owners(&self) -> Result<u64> {
        Ok(0)
    }

    /// Records after a key, in the order of their keys, as whoever finds them later would read them.
    async fn export(&self, after: Option<&Key>, limit: u32) -> Result<Vec<Record>>;

    /// Takes records over, but for those of messages that are on record. Returns how many were new.
    async fn import(&self, records: &[Record]) -> Result<u64>;

    /// Finds out, at little cost, whether it can be used, and renews what keeps its claims its own.
    async fn look(&self) -> Result<()> {
        self.probe().await
    }

    /// Other processes may use it at the same time, and send for the same pages.
    fn is_shared(&self) -> bool {
        false
    }

    /// Takes shares of pages' rates, in the order of the asks; nothing if nobody else sends for them.
    async fn share(&self, _asks: &[Ask]) -> Result<Vec<Grant>> {
        Ok(Vec::new())
    }

    /// How often [`Store::look`] must be called, even if nothing is to be done.
    fn heartbeat(&self) -> Option<Duration>;

    async fn close(&self);
}

/// The numbers that stand for states in a row.
pub(super) mod state {
    /// Someone has it.
    pub(crate) const CLAIMED: i64 = 0;
    pub(crate) const SENT: i64 = 1;
    pub(crate) const FAILED: i64 = 2;
    pub(crate) const UNKNOWN: i64 = 3;
    /// Someone has it again after it was unknown. Released, it is unknown as before.
    pub(crate) const RECLAIMED: i64 = 4;
}

impl State {
    /// Its number in a row.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Sent => state::SENT,
            Self::Failed => state::FAILED,
            Self::Unknown => state::UNKNOWN,
        }
    }

    /// The state of a row that nobody has; a claim that nobody has any more is unknown.
    pub(super) fn of_number(number: i64) -> Self {
        match number {
            state::SENT => Self::Sent,
            state::FAILED => Self::Failed,
            // Neither CLAIMED, UNKNOWN and RECLAIMED nor a state of a later version may be sent again.
            _ => Self::Unknown,
        }
    }
}

/// A row for a key of a group of claims, read after the new ones were inserted.
#[derive(Debug)]
pub(super) struct Row {
    /// Which of the claims.
    pub(super) ordinal: usize,
    pub(super) state: i64,
    pub(super) claim: ClaimNumber,
    /// Its owner lives.
    pub(super) is_owned: bool,
    /// The runs that may have sent it, 8 bytes each, the latest at the end.
    pub(super) runs: Vec<u8>,
    pub(super) fingerprint: Vec<u8>,
    pub(super) update_time: i64,
    pub(super) outcome: Option<String>,
}

impl Row {
    fn is_in_progress(&self) -> bool {
        self.is_owned && matches!(self.state, state::CLAIMED | state::RECLAIMED)
    }

    /// The run that sends it again: it is unknown, and not because of that run itself.
    fn resent_by(&self, claim: &Claim) -> Option<RunId> {
        let is_unknown = State::of_number(self.state) == State::Unknown;
        let has_sent = |run: &RunId| self.runs.chunks(run.0.len()).any(|sent| sent == run.0);
        claim.resend.filter(|run| is_unknown && !has_sent(run))
    }

    fn outcome(&self) -> Outcome {
        outcome::read(State::of_number(self.state), self.update_time, self.outcome.as_deref())
    }
}

/// What is to be done about one claim of a group.
#[derive(Debug)]
pub(super) enum Decision {
    New,
    /// Take over an unknown message from the claim that a row names, which is then sent by these runs.
    Reclaim {
        from: ClaimNumber,
        runs: Vec<u8>,
    },
    Settled(Outcome),
    InProgress,
    Reused,
}

/// Every claim of a group is new.
pub(super) fn all_new(claims: &[Claim], first: ClaimNumber) -> Vec<Claimed> {
    claims.iter().enumerate().map(|(ordinal, claim)| new(claim, first.nth(ordinal))).collect()
}

fn new(claim: &Claim, number: ClaimNumber) -> Claimed {
    Claimed::New(Ticket::new(claim.key.clone(), number, claim.fingerprint))
}

/// What a group of claims found, given the rows of its keys. Their numbers tell which it inserted itself.
pub(super) fn decide(claims: &[Claim], rows: Vec<Row>, first: ClaimNumber) -> Vec<Decision> {
    let mut rows: HashMap<usize, Row> = rows.into_iter().map(|row| (row.ordinal, row)).collect();
    // Keys that an earlier claim of this group got, with its fingerprint.
    let mut taken: HashMap<&Key, [u8; 16]> = HashMap::with_capacity(claims.len());
    let decisions = claims.iter().enumerate().map(|(ordinal, claim)| {
        if let Some(fingerprint) = taken.get(&claim.key) {
            return if *fingerprint == claim.fingerprint { Decision::InProgress } else { Decision::Reused };
        }
        // A key without a row was released by another replica just now.
        let Some(row) = rows.remove(&ordinal) else { return Decision::InProgress };
        if row.fingerprint != claim.fingerprint {
            Decision::Reused
        } else if row.claim == first.nth(ordinal) {
            taken.insert(&claim.key, claim.fingerprint);
            Decision::New
        } else if row.is_in_progress() {
            Decision::InProgress
        } else if let Some(run) = row.resent_by(claim) {
            taken.insert(&claim.key, claim.fingerprint);
            let mut runs = row.runs;
            runs.extend(run.0);
            let kept = LEDGER_RUNS_MAX * run.0.len();
            Decision::Reclaim { from: row.claim, runs: runs.split_off(runs.len().saturating_sub(kept)) }
        } else {
            Decision::Settled(row.outcome())
        }
    });
    decisions.collect()
}

/// What is on record under the keys of claims: an outcome, another request under the same id, or that it is being sent.
pub(super) fn read_recorded(claims: &[Claim], rows: Vec<Row>) -> Vec<Option<Claimed>> {
    let mut recorded: Vec<Option<Claimed>> = claims.iter().map(|_| None).collect();
    for row in rows {
        let (Some(claim), Some(found)) = (claims.get(row.ordinal), recorded.get_mut(row.ordinal)) else {
            continue;
        };
        if row.fingerprint != claim.fingerprint {
            *found = Some(Claimed::Reused);
        } else if row.is_in_progress() {
            *found = Some(Claimed::InProgress);
        } else if row.resent_by(claim).is_none() {
            *found = Some(Claimed::Settled(row.outcome()));
        }
    }
    recorded
}

/// What the claims got. `has_taken` tells which of the [`Decision::Reclaim`]s succeeded.
pub(super) fn carry_out(
    claims: &[Claim],
    decisions: Vec<Decision>,
    first: ClaimNumber,
    has_taken: impl Fn(usize) -> bool,
) -> Vec<Claimed> {
    let decisions = claims.iter().zip(decisions).enumerate();
    decisions
        .map(|(ordinal, (claim, decision))| match decision {
            Decision::New => new(claim, first.nth(ordinal)),
            Decision::Reclaim { .. } if has_taken(ordinal) => new(claim, first.nth(ordinal)),
            Decision::Reclaim { .. } | Decision::InProgress => Claimed::InProgress,
            Decision::Settled(outcome) => Claimed::Settled(outcome),
            Decision::Reused => Claimed::Reused,
        })
        .collect()
}

/// Settlements that leave a record, and those that release a claim.
pub(super) fn split<'a>(settlements: &[&'a Settlement]) -> (Vec<Recorded<'a>>, Vec<&'a Settlement>) {
    let (mut recorded, mut released) = (Vec::with_capacity(settlements.len()), Vec::new());
    for settlement in settlements {
        match &settlement.end {
            End::Recorded { state, time_ms, outcome } => recorded.push(Recorded {
                key: settlement.key(),
                claim: settlement.claim(),
                fingerprint: settlement.fingerprint(),
                state: state.number(),
                time_ms: *time_ms,
                outcome,
            }),
            End::Released | End::Voided => released.push(*settlement),
        }
    }
    (recorded, released)
}

/// A settlement that leaves a record.
#[derive(Debug)]
pub(super) struct Recorded<'a> {
    pub(super) key: &'a Key,
    pub(super) claim: ClaimNumber,
    pub(super) fingerprint: &'a [u8; 16],
    pub(super) state: i64,
    /// The time that the outcome names itself, if it does.
    pub(super) time_ms: Option<i64>,
    pub(super) outcome: &'a serde_json::value::RawValue,
}
