//! Databases that go away, processes that die or stall, and addresses that are wrong.

use std::time::Duration;

use messenger_connector::error::Outcome;
use messenger_connector::ledger::{Claimed, Ledger, Options, Settlement};

use sqlx::Executor;

use crate::ledger::{claim, claim_one, failed, is_new, outcome, recorded, resend, sent, settle, ticket};
use crate::ledger_place::{Place, eventually, on_both_stores};

on_both_stores! {
    while_the_database_is_away_nothing_is_claimed_and_outcomes_wait
    an_outcome_is_recorded_even_if_the_database_comes_back_too_late_for_its_caller
    what_waits_is_written_at_the_end_if_the_database_is_back_by_then
    the_schema_of_a_newer_version_is_refused
}

async fn while_the_database_is_away_nothing_is_claimed_and_outcomes_wait(mut place: Place) {
    let options = Options {
        retry_interval: Duration::from_millis(20),
        answer_timeout: Duration::from_secs(5),
        ..Options::default()
    };
    let ledger = place.open_with(options).await;
    let mut readiness = ledger.readiness();
    let first = ticket(claim_one(&ledger, claim("a")).await);
    place.go_away().await;

    let error = ledger.claim(vec![claim("b")]).await.unwrap_err();
    assert!(error.to_string().starts_with("ledger "), "{error}");
    readiness.wait_for(|is_ready| !is_ready).await.unwrap();
    let settlements = vec![Settlement::new(first, &sent("m_1"))];
    let waiting = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.settle(settlements).await }
    });
    tokio::task::yield_now().await;
    assert!(ledger.claim(vec![claim("b")]).await.is_err());

    place.come_back().await;
    readiness.wait_for(|is_ready| *is_ready).await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(outcome(claim_one(&ledger, claim("a")).await), recorded(sent("m_1")));
    assert!(is_new(&claim_one(&ledger, claim("b")).await), "what was refused is not claimed");
}

async fn an_outcome_is_recorded_even_if_the_database_comes_back_too_late_for_its_caller(mut place: Place) {
    let impatient = Options {
        retry_interval: Duration::from_millis(20),
        answer_timeout: Duration::from_millis(500),
        ..Options::default()
    };
    let ledger = place.open_with(impatient).await;
    let first = ticket(claim_one(&ledger, claim("a")).await);
    place.go_away().await;
    ledger.settle(vec![Settlement::new(first, &sent("m_1"))]).await.unwrap_err();
    place.come_back().await;
    let mut found = Vec::new();
    eventually(async || {
        found = ledger.claim(vec![claim("a")]).await.unwrap_or_default();
        !matches!(found[..], [] | [Claimed::InProgress])
    })
    .await;
    assert_eq!(outcome(found.remove(0)), recorded(sent("m_1")));
}

async fn what_waits_is_written_at_the_end_if_the_database_is_back_by_then(mut place: Place) {
    let lazy = Options {
        retry_interval: Duration::from_secs(3600),
        answer_timeout: Duration::from_millis(500),
        ..Options::default()
    };
    let ledger = place.open_with(lazy).await;
    let first = ticket(claim_one(&ledger, claim("a")).await);
    place.go_away().await;
    ledger.settle(vec![Settlement::new(first, &sent("m_1"))]).await.unwrap_err();
    ledger.readiness().wait_for(|is_ready| !is_ready).await.unwrap();
    place.come_back().await;
    ledger.close().await;
    let ledger = place.open().await;
    assert_eq!(outcome(claim_one(&ledger, claim("a")).await), recorded(sent("m_1")));
}

async fn the_schema_of_a_newer_version_is_refused(place: Place) {
    place.open().await.close().await;
    place.execute("UPDATE ledger_migration SET version = version + 9000").await;
    let error = Ledger::open(&place.url, Options::default()).await.unwrap_err();
    assert!(error.to_string().contains("a newer version of messenger-connector"), "{error}");
}

#[tokio::test]
async fn a_sqlite_file_has_one_process_at_a_time() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    let error = Ledger::open(&place.url, Options::default()).await.unwrap_err().to_string();
    assert!(error.contains("is another messenger-connector using it?"), "{error}");
    ledger.close().await;
    place.open().await;
}

