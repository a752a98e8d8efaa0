//! The account of one bulk: what its callers were told of every item, against what Graph got and what is on record.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Mutex;

use messenger_connector::api::pb::{self, ErrorReason, ItemState, item_result};
use tokio::sync::watch;

use crate::harness::{Client, sandbox_json};

/// A terminal result, as far as it must be the same whenever it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub state: ItemState,
    pub reason: Option<ErrorReason>,
    pub message_id: String,
}

impl Told {
    /// None of a message that was not sent: the caller sends it again.
    pub fn of(result: &pb::ItemResult) -> Option<Self> {
        let (reason, message_id) = match result.outcome.as_ref().expect("a result has an outcome") {
            item_result::Outcome::Receipt(receipt) => (None, receipt.message_id.clone()),
            item_result::Outcome::Error(error) => (Some(error.reason()), String::new()),
        };
        let state = result.state();
        (state != ItemState::NotSent).then_some(Self { state, reason, message_id })
    }
}

/// Ids of the messages that Graph delivered, by item.
pub type Deliveries = HashMap<String, Vec<String>>;

/// What is on record, by item.
pub type Records = BTreeMap<String, Told>;

/// One run of a bulk, and what its callers were told.
pub struct Account {
    pub bulk_id: String,
    pub run_id: String,
    /// What callers send. An item may be in it twice.
    pub items: Vec<pb::BulkItem>,
    told: Mutex<BTreeMap<String, Told>>,
    told_count: watch::Sender<usize>,
    /// Items that were without a result when their service was stopped, and items that were refused because the ledger was
    /// away: a claim whose commit got no answer stays if the service dies before it has undone it.
    in_flight: Mutex<BTreeSet<String>>,
    violations: Mutex<Vec<String>>,
}

/// How many items ended how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub items: usize,
    pub sent: usize,
    pub failed: usize,
    pub rejected: usize,
    pub unknown: usize,
    /// Unknown ones that Graph did deliver.
    pub unknown_delivered: usize,
    pub lost: usize,
    pub doubled: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.items += other.items;
        self.sent += other.sent;
        self.failed += other.failed;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.unknown_delivered += other.unknown_delivered;
        self.lost += other.lost;
        self.doubled += other.doubled;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { items, sent, failed, rejected, unknown, unknown_delivered, lost, doubled } = self;
        write!(
            formatter,
            "{items} items: {sent} sent, {failed} failed, {rejected} rejected, {unknown} unknown (of these \
             {unknown_delivered} delivered); {lost} lost, {doubled} doubled"
        )
    }
}

impl Account {
    pub fn new(bulk_id: &str, items: Vec<pb::BulkItem>) -> Self {
        Self {
            bulk_id: bulk_id.to_owned(),
            run_id: "again".to_owned(),
            items,
            told: Mutex::default(),
            told_count: watch::Sender::new(0),
            in_flight: Mutex::default(),
            violations: Mutex::default(),
        }
    }

    /// Some of the same bulk, of which nobody was told anything yet.
    pub fn afresh(&self, is_meant: impl Fn(&str) -> bool) -> Self {
        let items = self.items.iter().filter(|item| is_meant(&item.item_id)).cloned();
        Self::new(&self.bulk_id, items.collect())
    }

    pub fn ids(&self) -> BTreeSet<&str> {
        self.items.iter().map(|item| item.item_id.as_str()).collect()
    }

    /// Notes what a caller was told.
    pub fn note(&self, result: &pb::ItemResult) {
        let Some(new) = Told::of(result) else {
            if matches!(&result.outcome, Some(item_result::Outcome::Error(error)) if error.reason() == ErrorReason::LedgerUnavailable)
            {
                self.note_in_flight(std::iter::once(result.item_id.clone()));
            }
            return;
        };
        let mut told = self.told.lock().unwrap();
        match told.get(&result.item_id) {
            None => {
                told.insert(result.item_id.clone(), new);
                self.told_count.send_replace(told.len());
            }
            Some(before) if *before == new => {}
            Some(before) => self.violation(format!("{}: told {before:?}, then {new:?}", result.item_id)),
        }
    }

    pub fn violation(&self, violation: String) {
        self.violations.lock().unwrap().push(violation);
    }

    pub fn note_in_flight(&self, item_ids: impl Iterator<Item = String>) {
        self.in_flight.lock().unwrap().extend(item_ids);
    }

    pub fn in_flight(&self) -> BTreeSet<String> {
        self.in_flight.lock().unwrap().clone()
    }

    pub fn told(&self) -> BTreeMap<String, Told> {
        self.told.lock().unwrap().clone()
    }

