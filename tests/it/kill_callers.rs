//! Who calls while services are stopped again and again: bulks in one run or several, by a caller of the tests or by the
//! Rust client, and unary callers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use messenger_connector::api::pb::bulk_start::OnUnknown;
use messenger_connector::api::pb::{self, ItemState, item_result};
use messenger_connector_client::{BulkEvent, MessengerClient, Options, stream, v1};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::account::{Account, Deliveries, Records, Tally, Told, audit};
use crate::caller::{Caller, Habits};
use crate::harness::{item, text, text_action, text_request, update};
use crate::random::Random;

/// Items of one bulk.
const BULK_ITEMS: usize = 800;
/// Messages of a unary caller that are judged together.
const UNARY_MESSAGES: usize = 100;
/// Items without a result that a caller has out: what one kill can make unknown.
const WINDOW: usize = 150;
/// Runs of one bulk at most.
const RUNS_MAX: usize = 4;
/// Different recipients.
const RECIPIENTS: usize = 5000;

/// What callers know of the service.
#[derive(Clone)]
pub struct Town {
    /// Where it is, if it is anywhere.
    pub address: watch::Receiver<Option<String>>,
    /// A load balancer before it.
    pub front: String,
    /// Kills so far, each counted before it happens.
    pub kills: Arc<AtomicUsize>,
}

/// An address that stays, and leads to the service wherever it is. While there is none, connections are closed at once.
pub async fn front(address: watch::Receiver<Option<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let Some(service) = address.borrow().clone() else { continue };
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect(service.trim_start_matches("http://")).await else {
                    return;
                };
                drop((near.set_nodelay(true), far.set_nodelay(true)));
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    url
}

/// One run of a bulk. The first is to send it; each further one is a decision.
#[derive(Clone)]
struct Run {
    account: Arc<Account>,
    on_unknown: OnUnknown,
}

/// A bulk from its first run to its last.
pub struct Bulk {
    runs: Arc<Mutex<Vec<Run>>>,
    life: JoinHandle<()>,
}

impl Bulk {
    /// Begins one whose ids begin with this number.
    pub fn open(number: usize, town: Town, mut random: Random) -> Self {
        let items = (0..BULK_ITEMS).map(|n| {
            let item_id = format!("{number}-{n}");
            let mut item = item(&item_id, &random.below(RECIPIENTS).to_string());
            item.action = Some(text_action(&item_id).into());
            item
        });
        let mut account = Account::new(&format!("kill-{}-{number}", std::process::id()), items.collect());
        account.run_id = "run-1".to_owned();
        let on_unknown = random.pick(&[OnUnknown::Report, OnUnknown::Resend, OnUnknown::Resend]);
        let runs = Arc::new(Mutex::new(vec![Run { account: Arc::new(account), on_unknown }]));
        let life = tokio::spawn(live(runs.clone(), town, random));
        Self { runs, life }
    }

    /// The run that is under way, or the last one.
    pub fn account(&self) -> Arc<Account> {
        self.runs.lock().unwrap().last().unwrap().account.clone()
    }

    /// Returns the runs when the last one has all its results.
    pub async fn end(self) -> Ended {
        self.life.await.unwrap();
        Ended { runs: self.runs.lock().unwrap().clone() }
    }
}

/// Goes through the runs of a bulk.
async fn live(runs: Arc<Mutex<Vec<Run>>>, town: Town, mut random: Random) {
    loop {
        let run = runs.lock().unwrap().last().unwrap().clone();
        if random.chance(40) {
            call_with_client(&run, &town).await;
        } else {
            let habits =
                Habits { frame_items_max: 100, window: WINDOW, cancels: 0, on_unknown: run.on_unknown };
            let (account, address) = (run.account.clone(), town.address.clone());
            Caller { account, address, habits, random: Random::new(random.next()) }.run().await;
        }
        let unknown = unknown(&run.account.told());
        let number = runs.lock().unwrap().len() + 1;
        if unknown.is_empty() || number > RUNS_MAX || random.chance(20) {
            return;
        }
        // What is not unknown is asked for again, too.
        let percent = random.below(100);
        let others: BTreeSet<_> = run.account.ids().into_iter().filter(|_| random.chance(percent)).collect();
        let mut account = run.account.afresh(|id| unknown.contains(id) || others.contains(id));
        account.run_id = format!("run-{number}");
        let on_unknown = if random.chance(15) { OnUnknown::Report } else { OnUnknown::Resend };
        runs.lock().unwrap().push(Run { account: Arc::new(account), on_unknown });
    }
}

