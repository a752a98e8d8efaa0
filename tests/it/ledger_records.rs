//! Whose the records of a ledger are: of which Graph, of which page, and what becomes of them in another ledger.

use std::collections::HashMap;

use messenger_connector::error::Outcome;
use messenger_connector::ledger::{self, Claim, Claimed, Copied, Key, Ledger, Options};

use crate::ledger::{claim, claim_one, failed, is_new, key, outcome, recorded, resend, sent, settle, ticket};
use crate::ledger_place::{Place, on_both_stores};

on_both_stores! {
    records_of_another_graph_are_refused
    records_of_a_page_are_found_under_its_new_name
}

fn of_graph(origin: &str) -> Options {
    Options { origin: Some(origin.to_owned()), ..Options::default() }
}

async fn records_of_another_graph_are_refused(place: Place) {
    // One that knows none yet takes the first.
    place.open().await.close().await;
    place.open_with(of_graph("graph.facebook.com:443")).await.close().await;
    place.open_with(of_graph("graph.facebook.com:443")).await.close().await;
    let error = Ledger::open(&place.url, of_graph("127.0.0.1:8080")).await.unwrap_err().to_string();
    for part in ["graph.facebook.com:443", "127.0.0.1:8080", "--ledger", "--ledger-adopt"] {
        assert!(error.contains(part), "{error}");
    }
    let adopted = Options { adopts_origin: true, ..of_graph("127.0.0.1:8080") };
    place.open_with(adopted).await.close().await;
    place.open_with(of_graph("127.0.0.1:8080")).await.close().await;
}

async fn records_of_a_page_are_found_under_its_new_name(place: Place) {
    let ledger = place.open().await;
    let of_page = |page: &str, id: &str| Claim { key: Key { page_id: page.into(), ..key(id) }, ..claim(id) };
    for (page, id, outcome) in [
        ("me", "a", sent("m_a")),
        ("me", "b", Outcome::unknown("no answer")),
        ("me", "both", failed()),
        ("106540452240", "both", sent("m_both")),
        ("other", "c", sent("m_c")),
    ] {
        settle(&ledger, ticket(claim_one(&ledger, of_page(page, id)).await), &outcome).await;
    }
    let held = ticket(claim_one(&ledger, of_page("me", "held")).await);
    assert_eq!(ledger.rename_page("me", "106540452240").await.unwrap(), 2);
    let found = async |id| outcome(claim_one(&ledger, of_page("106540452240", id)).await);
    assert_eq!(found("a").await, recorded(sent("m_a")));
    assert!(matches!(found("b").await, Outcome::Unknown(_)));
    assert_eq!(found("both").await, recorded(sent("m_both")));
    assert_eq!(outcome(claim_one(&ledger, of_page("other", "c")).await), recorded(sent("m_c")));
    settle(&ledger, held, &sent("m_held")).await;
    assert_eq!(ledger.rename_page("me", "106540452240").await.unwrap(), 1, "it was in progress");
    assert_eq!(found("held").await, recorded(sent("m_held")));
}

/// Records of each kind, one in a run that sends again.
async fn fill(place: &Place) {
    let ledger = place.open_with(of_graph("graph.facebook.com:443")).await;
    let outcomes =
        HashMap::from([("sent", sent("m")), ("failed", failed()), ("unknown", Outcome::unknown("no"))]);
    for (id, outcome) in &outcomes {
        settle(&ledger, ticket(claim_one(&ledger, resend(id)).await), outcome).await;
    }
    let many: Vec<_> = (0..2500).map(|id| claim(&format!("many-{id}"))).collect();
    let _left = ledger.claim([many, vec![claim("left")]].concat()).await.unwrap();
    ledger.close().await;
}

/// What a copy must say, whichever way it went.
async fn check_copy(place: &Place) {
    let ledger = place.open_with(of_graph("graph.facebook.com:443")).await;
    assert_eq!(outcome(claim_one(&ledger, claim("sent")).await), recorded(sent("m")));
    assert!(matches!(outcome(claim_one(&ledger, claim("failed")).await), Outcome::Failed(_)));
    for found in [resend("unknown"), claim("left"), claim("many-2499")] {
        assert!(matches!(outcome(claim_one(&ledger, found).await), Outcome::Unknown(_)));
    }
    let bulk = ledger.bulk("page", "bulk").await.unwrap().unwrap();
    assert_eq!((bulk.sent, bulk.failed, bulk.unknown, bulk.in_flight), (1, 1, 2502, 0));
    assert!(is_new(&claim_one(&ledger, resend("left")).await));
    assert!(is_new(&claim_one(&ledger, claim("new")).await));
    ledger.close().await;
}

async fn copies(from: Place, to: Place) {
    fill(&from).await;
    let copied = ledger::copy(&from.url, &to.url).await.unwrap();
    assert_eq!(copied, Copied { records: 2504, known: 0 });
    let again = ledger::copy(&from.url, &to.url).await.unwrap();
    assert_eq!(again, Copied { records: 0, known: 2504 });
    check_copy(&to).await;
    let error = ledger::copy(&from.url, &to.url).await.unwrap_err().to_string();
    assert!(error.contains("something else of 1 of the messages"), "{error}");
    assert!(Ledger::open(&to.url, of_graph("127.0.0.1:1")).await.is_err(), "the origin was copied as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_copied_into_a_database() {
    copies(Place::sqlite(), Place::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_copied_into_a_file() {
    copies(Place::postgres().await, Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_in_use_or_of_another_graph_is_not_copied() {
    let (file, database, other) = (Place::sqlite(), Place::postgres().await, Place::sqlite());
    let refused = async |from: &str, to: &str, why: &str| {
        let error = ledger::copy(from, to).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(&file.url, &other.url, "no such file").await;
    let using = file.open_with(of_graph("a:443")).await;
    refused(&file.url, &other.url, "in use").await;
    using.close().await;
    let using = database.open_with(of_graph("b:443")).await;
    refused(&file.url, &database.url, "a service is using it").await;
    let Claimed::New(_held) = claim_one(&using, claim("a")).await else { panic!() };
    using.close().await;
    refused(&file.url, &database.url, "of the graph at b:443, and those to copy of a:443").await;
}
