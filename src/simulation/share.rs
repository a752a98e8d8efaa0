//! The database: one of a replica's own, or one that all of them share. It goes away, comes back, and loses what it did not
//! promise to keep.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::world::World;
use crate::dispatch::lane::event::Event;
use crate::dispatch::standing::ShareGrant;
use crate::ledger::memory::MemoryLedger;
use crate::ledger::{Ask, Claim, Claimed, Grant, LedgerError, Settlement};
use crate::limits::{
    LEDGER_LEASE, LEDGER_RETENTION_DEFAULT, LEDGER_SWEEP_INTERVAL, SHARE_INTERVAL_MIN, SHARE_LEASE,
};

/// A ledger, and whether it can be reached.
pub(super) struct Database {
    ledger: MemoryLedger,
    is_shared: bool,
    away_until: Duration,
    copy: Option<MemoryLedger>,
    /// Claims may be gone that had been granted.
    pub(super) has_forgotten: bool,
}

impl Database {
    pub(super) fn new(is_shared: bool) -> Self {
        Self {
            ledger: MemoryLedger::default(),
            is_shared,
            away_until: Duration::ZERO,
            copy: None,
            has_forgotten: false,
        }
    }

    pub(super) fn copy(&mut self) {
        self.copy = Some(self.ledger.clone());
    }

    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    pub(super) fn is_away(&self, now: Duration) -> bool {
        now < self.away_until
    }

    pub(super) fn new_owner(&mut self) -> i64 {
        self.ledger.open()
    }

    pub(super) fn end_owner(&mut self, owner: i64) {
        self.ledger.crash_owner(owner);
    }

    pub(super) fn is_owner(&self, owner: i64) -> bool {
        self.ledger.is_owner(owner)
    }

    pub(super) fn claim(
        &mut self,
        owner: i64,
        claims: &[Claim],
        time: SystemTime,
        now: Duration,
    ) -> Result<Vec<Claimed>, LedgerError> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        if self.is_away(now) {
            return Err(LedgerError::passing("the database is away"));
        }
        self.ledger.claim(claims, owner, milliseconds(time))
    }

    /// What is on record of claims; nothing if nobody can look.
    pub(super) fn on_record(&self, claims: &[Claim], now: Duration) -> Vec<Option<Claimed>> {
        if self.is_away(now) { Vec::new() } else { self.ledger.on_record(claims) }
    }

    pub(super) fn settle(&mut self, settlements: &[Settlement]) {
        self.ledger.settle(settlements);
    }

    fn share(&mut self, owner: i64, asks: &[Ask], time: SystemTime, now: Duration) -> Option<Vec<Grant>> {
        (!self.is_away(now)).then(|| self.ledger.share(owner, asks, milliseconds(time)))
    }

    /// Nothing stays in progress.
    pub(super) fn check_all_settled(&self) {
        for (key, outcome) in self.ledger.messages() {
            assert!(outcome.is_some(), "{key:?} stays in progress for ever");
        }
    }
}

fn milliseconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

impl World {
    pub(super) fn database_away(&mut self, duration: Duration) {
        self.database.away_until = self.now + duration;
        if duration <= LEDGER_LEASE {
            return;
        }
        // Nobody can renew a lease meanwhile; who comes back takes another one.
        let owners: Vec<i64> = self.replicas.iter().map(|replica| replica.owner).collect();
        self.after(LEDGER_LEASE, move |world| {
            owners.iter().for_each(|owner| world.database.end_owner(*owner))
        });
        for replica in 0..self.replicas.len() {
            self.after_at(replica, duration, move |world| world.renew_owner(replica));
        }
    }

    /// A copy takes the database's place: what was written after it was made is lost.
    pub(super) fn fail_over(&mut self) {
        if let Some(copy) = self.database.copy.take() {
            self.database.ledger = copy;
            self.database.has_forgotten = true;
            // Whoever finds at its next renewal that the database has gone back takes another lease.
            for replica in 0..self.replicas.len() {
                let owner = self.replicas[replica].owner;
                self.after_at(replica, LEDGER_LEASE / 3, move |world| {
                    world.database.end_owner(owner);
                    world.renew_owner(replica);
                });
            }
        }
    }

