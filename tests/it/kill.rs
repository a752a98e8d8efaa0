//! `kill -9` of the built binary under load, again and again: nothing lost, nothing sent twice, and unknown is only what
//! was in flight.
//!
//! All fifty rounds:
//!
//! ```text
//! KILL_ROUNDS=50 cargo test --test it kill -- --nocapture
//! ```
//!
//! `KILL_SEED=7` changes the moments, `TEST_POSTGRES_URL=postgres://…` adds a run on Postgres.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use messenger_connector::api::pb::ItemState;
use messenger_connector::api::pb::bulk_start::OnUnknown;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::account::{Account, Deliveries, Records, Tally, deliveries, records};
use crate::caller::{Caller, Habits};
use crate::harness::{Client, item, start_sandbox, text_action};
use crate::random::{Random, setting};

/// Items of one bulk. When all have their result, the next bulk begins.
const BULK_ITEMS: usize = 5000;
/// Items without a result that the caller has out: what can be unknown after one kill.
const WINDOW: usize = 1000;

/// The binary, serving.
pub struct Service {
    pub child: Child,
    pub address: String,
    pub lines: Lines<BufReader<ChildStdout>>,
}

fn serve(ledger: &str, sandbox_url: &str, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_messenger-connector"))
        .args(["serve", "--listen", "127.0.0.1:0", "--graph-url", sandbox_url, "--ledger", ledger])
        .args(["--admin-listen", "none"])
        .args(more)
        .env("PAGE_ACCESS_TOKEN", "token")
        .env("CONNECTOR_RATE_PER_SECOND", "0")
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

impl Service {
    /// Starts it with these options more.
    pub async fn start_with(ledger: &str, sandbox_url: &str, more: &[&str]) -> Self {
        let mut child = serve(ledger, sandbox_url, more);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut log = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, address)) = line.split_once("listens address=") {
                return Self { child, address: format!("http://{address}"), lines };
            }
            log.push_str(&line);
        }
        panic!("the service ended before it listened: {log}");
    }

    async fn start(ledger: &str, sandbox_url: &str) -> Self {
        Self::start_with(ledger, sandbox_url, &[]).await
    }

    /// Waits until it logs this.
    pub async fn wait_for(&mut self, wanted: &str) -> String {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            if line.contains(wanted) {
                return line;
            }
        }
        panic!("the service ended without saying {wanted:?}");
    }

    /// Sends it a signal, such as TERM.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

/// A bulk, and its caller at work.
struct Bulk {
    account: Arc<Account>,
    caller: JoinHandle<()>,
}

impl Bulk {
    fn open(number: usize, address: watch::Receiver<Option<String>>, random: &mut Random) -> Self {
        let items = (0..BULK_ITEMS).map(|n| {
            let item_id = format!("{number}-{n}");
            let mut item = item(&item_id, &format!("{}", random.below(BULK_ITEMS)));
            item.action = Some(text_action(&item_id).into());
            item
        });
        let bulk_id = format!("kill-{}-{number}", std::process::id());
        let account = Arc::new(Account::new(&bulk_id, items.collect()));
        let habits =
            Habits { frame_items_max: 200, window: WINDOW, cancels: 0, on_unknown: OnUnknown::Report };
        let caller =
            Caller { account: account.clone(), address, habits, random: Random::new(random.next()) }.run();
        Self { account, caller: tokio::spawn(caller) }
    }
}

/// The moment of the next kill, within the service's work.
async fn some_moment(random: &mut Random, account: &Account) {
    if random.chance(50) {
        account.told_more(random.below(1500)).await;
    } else {
        tokio::time::sleep(Duration::from_micros(random.below(100_000) as u64)).await;
    }
}

/// Kills the service this often while it sends, and checks every bulk in the end.
async fn kill_again_and_again(ledger: &str, rounds: usize) {
    let started = Instant::now();
    let seed = setting("KILL_SEED").unwrap_or(1);
    let mut random = Random::new(seed);
    let (sandbox_url, _stop) = start_sandbox(5).await;
    let mut service = Service::start(ledger, &sandbox_url).await;
    let address = watch::Sender::new(Some(service.address.clone()));
    let mut bulks = vec![Bulk::open(0, address.subscribe(), &mut random)];
    let mut kills = 0;
    while kills < rounds {
        let bulk = bulks.last().unwrap();
        some_moment(&mut random, &bulk.account).await;
        if bulk.account.is_done() {
            bulks.push(Bulk::open(bulks.len(), address.subscribe(), &mut random));
            continue;
        }
        address.send_replace(None);
        service.child.kill().await.unwrap();
        kills += 1;
        if random.chance(20) {
            // One that hardly begins.
            let mut child = serve(ledger, &sandbox_url, &[]);
            tokio::time::sleep(Duration::from_micros(random.below(50_000) as u64)).await;
            child.kill().await.unwrap();
        }
        service = Service::start(ledger, &sandbox_url).await;
        address.send_replace(Some(service.address.clone()));
    }
    let mut client = Client::connect(service.address.clone()).await.unwrap();
    let (mut total, mut violations, mut in_flight) = (Tally::default(), Vec::new(), 0);
    let count = bulks.len();
    for bulk in bulks {
        bulk.caller.await.unwrap();
        let (found, tally) = check(&bulk.account, &mut client, &sandbox_url).await;
        violations.extend(found);
        total += tally;
        in_flight += bulk.account.in_flight().len();
    }
    println!(
        "{kills} kills over {count} bulks in {:.0?}, seed {seed}: {total}; {in_flight} were in flight at a kill",
        started.elapsed()
    );
    assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    assert!(total.unknown <= kills * WINDOW);
}

/// What is wrong with a bulk.
async fn check(account: &Account, client: &mut Client, sandbox_url: &str) -> (Vec<String>, Tally) {
    let prefix = account.items[0].item_id.split_once('-').unwrap().0.to_owned() + "-";
    let mut delivered = deliveries(sandbox_url).await;
    delivered.retain(|item_id, _| item_id.starts_with(&prefix));
    judge(account, &delivered, &records(client, &account.bulk_id).await)
}

/// What is wrong with a bulk, of which every item can be sent, by what was delivered and what is on record of it.
pub fn judge(account: &Account, delivered: &Deliveries, records: &Records) -> (Vec<String>, Tally) {
    let (mut violations, tally) = account.audit(delivered, records);
    let is_unknown = |told: &crate::account::Told| told.state == ItemState::Unknown;
    let unknown: BTreeSet<_> =
        account.told().into_iter().filter(|(_, told)| is_unknown(told)).map(|(id, _)| id).collect();
    for item_id in unknown.difference(&account.in_flight()) {
        violations.push(format!("{item_id}: unknown, though it was never in flight at a kill"));
    }
    if tally.sent + tally.unknown != tally.items {
        violations.push("everything can be sent".to_owned());
    }
    (violations, tally)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
    kill_again_and_again(&ledger, setting("KILL_ROUNDS").unwrap_or(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_and_double_nothing_on_postgres() {
    let Some(ledger) = setting::<String>("TEST_POSTGRES_URL") else { return };
    kill_again_and_again(&ledger, setting("KILL_ROUNDS").unwrap_or(2)).await;
}
