//! What the ledger tells of a whole bulk, and what it forgets.

use std::time::{Duration, SystemTime};

use messenger_connector::error::Outcome;
use messenger_connector::ledger::{
    BulkRecord, Claim, Key, Ledger, Options, ResultsPage, ResultsQuery, Settlement, State,
};

use crate::ledger::{claim, failed, key, recorded, resend, sent, settle, ticket};
use crate::ledger_place::{Place, eventually, on_both_stores};

on_both_stores! {
    a_bulk_is_counted_by_state
    results_come_page_by_page_in_the_order_of_their_ids
    a_state_filters_results
    old_outcomes_are_forgotten_and_nothing_else
    a_clock_that_jumps_makes_nothing_old
}

/// Claims items and settles them with an outcome.
async fn record(ledger: &Ledger, ids: impl IntoIterator<Item = String>, outcome: &Outcome) {
    let claimed = ledger.claim(ids.into_iter().map(|id| claim(&id)).collect()).await.unwrap();
    let settlements = claimed.into_iter().map(|new| Settlement::new(ticket(new), outcome));
    ledger.settle(settlements.collect()).await.unwrap();
}

fn ids(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{prefix}{number}"))
}

fn query(after: &str, limit: u32, state: Option<State>) -> ResultsQuery {
    let (page_id, bulk_id) = ("page".to_owned(), "bulk".to_owned());
    ResultsQuery { page_id, bulk_id, state, after: after.to_owned(), limit }
}

fn result_ids(page: &ResultsPage) -> Vec<&str> {
    page.results.iter().map(|(id, _)| id.as_str()).collect()
}

async fn a_bulk_is_counted_by_state(place: Place) {
    let ledger = place.open().await;
    assert_eq!(ledger.bulk("page", "bulk").await.unwrap(), None);
    let before = SystemTime::now() - Duration::from_millis(1);
    record(&ledger, ids("s", 3), &sent("m")).await;
    record(&ledger, ids("f", 2), &failed()).await;
    record(&ledger, ids("u", 5), &Outcome::unknown("no answer")).await;
    let elsewhere = Claim { key: Key { bulk_id: "other".into(), ..key("x") }, ..claim("x") };
    let _held = ledger.claim(vec![claim("c"), resend("u0"), elsewhere]).await.unwrap();

    let bulk = ledger.bulk("page", "bulk").await.unwrap().unwrap();
    let BulkRecord { sent, failed, unknown, in_flight, create_time, update_time } = bulk;
    assert_eq!((sent, failed, unknown, in_flight), (3, 2, 4, 2));
    assert!(before <= create_time && create_time <= update_time && update_time <= SystemTime::now());

    ledger.close().await;
    let ledger = place.open().await;
    let bulk = ledger.bulk("page", "bulk").await.unwrap().unwrap();
    assert_eq!((bulk.unknown, bulk.in_flight), (6, 0), "nobody has them any more");
    assert_eq!((bulk.create_time, bulk.update_time), (create_time, update_time));
}

async fn results_come_page_by_page_in_the_order_of_their_ids(place: Place) {
    let ledger = place.open().await;
    // By their bytes: no language's rules.
    let expected = ["A", "B", "_", "a", "a b", "a-b", "aa", "b", "ä", "\u{ffff}", "😀"];
    record(&ledger, expected.iter().rev().map(|id| (*id).to_owned()), &sent("m")).await;
    let _held = ledger.claim(vec![claim("in flight")]).await.unwrap();
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let page = ledger.results(&query(&after, 4, None)).await.unwrap();
        assert!(page.results.iter().all(|(_, outcome)| *outcome == recorded(sent("m"))));
        found.extend(result_ids(&page).into_iter().map(str::to_owned));
        assert_eq!(page.results.len(), if page.has_more { 4 } else { 3 });
        if !page.has_more {
            break;
        }
        after = found.last().unwrap().clone();
    }
    assert_eq!(found, expected);
    let all = ledger.results(&query("", 11, None)).await.unwrap();
    assert_eq!((all.results.len(), all.has_more), (11, false));
}

async fn a_state_filters_results(place: Place) {
    let ledger = place.open().await;
    record(&ledger, ids("s", 2), &sent("m")).await;
    record(&ledger, ids("f", 2), &failed()).await;
    record(&ledger, ids("u", 1), &Outcome::unknown("no answer")).await;
    let _held = ledger.claim(vec![claim("left")]).await.unwrap();
    let unknown = ledger.results(&query("", 10, Some(State::Unknown))).await.unwrap();
    assert_eq!(result_ids(&unknown), ["u0"]);
    ledger.close().await;

    let ledger = place.open().await;
    for (state, expected) in
        [(State::Sent, ["s0", "s1"]), (State::Failed, ["f0", "f1"]), (State::Unknown, ["left", "u0"])]
    {
        let page = ledger.results(&query("", 10, Some(state))).await.unwrap();
        assert_eq!(result_ids(&page), expected);
        let is_right = |outcome: &Outcome| {
            matches!(
                (outcome, state),
                (Outcome::Sent(_), State::Sent)
                    | (Outcome::Failed(_), State::Failed)
                    | (Outcome::Unknown(_), State::Unknown)
            )
        };
        assert!(page.results.iter().all(|(_, outcome)| is_right(outcome)), "{page:?}");
    }
}

async fn old_outcomes_are_forgotten_and_nothing_else(place: Place) {
    let ledger = place.open().await;
    record(&ledger, ids("old", 2500), &sent("m")).await;
    let left = ledger.claim(vec![claim("old left")]).await.unwrap();
    ledger.close().await;
    let quick = Options { sweep_interval: Duration::from_millis(10), ..Options::default() };
    let ledger = place.open_with(Options { retention: Duration::from_secs(3600), ..quick }).await;
    let old_claim = ticket(ledger.claim(vec![claim("old claim")]).await.unwrap().remove(0));
    place.age().await;
    record(&ledger, ids("young", 10), &sent("m")).await;

    let count = async || {
        let bulk = ledger.bulk("page", "bulk").await.unwrap().unwrap();
        (bulk.sent, bulk.unknown, bulk.in_flight)
    };
    eventually(async || count().await == (10, 0, 1)).await;
    drop(left);
    settle(&ledger, old_claim, &sent("m")).await;
    eventually(async || count().await == (10, 0, 0)).await;
}

async fn a_clock_that_jumps_makes_nothing_old(place: Place) {
    let day_ms = 24 * 3600 * 1000;
    let quick = Options { sweep_interval: Duration::from_millis(10), ..Options::default() };
    for (jump_ms, id) in [(8 * day_ms, "a"), (-8 * day_ms, "b"), (365 * day_ms, "c")] {
        let ledger = place.open_with(quick.clone()).await;
        record(&ledger, [id.to_owned()], &sent("m")).await;
        // It goes on jumping while the service runs, and while it does not.
        place.jump(jump_ms).await;
        let looked = place.number("SELECT time_ms FROM ledger_meta").await;
        eventually(async || place.number("SELECT time_ms FROM ledger_meta").await != looked).await;
        ledger.close().await;
        place.jump(jump_ms).await;
    }
    let ledger = place.open_with(quick).await;
    let looked = place.number("SELECT time_ms FROM ledger_meta").await;
    eventually(async || place.number("SELECT time_ms FROM ledger_meta").await != looked).await;
    let bulk = ledger.bulk("page", "bulk").await.unwrap().unwrap();
    assert_eq!(bulk.sent, 3, "the retention is a week, and this test takes seconds");
}