    /// Items that have no terminal result yet.
    pub fn pending(&self) -> Vec<pb::BulkItem> {
        let told = self.told.lock().unwrap();
        self.items.iter().filter(|item| !told.contains_key(&item.item_id)).cloned().collect()
    }

    pub fn is_done(&self) -> bool {
        self.pending().is_empty()
    }

    /// Waits until `count` more items have a terminal result.
    pub async fn told_more(&self, count: usize) {
        let mut told_count = self.told_count.subscribe();
        let wanted = (*told_count.borrow_and_update() + count).min(self.ids().len());
        told_count.wait_for(|now| *now >= wanted).await.unwrap();
    }

    /// What callers found wrong by themselves.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }

    /// Everything that is wrong with this bulk, and how its items ended.
    pub fn audit(&self, deliveries: &Deliveries, records: &Records) -> (Vec<String>, Tally) {
        let (found, tally) = audit(&self.ids(), &self.told(), |_| 1, deliveries, records);
        ([self.violations(), found].concat(), tally)
    }
}

/// Everything that is wrong with messages of these ids, each of which may be delivered so many times, and how they ended.
pub fn audit(
    ids: &BTreeSet<&str>,
    told: &BTreeMap<String, Told>,
    deliveries_max: impl Fn(&str) -> usize,
    deliveries: &Deliveries,
    records: &Records,
) -> (Vec<String>, Tally) {
    let (mut violations, mut tally) = (Vec::new(), Tally { items: ids.len(), ..Tally::default() });
    for id in ids {
        let got = deliveries.get(*id).map(Vec::as_slice).unwrap_or_default();
        if got.len() > deliveries_max(id) {
            tally.doubled += 1;
            violations.push(format!("{id}: delivered {} times", got.len()));
        }
        let Some(told) = told.get(*id) else {
            tally.lost += 1;
            violations.push(format!("{id}: lost, it has no result"));
            continue;
        };
        tally.count(told.state, !got.is_empty());
        if !is_true(told, got) {
            violations.push(format!("{id}: told {told:?}, but delivered as {got:?}"));
        }
        let on_record = (told.state != ItemState::Rejected).then_some(told);
        if records.get(*id) != on_record {
            violations.push(format!("{id}: told {told:?}, but on record as {:?}", records.get(*id)));
        }
    }
    let strangers = deliveries.keys().chain(records.keys()).filter(|id| !ids.contains(id.as_str()));
    violations.extend(strangers.map(|id| format!("{id}: nobody asked for it")));
    (violations, tally)
}

impl Tally {
    fn count(&mut self, state: ItemState, is_delivered: bool) {
        match state {
            ItemState::Sent => self.sent += 1,
            ItemState::Failed => self.failed += 1,
            ItemState::Rejected => self.rejected += 1,
            ItemState::Unknown => {
                self.unknown += 1;
                self.unknown_delivered += usize::from(is_delivered);
            }
            ItemState::NotSent | ItemState::Unspecified => {}
        }
    }
}

/// A result tells of the deliveries what happened.
fn is_true(told: &Told, deliveries: &[String]) -> bool {
    match told.state {
        ItemState::Sent => deliveries.contains(&told.message_id),
        ItemState::Unknown => told.reason == Some(ErrorReason::OutcomeUnknown),
        ItemState::Failed | ItemState::Rejected => deliveries.is_empty(),
        ItemState::NotSent | ItemState::Unspecified => false,
    }
}

/// What the sandbox delivered. The text of a message is the id of its item.
pub async fn deliveries(sandbox_url: &str) -> Deliveries {
    let answer = sandbox_json(sandbox_url, "/sandbox/messages?limit=100000000").await;
    let mut deliveries = Deliveries::new();
    for message in answer["messages"].as_array().unwrap() {
        let item_id = message["body"]["message"]["text"].as_str().unwrap().to_owned();
        deliveries.entry(item_id).or_default().push(message["message_id"].as_str().unwrap().to_owned());
    }
    deliveries
}

/// What is on record of a bulk.
pub async fn records(client: &mut Client, bulk_id: &str) -> Records {
    let (mut records, mut page_token) = (Records::new(), String::new());
    loop {
        let request = pb::ListBulkResultsRequest {
            bulk_id: bulk_id.to_owned(),
            page_size: 1000,
            page_token,
            ..Default::default()
        };
        let page = client.list_bulk_results(request).await.unwrap().into_inner();
        for result in page.results {
            let told = Told::of(&result).expect("only terminal results are on record");
            assert!(records.insert(result.item_id, told).is_none(), "an item is on record once");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return records;
        }
    }
}