    /// The database's process dies and starts again.
    pub(super) fn database_crash(&mut self, duration: Duration) {
        let time = milliseconds(self.time() + duration);
        self.database.ledger.crash_database(time);
        self.database_away(duration);
    }

    /// Plans when a replica asks for its shares.
    pub(super) fn plan_share(&mut self, replica: usize) {
        let next = self.replicas[replica].schedule.next(self.instant());
        let wait = next.saturating_duration_since(self.instant());
        self.replicas[replica].share_plans += 1;
        let plan = self.replicas[replica].share_plans;
        self.after_at(replica, wait, move |world| {
            if world.replicas[replica].share_plans == plan {
                world.ask_for_shares(replica);
            }
        });
    }

    fn ask_for_shares(&mut self, replica: usize) {
        let now = self.moment(replica);
        let is_rare = self.replicas[replica].asked.is_none_or(|asked| self.now - asked >= SHARE_INTERVAL_MIN);
        assert!(is_rare, "a replica asks for its shares again and again");
        self.replicas[replica].asked = Some(self.now);
        self.replicas[replica].schedule.begin(now.instant);
        let pages = self.replicas[replica].pages.clone();
        let (mut asks, mut eras) = (Vec::new(), Vec::new());
        for (number, page) in pages.iter().enumerate() {
            let asked = self.lane(replica, number).core.share_ask(page, now);
            asks.push(asked.ask);
            eras.push(asked.era);
        }
        let until = now.instant + SHARE_LEASE;
        let owner = self.replicas[replica].owner;
        let (there, back) = (self.up_to(self.plan.write / 2), self.up_to(self.plan.write / 2));
        let life = self.replicas[replica].life;
        self.after(there, move |world| {
            let grants = world.database.share(owner, &asks, world.time(), world.now);
            if world.replicas[replica].life == life {
                world.after_at(replica, back, move |world| world.granted(replica, grants, &eras, until));
            }
        });
    }

    fn granted(&mut self, replica: usize, grants: Option<Vec<Grant>>, eras: &[u64], until: Instant) {
        for (page, (grant, era)) in grants.into_iter().flatten().zip(eras).enumerate() {
            self.step(replica, page, Some(Event::Granted(Box::new(ShareGrant { grant, era: *era, until }))));
        }
        self.plan_share(replica);
    }

    /// Plans when a replica forgets what is old.
    pub(super) fn plan_sweep(&mut self, replica: usize) {
        self.after_at(replica, LEDGER_SWEEP_INTERVAL, move |world| {
            // Counted by steady clocks, whatever the replica's says.
            let retention = LEDGER_RETENTION_DEFAULT.as_millis() as i64;
            world.database.ledger.sweep(milliseconds(world.time()) - retention);
            world.plan_sweep(replica);
        });
    }

    /// The page as it is configured now.
    pub(super) fn configured(&self, page: usize) -> std::sync::Arc<crate::pages::Page> {
        let plan = self.plan.pages[page];
        let token = format!("token-{page}-{}", self.tokens[page]);
        std::sync::Arc::new(crate::pages::Page {
            access_token: token.as_str().into(),
            rate_per_second: plan.rate,
            media_rate_per_second: plan.media_rate,
            ..crate::pages::Page::sample(&page.to_string())
        })
    }

    pub(super) fn rotate_token(&mut self, page: usize, config_first: bool) {
        let old = self.configured(page).token_digest();
        self.tokens[page] += 1;
        let new = self.configured(page).token_digest();
        self.graph.take_token(page, new);
        let (revoked, configured) = if config_first {
            (self.up_to(Duration::from_secs(5)), Duration::ZERO)
        } else {
            (Duration::ZERO, self.up_to(Duration::from_secs(60)))
        };
        self.after(revoked, move |world| world.graph.refuse_token(page, old));
        for replica in 0..self.replicas.len() {
            // Files are looked at now and then.
            let seen = configured + self.up_to(crate::limits::FILES_RELOAD_INTERVAL);
            self.after_at(replica, seen, move |world| {
                world.replicas[replica].pages[page] = world.configured(page);
            });
        }
    }
}