fn unknown(told: &BTreeMap<String, Told>) -> BTreeSet<String> {
    let unknown = told.iter().filter(|(_, told)| told.state == ItemState::Unknown);
    unknown.map(|(id, _)| id.clone()).collect()
}

/// The same message of the contract, in the types of another crate.
fn translate<T: Message + Default>(message: &impl Message) -> T {
    T::decode(message.encode_to_vec().as_slice()).unwrap()
}

fn client(town: &Town) -> MessengerClient {
    let options = Options { timeout: Duration::from_secs(10), ..Options::default() };
    MessengerClient::connect(&town.front, options).unwrap()
}

/// Sends a run with the Rust client, which connects and opens streams again by itself.
async fn call_with_client(run: &Run, town: &Town) {
    let account = &run.account;
    let start = pb::BulkStart {
        bulk_id: account.bulk_id.clone(),
        run_id: account.run_id.clone(),
        options: Some(update()),
        on_unknown: run.on_unknown.into(),
        ..Default::default()
    };
    let taken = AtomicUsize::new(0);
    let items = account.items.iter().map(|item| {
        taken.fetch_add(1, Ordering::Relaxed);
        translate(item)
    });
    let client = client(town).with_timeout(Duration::from_secs(120));
    let mut results = client.send_bulk(translate(&start), stream::iter(items));
    while let Some(event) = results.next_event().await {
        match event {
            Ok(BulkEvent::Settled { index, result }) => {
                if account.items[usize::try_from(index).unwrap()].item_id != result.item_id {
                    account.violation(format!("{}: the result of another item", result.item_id));
                }
                account.note(&translate(&result));
            }
            Ok(BulkEvent::Interrupted(error)) if leaves_doubt(error.reason) => {
                let told = account.told();
                let items = &account.items[..taken.load(Ordering::Relaxed)];
                let out = items.iter().filter(|item| !told.contains_key(&item.item_id));
                account.note_in_flight(out.map(|item| item.item_id.clone()));
            }
            Ok(BulkEvent::GivenUp { item_id, fate, .. }) => {
                account.violation(format!("{item_id}: given up, {fate:?}"));
            }
            Ok(_) => {}
            Err(error) => account.violation(format!("the client gave up: {error}")),
        }
    }
}

/// Whether items without a result may be unknown, if the service dies: a stream that the service has ended for a reason of
/// its own leaves none but those that it could not claim (see [`Account`]).
fn leaves_doubt(reason: v1::ErrorReason) -> bool {
    matches!(reason, v1::ErrorReason::Unspecified | v1::ErrorReason::LedgerUnavailable)
}

/// A caller of single messages, one after the other. It repeats each under its id until it knows what became of it.
pub struct UnaryCaller {
    accounts: JoinHandle<Vec<Account>>,
}

impl UnaryCaller {
    /// Starts one, which begins no message any more once `is_over`.
    pub fn start(number: usize, town: Town, mut random: Random, is_over: Arc<AtomicBool>) -> Self {
        let accounts = tokio::spawn(async move {
            let (client, mut accounts) = (client(&town), Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                let messages = UNARY_MESSAGES * accounts.len();
                let items = (messages..messages + UNARY_MESSAGES)
                    .map(|n| item(&format!("u{number}-{n}"), &random.below(RECIPIENTS).to_string()));
                let account = Account::new("", items.collect());
                for item in &account.items {
                    send(&client, &account, item, &town).await;
                }
                accounts.push(account);
            }
            accounts
        });
        Self { accounts }
    }

    pub async fn end(self) -> Vec<Account> {
        self.accounts.await.unwrap()
    }
}

async fn send(client: &MessengerClient, account: &Account, item: &pb::BulkItem, town: &Town) {
    let kills = town.kills.load(Ordering::SeqCst);
    let result = outcome(client, account, item).await;
    if town.kills.load(Ordering::SeqCst) > kills {
        account.note_in_flight(std::iter::once(item.item_id.clone()));
    }
    account.note(&result);
}

