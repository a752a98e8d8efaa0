//! Replicas on one Postgres: what they share, how they stay out of each other's way, and a database that goes back.

use std::time::{Duration, SystemTime};

use messenger_connector::error::{Outcome, Reason, SendError};
use messenger_connector::ledger::{
    Ask, Claimed, Demand, Grant, Ledger, Options, PageStanding, PageState, Settlement,
};
use messenger_connector::telemetry::metrics::Metrics;
use sha2::{Digest, Sha256};
use sqlx::Executor;

use crate::ledger::{claim, claim_one, outcome, recorded, sent, settle, ticket};
use crate::ledger_place::{Place, eventually};

fn ask(page: &str, standing: Option<PageStanding>, version: i64) -> Ask {
    let demand = Demand { rate: 300.0, wanted: 300.0, in_use: 0.0 };
    Ask { page_id: page.into(), demands: [None, Some(demand)], standing, version }
}

async fn share(ledger: &Ledger, ask: Ask) -> Grant {
    ledger.share(&[ask]).await.unwrap().remove(0)
}

fn paused() -> PageStanding {
    PageStanding {
        state: PageState::Paused,
        error: Some(SendError::new(Reason::RateLimited, "slow down")),
        wait: Duration::from_secs(60),
        since: SystemTime::now(),
        token: [1; 8],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_of_the_database_shares_are_given_once_and_pauses_are_heard() {
    let place = Place::postgres().await;
    let (one, other) = (place.open().await, place.open().await);
    let mut version = 0;
    for _ in 0..3 {
        share(&other, ask("page", Some(paused()), 0)).await;
        version = share(&one, ask("page", None, version)).await.version;
    }
    assert_eq!(share(&one, ask("page", None, version)).await.rates[1], Some(150.0));

    // What a crash does to tables that are not logged, and to the numbers that they gave out.
    place.execute("TRUNCATE page_share, page_standing, page_share_start RESTART IDENTITY").await;
    let late = place.open().await;
    assert_eq!(share(&late, ask("page", None, 0)).await.rates[1], Some(0.0), "others still use theirs");
    share(&other, ask("page", Some(paused()), 0)).await;
    let heard = share(&one, ask("page", None, version)).await.standing;
    assert_eq!(heard.map(|standing| standing.state), Some(PageState::Paused));
    eventually(async || share(&late, ask("page", None, 0)).await.rates[1] > Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_different_groups_are_shared_at_the_same_time() {
    let place = Place::postgres().await;
    let ledger = place.open().await;
    let group = |page: &str| Sha256::digest(page)[0] % 16;
    let held = group("page-0");
    let free = (1..).map(|page| format!("page-{page}")).find(|page| group(page) != held).unwrap();
    // A replica that has stopped while it takes its share.
    let mut stopped =
        place.begin(&format!("SELECT pg_advisory_xact_lock(7020184163528210540 + {held})")).await;
    assert!(ledger.share(&[ask("page-0", None, 0)]).await.is_err());
    assert_eq!(share(&ledger, ask(&free, None, 0)).await.rates[1], Some(300.0));
    stopped.execute("ROLLBACK").await.unwrap();
    assert_eq!(share(&ledger, ask("page-0", None, 0)).await.rates[1], Some(300.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_reads_take_away_neither_lease_nor_shares() {
    let place = Place::postgres().await;
    let brief = Options { lease: Duration::from_millis(600), ..Options::default() };
    let ledger = place.open_with(brief).await;
    let held = ticket(claim_one(&ledger, claim("a")).await);
    // Reads that take for ever.
    let mut lock = place.begin("LOCK TABLE ledger_message IN ACCESS EXCLUSIVE MODE").await;
    let reads = (0..20).map(|bulk| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.bulk("page", &format!("bulk-{bulk}")).await.map(drop) })
    });
    let reads: Vec<_> = reads.collect();
    eventually(async || {
        place.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").await > 0
    })
    .await;
    let renewals = place.number("SELECT renewals FROM ledger_owner").await;
    for _ in 0..3 {
        assert_eq!(share(&ledger, ask("page", None, 0)).await.rates[1], Some(300.0));
    }
    eventually(async || place.number("SELECT renewals FROM ledger_owner").await > renewals + 2).await;
    assert!(ledger.is_ready());
    lock.execute("ROLLBACK").await.unwrap();
    for read in reads {
        read.await.unwrap().unwrap();
    }
    settle(&ledger, held, &sent("m")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_write_the_same_messages_stay_out_of_each_others_way() {
    let place = Place::postgres().await;
    let mut replicas = tokio::task::JoinSet::new();
    for replica in 0..3 {
        let ledger = place.open().await;
        replicas.spawn(async move {
            let mut held = Vec::new();
            for round in 0..100_usize {
                // Each in an order of its own, and what it releases in the same write.
                let mut claims: Vec<_> = (0..40).map(|id| claim(&format!("{id:02}"))).collect();
                claims.rotate_left((round * 13 + replica * 17) % 40);
                let (settled, claimed) = tokio::join!(ledger.settle(held), ledger.claim(claims));
                settled.unwrap();
                let released = Outcome::not_sent(Reason::Draining, "later");
                let new = claimed.unwrap().into_iter().filter_map(|claimed| match claimed {
                    Claimed::New(ticket) => Some(Settlement::new(ticket, &released)),
                    Claimed::Settled(_) | Claimed::InProgress | Claimed::Reused => None,
                });
                held = new.collect();
                // Leaves some to the others.
                ledger.settle(held.split_off(held.len() / 2)).await.unwrap();
            }
            ledger.settle(held).await.unwrap();
            ledger.close().await;
        });
    }
    replicas.join_all().await;
    // What a session has counted is told when it ends.
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(place.number(deadlocks).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_back_is_noticed_and_what_is_in_flight_is_recorded_all_the_same() {
    let place = Place::postgres().await;
    let metrics = Metrics::new(true, None).unwrap();
    let brief = Options {
        lease: Duration::from_millis(900),
        retry_interval: Duration::from_millis(20),
        metrics: metrics.clone(),
        ..Options::default()
    };
    let ledger = place.open_with(brief).await;
    let has_setbacks =
        |count: u32| metrics.text().unwrap().contains(&format!("messenger_ledger_setbacks_total {count}"));
    let in_flight = ticket(claim_one(&ledger, claim("a")).await);
    let owner = place.number("SELECT id FROM ledger_owner").await;
    eventually(async || place.number("SELECT renewals FROM ledger_owner").await > 1).await;
    assert!(has_setbacks(0));

    // A copy that is behind: it knows the lease, but not that it was renewed so often.
    place.execute("UPDATE ledger_owner SET renewals = 0; DELETE FROM ledger_message").await;
    eventually(async || has_setbacks(1)).await;
    // It is another owner from then on.
    eventually(async || place.number("SELECT max(id) FROM ledger_owner").await > owner).await;
    ledger.readiness().wait_for(|is_ready| *is_ready).await.unwrap();
    settle(&ledger, in_flight, &sent("m")).await;
    assert_eq!(outcome(claim_one(&ledger, claim("a")).await), recorded(sent("m")));

    // One that does not know the lease at all.
    place.execute("DELETE FROM ledger_owner").await;
    eventually(async || has_setbacks(2)).await;
    eventually(async || ledger.claim(vec![claim("b")]).await.is_ok()).await;
    // The lease that ran out is no such thing.
    place.execute("UPDATE ledger_owner SET expires_at = now() - interval '1 second'").await;
    eventually(async || ledger.claim(vec![claim("c")]).await.is_ok()).await;
    assert!(has_setbacks(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_back_between_two_signs_of_life_is_noticed_at_the_next_connection() {
    let mut place = Place::postgres().await;
    let metrics = Metrics::new(true, None).unwrap();
    // Whose signs of life tell nothing, because there are none during the test.
    let silent = Options {
        lease: Duration::from_secs(3600),
        retry_interval: Duration::from_millis(20),
        metrics: metrics.clone(),
        ..Options::default()
    };
    let ledger = place.open_with(silent).await;
    let has_setbacks =
        |count: u32| metrics.text().unwrap().contains(&format!("messenger_ledger_setbacks_total {count}"));
    for (round, loss) in [
        (0, "SELECT 1"),
        (1, "UPDATE ledger_message SET state = 0, outcome = NULL"),
        (2, "DELETE FROM ledger_message"),
        (2, "SELECT 1"),
    ] {
        let id = format!("{round}-{loss}");
        let mut held = Vec::new();
        eventually(async || {
            held = ledger.claim(vec![claim(&id)]).await.unwrap_or_default();
            !held.is_empty()
        })
        .await;
        settle(&ledger, ticket(held.remove(0)), &sent("m")).await;
        place.go_away().await;
        place.execute(loss).await;
        place.come_back().await;
        // The first claim may be the one that notices.
        eventually(async || ledger.claim(vec![claim("next")]).await.is_ok()).await;
        assert!(has_setbacks(round), "after {loss}: {}", metrics.text().unwrap());
    }
}