#[tokio::test]
async fn addresses_that_are_wrong_are_named_and_passwords_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("sqlite://{}/{name}", folder.path().display());
    std::fs::write(
        folder.path().join("text.db"),
        "this is no database, however long it may go on ".repeat(100),
    )
    .unwrap();
    for (url, expected) in [
        ("mysql://host/db", "the ledger's address must begin with sqlite:// or postgres://"),
        ("sqlite://", "a sqlite ledger needs a file, as in sqlite://ledger.db"),
        ("sqlite://:memory:", "a sqlite ledger needs a file, as in sqlite://ledger.db"),
        (&path("missing/ledger.db"), "does not exist: create it"),
        (&path("text.db"), "the file is damaged, or no ledger at all"),
        ("postgres://user:secret@:x/db", "the ledger's address is not valid"),
        ("postgres://user:secret@127.0.0.1:1/db?sslpassword=secret", "the database cannot be reached"),
    ] {
        let error = Ledger::open(url, Options::default()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{url}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

/// Two replicas on one Postgres database.
async fn replicas() -> (Place, Ledger, Ledger) {
    let place = Place::postgres().await;
    let (one, other) = (place.open().await, place.open().await);
    (place, one, other)
}

/// Makes every lease run out, as if the database had not heard of its owner for long.
async fn expire_leases(place: &Place) {
    place.execute("UPDATE ledger_owner SET expires_at = now() - interval '1 second'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_replicas_that_race_exactly_one_gets_each_message() {
    let (_place, one, other) = replicas().await;
    let mut tasks = tokio::task::JoinSet::new();
    for (number, ledger) in [one, other].into_iter().enumerate() {
        tasks.spawn(async move {
            let mut tally = [0; 2];
            for group in 0..20 {
                let mut claims: Vec<_> = (0..50).map(|id| claim(&format!("{group}-{id}"))).collect();
                if number == 1 {
                    claims.reverse();
                }
                for claimed in ledger.claim(claims).await.unwrap() {
                    tally[usize::from(is_new(&claimed))] += 1;
                }
            }
            tally
        });
    }
    let tallies = tasks.join_all().await;
    assert_eq!(tallies.iter().map(|[_, new]| new).sum::<i32>(), 1000, "{tallies:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_a_replica_that_died_are_unknown_to_the_others() {
    let (place, one, other) = replicas().await;
    let mut claimed = one.claim(vec![claim("a"), claim("b"), claim("c")]).await.unwrap();
    assert!(matches!(claim_one(&other, claim("a")).await, Claimed::InProgress));
    expire_leases(&place).await;
    // The other one has lost its lease as well, notices when it claims, and takes a new one.
    let error = other.claim(vec![claim("a")]).await.unwrap_err().to_string();
    assert!(error.contains("could not renew its lease in time"), "{error}");
    let mut held = Vec::new();
    eventually(async || {
        held = other.claim(vec![claim("d")]).await.unwrap_or_default();
        !held.is_empty()
    })
    .await;
    let found = outcome(claim_one(&other, claim("a")).await);
    assert!(matches!(found, Outcome::Unknown(_)), "{found:?}");
    let bulk = other.bulk("page", "bulk").await.unwrap().unwrap();
    assert_eq!((bulk.unknown, bulk.in_flight), (3, 1), "d is in flight");
    let again = ticket(claim_one(&other, resend("b")).await);

    // The first one was only slow. What it learned late counts, unless someone else has the message by now.
    settle(&one, ticket(claimed.remove(0)), &sent("m_a")).await;
    settle(&one, ticket(claimed.remove(0)), &failed()).await;
    assert_eq!(outcome(claim_one(&other, claim("a")).await), recorded(sent("m_a")));
    assert!(matches!(claim_one(&other, claim("b")).await, Claimed::InProgress));
    settle(&other, again, &sent("m_b")).await;
    assert_eq!(outcome(claim_one(&other, claim("b")).await), recorded(sent("m_b")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_committed_after_its_caller_was_refused_is_undone() {
    let place = Place::postgres().await;
    let ledger = place.open().await;
    let _first = ticket(claim_one(&ledger, claim("first")).await);
    // What the next write would leave that hangs in its commit, and the caller with it.
    let mut hanging = place
        .begin(
            "INSERT INTO ledger_message SELECT 'page', 'bulk', 'a', decode(repeat('01', 16), 'hex'), 0, claim + 1, 0, 0 \
             FROM ledger_message",
        )
        .await;
    ledger.claim(vec![claim("a")]).await.unwrap_err();
    ledger.readiness().wait_for(|is_ready| *is_ready).await.unwrap();
    drop(ledger.claim(vec![claim("b")]).await);
    // By now the ledger has tried to undo the claim that it could not see.
    hanging.execute("COMMIT").await.unwrap();
    eventually(async || matches!(ledger.claim(vec![claim("a")]).await.as_deref(), Ok([Claimed::New(_)])))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_take_over_an_unknown_message_do_so_once() {
    let (_place, one, other) = replicas().await;
    for round in 0..10 {
        let ids: Vec<_> = (0..20).map(|id| format!("{round}-{id}")).collect();
        let claimed = one.claim(ids.iter().map(|id| claim(id)).collect()).await.unwrap();
        let unknown = Outcome::unknown("no answer");
        let settlements = claimed.into_iter().map(|new| Settlement::new(ticket(new), &unknown));
        one.settle(settlements.collect()).await.unwrap();
        let again = || ids.iter().map(|id| resend(id)).collect::<Vec<_>>();
        let (ours, theirs) = tokio::join!(one.claim(again()), other.claim(again()));
        let count = ours.unwrap().iter().chain(&theirs.unwrap()).filter(|claimed| is_new(claimed)).count();
        assert_eq!(count, 20);
    }
}

#[tokio::test]
async fn a_replica_that_lives_keeps_its_lease() {
    let place = Place::postgres().await;
    let brief = Options { lease: Duration::from_millis(600), ..Options::default() };
    let (one, other) = (place.open_with(brief).await, place.open().await);
    let held = one.claim(vec![claim("a")]).await.unwrap();
    place.execute("SELECT pg_sleep(1.5)").await;
    assert!(matches!(claim_one(&other, claim("a")).await, Claimed::InProgress), "{held:?}");
    one.close().await;
    let found = outcome(claim_one(&other, claim("a")).await);
    assert!(matches!(found, Outcome::Unknown(_)), "it left for good: {found:?}");
}

#[tokio::test]
async fn an_idle_replica_notices_that_the_database_is_away() {
    let mut place = Place::postgres().await;
    let brief = Options { lease: Duration::from_millis(300), ..Options::default() };
    let ledger = place.open_with(brief).await;
    let mut readiness = ledger.readiness();
    place.go_away().await;
    readiness.wait_for(|is_ready| !is_ready).await.unwrap();
    place.come_back().await;
    readiness.wait_for(|is_ready| *is_ready).await.unwrap();
    assert!(is_new(&claim_one(&ledger, claim("a")).await));
}
