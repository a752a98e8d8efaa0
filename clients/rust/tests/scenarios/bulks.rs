//! Scenarios of bulks.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use messenger_connector_client::{BulkResults, MessengerError, stream, v1};

use crate::contract::message;
use crate::scenario::{BulkScenario, Connect, ItemOfRound, Restart};
use crate::service::Stack;

/// Messages that are asked for at a time.
const MESSAGES_PAGE: u64 = 10_000;

/// What the source and the reader of the results count together.
#[derive(Default)]
struct Counts {
    taken: AtomicU64,
    yielded: AtomicU64,
    ahead_max: AtomicU64,
    /// How often each id was taken, and which of a round's items it is.
    items: Mutex<HashMap<String, (u64, usize)>>,
}

impl Counts {
    fn note_taken(&self, item_id: &str, index: usize) {
        let taken = self.taken.fetch_add(1, Ordering::SeqCst) + 1;
        self.ahead_max.fetch_max(taken - self.yielded.load(Ordering::SeqCst), Ordering::SeqCst);
        self.items.lock().unwrap().entry(item_id.to_owned()).or_insert((0, index)).0 += 1;
    }
}

pub(crate) async fn run(scenario: BulkScenario) {
    let mut stack = Stack::start(scenario.service).await;
    let client = stack.connect(&Connect::default());
    let (counts, expected) = (Arc::new(Counts::default()), Arc::new(scenario.items));
    let source = source(expected.clone(), scenario.rounds, scenario.filler_bytes, counts.clone());
    let results = client.send_bulk(message("BulkStart", &scenario.start), stream::iter(source));
    let read = read(results, &counts, scenario.cancel_after_results);
    let ((results, error), ()) = tokio::join!(read, restart(&mut stack, scenario.restart.as_ref()));

    match (error, scenario.error) {
        (Some(error), Some(expected)) => {
            expected.check(&error);
            assert_eq!(error.request_id, "");
            assert!(results.is_empty(), "{results:?}");
        }
        (Some(error), None) => panic!("{error:?}"),
        (None, Some(_)) => panic!("it succeeded"),
        (None, None) if scenario.cancel_after_results.is_some() => {
            assert!(Arc::strong_count(&expected) == 1, "the source is there no more");
        }
        (None, None) => {
            let items = std::mem::take(&mut *counts.items.lock().unwrap());
            check(&results, items, &expected, scenario.or_state_max.unwrap_or(0));
        }
    }
    if let Some(ahead_max) = scenario.ahead_max {
        let ahead = counts.ahead_max.load(Ordering::SeqCst);
        assert!(ahead <= ahead_max, "{ahead} were taken ahead of their results");
    }
    match scenario.delivered {
        Some(delivered) => assert_eq!(stack.delivered().await, delivered),
        None => all_are_delivered(&stack, &results).await,
    }
    let state = stack.ask_sandbox("/sandbox/state").await;
    assert_eq!(state["duplicates"], 0, "{state}");
}

/// The items of all rounds, made when they are asked for.
fn source(
    items: Arc<Vec<ItemOfRound>>,
    rounds: u64,
    filler_bytes: usize,
    counts: Arc<Counts>,
) -> impl Iterator<Item = v1::BulkItem> {
    let filler = "x".repeat(filler_bytes);
    let (mut round, mut index) = (0, 0);
    std::iter::from_fn(move || {
        if index == items.len() {
            (round, index) = (round + 1, 0);
        }
        if round >= rounds {
            return None;
        }
        let json = items.get(index)?.item.to_string();
        let json = json.replace("{round}", &round.to_string()).replace("{filler}", &filler);
        let item: v1::BulkItem = message("BulkItem", &serde_json::from_str(&json).unwrap());
        counts.note_taken(&item.item_id, index);
        index += 1;
        Some(item)
    })
}

async fn read(
    mut results: BulkResults<'_>,
    counts: &Counts,
    cancel_after: Option<u64>,
) -> (Vec<v1::ItemResult>, Option<MessengerError>) {
    let mut read = Vec::new();
    while cancel_after.is_none_or(|count| (read.len() as u64) < count)
        && let Some(result) = results.next().await
    {
        match result {
            Ok(result) => {
                counts.yielded.fetch_add(1, Ordering::SeqCst);
                read.push(result);
            }
            Err(error) => {
                assert!(results.next().await.is_none(), "an error is the last element");
                return (read, Some(error));
            }
        }
    }
    (read, None)
}

async fn restart(stack: &mut Stack, restart: Option<&Restart>) {
    let Some(Restart { signal, when_delivered }) = restart else { return };
    stack.wait_for_delivered(*when_delivered).await;
    let ended = stack.restart(signal).await;
    assert_eq!(ended.success(), signal == "SIGTERM", "{ended:?}");
}

/// Every item has one result, and it is the expected one.
fn check(
    results: &[v1::ItemResult],
    mut items: HashMap<String, (u64, usize)>,
    expected: &[ItemOfRound],
    or_state_max: u64,
) {
    let mut or_states = 0;
    for result in results {
        let (left, index) = items.get_mut(&result.item_id).unwrap();
        *left = left.checked_sub(1).unwrap_or_else(|| panic!("one result too many: {result:?}"));
        let expected = &expected[*index];
        let state = Some(result.state().as_str_name());
        if state == expected.or_state.as_deref() {
            or_states += 1;
            continue;
        }
        assert_eq!(state, expected.state.as_deref(), "{result:?}");
        let reason = result.error().map(|error| error.reason().as_str_name());
        assert_eq!(reason, expected.reason.as_deref(), "{result:?}");
    }
    let without: Vec<_> = items.iter().filter(|(_, (left, _))| *left > 0).collect();
    assert!(without.is_empty(), "{} without a result, the first {:?}", without.len(), without.first());
    assert!(or_states <= or_state_max, "{or_states}");
}

/// What was reported as sent has arrived: the items of such scenarios are named after their recipients.
async fn all_are_delivered(stack: &Stack, results: &[v1::ItemResult]) {
    let mut delivered = HashSet::new();
    for offset in (0..).step_by(MESSAGES_PAGE as usize) {
        let page =
            stack.ask_sandbox(&format!("/sandbox/messages?limit={MESSAGES_PAGE}&offset={offset}")).await;
        let messages = page["messages"].as_array().unwrap();
        let ids = messages.iter().map(|message| message["body"]["recipient"]["id"].as_str().unwrap());
        delivered.extend(ids.map(|id| id.rsplit('.').next().unwrap().to_owned()));
        if messages.is_empty() {
            break;
        }
    }
    for result in results.iter().filter(|result| result.state() == v1::ItemState::Sent) {
        assert!(delivered.contains(&result.item_id), "{result:?}");
    }
}
