//! The built binary under load, stopped again and again, with `kill -9` and with SIGTERM: nothing is lost, nothing is sent
//! twice unless somebody decided it, and unknown is only what was in flight at a kill.
//!
//! `make rounds ROUNDS=500` makes so many rounds of each signal on each store. `KILL_SEED=7` changes the moments and the
//! callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use tokio::process::Child;
use tokio::sync::watch;

use crate::account::{Account, Deliveries, Tally, deliveries, records};
use crate::harness::{Client, in_time, start_sandbox};
use crate::kill::{Service, judge, signal, spawn};
use crate::kill_callers::{Bulk, Resent, Town, UnaryCaller, front, of, unary_records};
use crate::postgres::{OwnServer, new_database};
use crate::random::{Random, setting};

/// Bulks that have most of their items before them, at any time.
const FRESH_BULKS: usize = 3;
/// Rounds after which a bulk does not count as fresh any more.
const FRESH_ROUNDS: usize = 8;
const UNARY_CALLERS: usize = 3;
/// How long callers have for what is left after the last round: leases of the dead run out after 15 s.
const END_TIMEOUT: Duration = Duration::from_secs(600);

/// What happens in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// `kill -9` of the service.
    Kill,
    /// SIGTERM to the service.
    Term,
    /// `kill -9` of the database server, which is started again at once.
    ServerKill,
    /// The database server does nothing for some time.
    ServerPause,
}

/// Where the ledger is.
enum Place {
    Sqlite {
        _folder: tempfile::TempDir,
        url: String,
    },
    Postgres {
        url: String,
    },
    /// On a server that may be stopped.
    Own {
        url: String,
        server: OwnServer,
    },
}

impl Place {
    fn url(&self) -> &str {
        match self {
            Self::Sqlite { url, .. } | Self::Postgres { url } | Self::Own { url, .. } => url,
        }
    }

    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
        Self::Sqlite { _folder: folder, url }
    }

    /// As if a replica that was killed had been dead for longer than its lease.
    async fn expire_leases(&self) {
        if let Self::Postgres { url } | Self::Own { url, .. } = self {
            let mut connection = PgConnection::connect(url).await.unwrap();
            connection.execute("UPDATE ledger_owner SET expires_at = now()").await.unwrap();
        }
    }
}

struct Rounds {
    place: Place,
    sandbox_url: String,
    random: Random,
    /// The service, and where callers find it.
    service: Child,
    address: watch::Sender<Option<String>>,
    town: Town,
    /// How many of a hundred kills leave a lease that others have to wait for.
    waits_percent: usize,
    rounds: usize,
    bulks: Vec<(usize, Bulk)>,
}

impl Rounds {
    async fn start(place: Place, sandbox_url: &str, seed: u64, waits_percent: usize) -> Self {
        let (address, receiver) = watch::channel(None);
        let town = Town {
            front: front(receiver.clone()).await,
            address: receiver,
            kills: Arc::new(AtomicUsize::new(0)),
        };
        let service = Service::start_with(place.url(), sandbox_url, &["--drain-delay-ms", "0"]).await;
        address.send_replace(Some(service.address.clone()));
        let (service, _log) = service.read_log();
        let (random, sandbox_url) = (Random::new(seed), sandbox_url.to_owned());
        let (rounds, bulks) = (0, Vec::new());
        Self { place, sandbox_url, random, service, address, town, waits_percent, rounds, bulks }
    }

    /// Keeps callers busy, and waits for some moment within the service's work.
    async fn some_moment(&mut self) {
        let is_fresh = |(opened, bulk): &&(usize, Bulk)| {
            let account = bulk.account();
            opened + FRESH_ROUNDS > self.rounds && account.pending().len() * 3 > account.items.len()
        };
        let mut fresh: Vec<_> = self.bulks.iter().filter(is_fresh).map(|(_, bulk)| bulk.account()).collect();
        while fresh.len() < FRESH_BULKS {
            let random = Random::new(self.random.next());
            let bulk = Bulk::open(self.bulks.len(), self.town.clone(), random);
            fresh.push(bulk.account());
            self.bulks.push((self.rounds, bulk));
        }
        let account = &fresh[self.random.below(fresh.len())];
        if self.random.chance(70) {
            let more = account.told_more(self.random.below(200));
            // Its caller may be waiting for what a killed service has left.
            drop(tokio::time::timeout(Duration::from_secs(1), more).await);
        } else {
            tokio::time::sleep(Duration::from_micros(self.random.below(100_000) as u64)).await;
        }
    }

    async fn stop(&mut self, how: Stop) {
        match how {
            Stop::Kill => self.kill().await,
            Stop::Term => self.term().await,
            Stop::ServerKill => self.server().kill().await,
            Stop::ServerPause => {
                let pause = Duration::from_millis(500 + self.random.below(2500) as u64);
                self.server().stop_for(pause).await;
            }
        }
        self.rounds += 1;
    }

    fn server(&mut self) -> &mut OwnServer {
        let Place::Own { server, .. } = &mut self.place else { panic!("a server of its own") };
        server
    }

    async fn kill(&mut self) {
        if self.random.chance(15) {
            // In the middle of a drain.
            signal(&self.service, "TERM");
            tokio::time::sleep(Duration::from_micros(self.random.below(30_000) as u64)).await;
        }
        self.town.kills.fetch_add(1, Ordering::SeqCst);
        self.address.send_replace(None);
        self.service.kill().await.unwrap();
        if !self.random.chance(self.waits_percent) {
            self.place.expire_leases().await;
        }
        if self.random.chance(10) {
            // One that hardly begins.
            let mut child = spawn(self.place.url(), &self.sandbox_url, &[]);
            tokio::time::sleep(Duration::from_micros(self.random.below(50_000) as u64)).await;
            child.kill().await.unwrap();
        }
        self.start_again().await;
    }