/// What became of a message, which is asked for until it is certain.
async fn outcome(client: &MessengerClient, account: &Account, item: &pb::BulkItem) -> pb::ItemResult {
    let request = pb::SendTextMessageRequest {
        request_id: item.item_id.clone(),
        recipient: item.recipient.clone(),
        text: Some(text(&item.item_id)),
        ..text_request("", "")
    };
    loop {
        let error = match client.send_text_message(translate(&request)).await {
            Ok(response) => {
                let receipt = translate(response.receipt().unwrap());
                return result(&item.item_id, ItemState::Sent, item_result::Outcome::Receipt(receipt));
            }
            Err(error) => error,
        };
        use messenger_connector_client::Code;
        match (error.code, error.reason) {
            (Code::Unknown, v1::ErrorReason::OutcomeUnknown) => {
                let error =
                    pb::SendError { reason: pb::ErrorReason::OutcomeUnknown.into(), ..Default::default() };
                return result(&item.item_id, ItemState::Unknown, item_result::Outcome::Error(error));
            }
            // Its id tells later.
            (Code::DeadlineExceeded, _) => {}
            _ if error.retryable => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => account.violation(format!("{}: {error:?}", item.item_id)),
        }
    }
}

fn result(item_id: &str, state: ItemState, outcome: item_result::Outcome) -> pb::ItemResult {
    pb::ItemResult { item_id: item_id.to_owned(), state: state.into(), outcome: Some(outcome) }
}

/// What is on record of unary messages: what they are told when they are repeated.
pub async fn unary_records(account: &Account, town: &Town) -> Records {
    let (client, mut records) = (client(town), Records::new());
    for item in &account.items {
        let told = Told::of(&outcome(&client, account, item).await).unwrap();
        records.insert(item.item_id.clone(), told);
    }
    records
}

/// A bulk whose runs are over.
pub struct Ended {
    runs: Vec<Run>,
}

/// How the runs of bulks ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resent {
    pub runs: usize,
    /// Times that an unknown item was in a run that was to send it again.
    pub decided: usize,
    /// Deliveries beyond the first one, each of them decided.
    pub again: usize,
}

impl Ended {
    pub fn bulk_id(&self) -> &str {
        &self.runs[0].account.bulk_id
    }

    pub fn in_flight(&self) -> usize {
        self.runs.iter().map(|run| run.account.in_flight().len()).sum()
    }

    /// What is wrong with the bulk, by what was delivered and what is on record of it.
    pub fn judge(
        &self,
        deliveries: &Deliveries,
        records: &Records,
        resent: &mut Resent,
    ) -> (Vec<String>, Tally) {
        let mut violations = Vec::new();
        let (mut told, mut decisions) = (BTreeMap::<String, Told>::new(), BTreeMap::<String, usize>::new());
        for (number, run) in self.runs.iter().enumerate() {
            let (is_resent, in_flight) = (run.on_unknown == OnUnknown::Resend, run.account.in_flight());
            violations.extend(run.account.violations());
            for (id, new) in run.account.told() {
                let is_unknown = new.state == ItemState::Unknown;
                match told.get(&id) {
                    Some(before) if before.state == ItemState::Unknown && is_resent => {
                        *decisions.entry(id.clone()).or_default() += 1;
                    }
                    Some(before) if *before == new => {
                        told.insert(id, new);
                        continue;
                    }
                    Some(before) => violations.push(format!("{id}: told {before:?}, in a later run {new:?}")),
                    None => {}
                }
                if is_unknown && !in_flight.contains(&id) {
                    let run = number + 1;
                    violations.push(format!("{id}: unknown by run {run}, though not in flight at a kill"));
                }
                told.insert(id, new);
            }
        }
        let decided = |id: &str| decisions.get(id).copied().unwrap_or_default();
        resent.runs += self.runs.len();
        resent.decided += decisions.values().sum::<usize>();
        resent.again += deliveries.values().map(|got| got.len() - 1).sum::<usize>();
        let ids = self.runs[0].account.ids();
        let (found, tally) = audit(&ids, &told, |id| 1 + decided(id), deliveries, records);
        violations.extend(found);
        if tally.sent + tally.unknown != tally.items {
            violations.push(format!("{}: everything can be sent", self.bulk_id()));
        }
        (violations, tally)
    }

    /// Of all deliveries, those of this bulk.
    pub fn of_it(&self, all: &Deliveries) -> Deliveries {
        of(self.runs[0].account.ids(), all)
    }
}

/// Of all deliveries, those of these ids.
pub fn of(ids: BTreeSet<&str>, all: &Deliveries) -> Deliveries {
    ids.iter().filter_map(|id| all.get(*id).map(|got| ((*id).to_owned(), got.clone()))).collect()
}