    async fn term(&mut self) {
        signal(&self.service, "TERM");
        let status = in_time(self.service.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0), "a drain ends well");
        self.address.send_replace(None);
        self.start_again().await;
    }

    async fn start_again(&mut self) {
        let delay = self.random.pick(&["0", "0", "30"]);
        let more = ["--drain-delay-ms", delay];
        let service = in_time(Service::start_with(self.place.url(), &self.sandbox_url, &more)).await;
        self.address.send_replace(Some(service.address.clone()));
        self.service = service.read_log().0;
    }
}

/// What all callers were told, and what was delivered.
#[derive(Default)]
struct Verdict {
    bulk_items: Tally,
    unary: Tally,
    resent: Resent,
    in_flight: usize,
    violations: Vec<String>,
}

/// Goes through these rounds in an order that the seed decides, and judges what callers were told.
async fn go(name: &str, place: Place, kinds: &[(Stop, usize)], waits_percent: usize) {
    let started = Instant::now();
    let seed = setting("KILL_SEED").unwrap_or(1);
    let (sandbox_url, _stop) = start_sandbox(5).await;
    let mut rounds = Rounds::start(place, &sandbox_url, seed, waits_percent).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let callers = (0..UNARY_CALLERS).map(|number| {
        let random = Random::new(seed ^ (number as u64 + 1) << 32);
        UnaryCaller::start(number, rounds.town.clone(), random, is_over.clone())
    });
    let callers: Vec<_> = callers.collect();
    let mut left: Vec<Stop> = kinds.iter().flat_map(|(stop, count)| vec![*stop; *count]).collect();
    while !left.is_empty() {
        let next = rounds.random.below(left.len());
        rounds.some_moment().await;
        rounds.stop(left.swap_remove(next)).await;
        if rounds.rounds % 50 == 0 {
            println!("{name}: {} rounds in {:.0?}", rounds.rounds, started.elapsed());
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let (bulks, mut verdict) = (rounds.bulks.len(), Verdict::default());
    tokio::time::timeout(END_TIMEOUT, rounds.judge(callers, &mut verdict)).await.expect("callers end");
    let Verdict { bulk_items, unary, resent, in_flight, violations } = &verdict;
    println!(
        "{name}, {kinds:?} in {:.0?}, seed {seed}: {bulks} bulks in {} runs, {bulk_items}; {in_flight} were in flight at \
         a kill; sent again by decision {}, delivered again by it {}; unary {unary}; {} violations",
        started.elapsed(),
        resent.runs,
        resent.decided,
        resent.again,
        violations.len(),
    );
    assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    assert!(kinds.iter().any(|(stop, _)| *stop == Stop::Kill) || bulk_items.unknown + unary.unknown == 0);
}

impl Rounds {
    async fn judge(self, callers: Vec<UnaryCaller>, verdict: &mut Verdict) {
        let mut ended = Vec::new();
        for (_, bulk) in self.bulks {
            ended.push(bulk.end().await);
        }
        let mut unary: Vec<(Account, _)> = Vec::new();
        for caller in callers {
            for account in caller.end().await {
                let records = unary_records(&account, &self.town).await;
                unary.push((account, records));
            }
        }
        let all = deliveries(&self.sandbox_url).await;
        let mut client = Client::connect(self.address.borrow().clone().unwrap()).await.unwrap();
        let mut counted = 0;
        for bulk in &ended {
            let (records, delivered) = (records(&mut client, bulk.bulk_id()).await, bulk.of_it(&all));
            let (found, tally) = bulk.judge(&delivered, &records, &mut verdict.resent);
            counted += delivered.len();
            verdict.violations.extend(found);
            verdict.bulk_items += tally;
            verdict.in_flight += bulk.in_flight();
        }
        for (account, records) in &unary {
            let delivered: Deliveries = of(account.ids(), &all);
            counted += delivered.len();
            let (found, tally) = judge(account, &delivered, records);
            verdict.violations.extend(found);
            verdict.unary += tally;
            verdict.in_flight += account.in_flight().len();
        }
        if counted != all.len() {
            verdict.violations.push(format!("{} deliveries of nobody's messages", all.len() - counted));
        }
    }
}

fn each_signal(rounds: usize) -> [(Stop, usize); 2] {
    [(Stop::Kill, rounds), (Stop::Term, rounds)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_lose_nothing_and_double_nothing() {
    let rounds = setting("KILL_ROUNDS").unwrap_or(4);
    go("SQLite", Place::sqlite(), &each_signal(rounds), 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_lose_nothing_and_double_nothing_on_postgres() {
    let (rounds, waits_percent) = setting("KILL_ROUNDS").map_or((3, 0), |rounds| (rounds, 50));
    let url = new_database().await.into();
    go("Postgres", Place::Postgres { url }, &each_signal(rounds), waits_percent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_of_the_database_server_lose_nothing_and_double_nothing() {
    let rounds: usize = setting("KILL_ROUNDS").map_or(1, |rounds: usize| rounds.div_ceil(5));
    let server = OwnServer::start().await;
    let url = server.url.to_string();
    let kinds = [(Stop::ServerKill, rounds), (Stop::ServerPause, rounds.div_ceil(2)), (Stop::Term, rounds)];
    go("Postgres server and drains", Place::Own { url, server }, &kinds, 0).await;
    let server = OwnServer::start().await;
    let url = server.url.to_string();
    let kinds = [kinds[0], kinds[1], kinds[2], (Stop::Kill, rounds)];
    go("Postgres server and service", Place::Own { url, server }, &kinds, 0).await;
}
