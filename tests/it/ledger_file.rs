//! The SQLite file: by whatever name it is used, taken over, moved away, or read for long.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use futures_util::FutureExt;
use messenger_connector::ledger::{Claimed, Ledger, Options, ResultsQuery, Settlement, State};

use crate::ledger::{claim, claim_one, is_new, outcome, recorded, sent, settle, ticket};
use crate::ledger_place::Place;

#[tokio::test]
async fn a_file_in_use_is_refused_by_whatever_name() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    let (folder, path) = (place.path().parent().unwrap().to_owned(), place.path());
    symlink(&path, folder.join("symlink.db")).unwrap();
    fs::hard_link(&path, folder.join("hardlink.db")).unwrap();
    symlink(&folder, folder.join("folder")).unwrap();
    for name in ["symlink.db", "hardlink.db", "folder/ledger.db", "ledger.db"] {
        // Whatever lay beside it to lock it.
        drop(fs::remove_file(folder.join("ledger.db-lock")));
        let url = format!("sqlite://{}/{name}", folder.display());
        let error = Ledger::open(&url, Options::default()).await.unwrap_err().to_string();
        assert!(error.contains("the file is in use"), "{name}: {error}");
    }
    settle(&ledger, ticket(claim_one(&ledger, claim("a")).await), &sent("m")).await;
    ledger.close().await;
    place.open().await;
}

#[tokio::test]
async fn a_process_whose_file_was_taken_over_claims_and_settles_nothing_more() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    let held = ticket(claim_one(&ledger, claim("a")).await);
    place.execute("UPDATE ledger_meta SET owner = owner + 1").await;
    let error = ledger.claim(vec![claim("b")]).await.unwrap_err().to_string();
    assert!(error.contains("another process has taken the file over"), "{error}");
    ledger.readiness().wait_for(|is_ready| !is_ready).await.unwrap();
    let mut settling = Box::pin(ledger.settle(vec![Settlement::new(held, &sent("m"))]));
    assert!(futures_util::poll!(&mut settling).is_pending());
    assert!(ledger.claim(vec![claim("b")]).await.is_err());
    assert_eq!(place.number("SELECT count(*) FROM ledger_message WHERE state = 0").await, 1);
}

#[tokio::test]
async fn a_file_that_is_moved_away_is_missed_within_seconds() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    let mut readiness = ledger.readiness();
    let first = ticket(claim_one(&ledger, claim("a")).await);
    let path = place.path();
    let log = path.with_extension("db-wal");
    for missing in [&path, &log] {
        let elsewhere = missing.with_extension("elsewhere");
        fs::rename(missing, &elsewhere).unwrap();
        let error = ledger.claim(vec![claim("b")]).await.unwrap_err().to_string();
        assert!(error.contains("was moved, removed or replaced"), "{error}");
        readiness.wait_for(|is_ready| !is_ready).await.unwrap();
        // Another file under its name is none.
        fs::write(missing, "").unwrap();
        assert!(ledger.claim(vec![claim("b")]).await.is_err());
        fs::rename(&elsewhere, missing).unwrap();
        readiness.wait_for(|is_ready| *is_ready).await.unwrap();
    }
    settle(&ledger, first, &sent("m")).await;
    let found = ledger.claim(vec![claim("a"), claim("b")]).await.unwrap();
    let [Claimed::Settled(first), second] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*first, recorded(sent("m")));
    assert!(is_new(second), "what was refused is not claimed");
}

#[tokio::test]
async fn the_last_records_of_a_process_that_died_are_beside_the_name_that_it_used() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    settle(&ledger, ticket(claim_one(&ledger, claim("a")).await), &sent("m")).await;
    // What a crash leaves.
    let crashed = tempfile::tempdir().unwrap();
    let copy = |from: &std::path::Path, to: &str| fs::copy(from, crashed.path().join(to)).map(drop).unwrap();
    copy(&place.path(), "renamed.db");
    ledger.close().await;
    let url = format!("sqlite://{}/renamed.db", crashed.path().display());
    let error = Ledger::open(&url, Options::default()).await.unwrap_err().to_string();
    assert!(error.contains("ledger.db-wal"), "{error}");
    // After a good end there is nothing beside it.
    copy(&place.path(), "renamed.db");
    let ledger = Ledger::open(&url, Options::default()).await.unwrap();
    assert_eq!(outcome(claim_one(&ledger, claim("a")).await), recorded(sent("m")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_reads_hold_up_no_bulk() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    place
        .execute(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000)
            INSERT INTO ledger_message (claim, page_id, bulk_id, id, fingerprint, state, claim_time, update_time)
            SELECT -n, 'page', 'bulk', n, x'', 1, 1, 1 FROM n",
        )
        .await;
    let query = ResultsQuery {
        page_id: "page".to_owned(),
        bulk_id: "bulk".to_owned(),
        state: Some(State::Failed),
        after: String::new(),
        limit: 100,
    };
    let mut reads: Vec<_> = (0..20).map(|_| Box::pin(ledger.results(&query))).collect();
    let mut count = Box::pin(ledger.bulk("page", "bulk"));
    reads.retain_mut(|read| read.now_or_never_mut().is_none());
    assert!(count.now_or_never_mut().is_none());
    let claims = [claim("a")];
    let look_up = tokio::time::timeout(Duration::from_secs(20), ledger.look_up(&claims)).await;
    assert!(matches!(look_up.expect("it waits for the reads").unwrap()[..], [None]));
    let first = ResultsQuery { state: None, limit: 1, ..query.clone() };
    assert_eq!(ledger.results(&first).await.unwrap().results.len(), 1);
    let before = reads.len();
    reads.retain_mut(|read| read.now_or_never_mut().is_none());
    assert!(reads.len() > 10, "it has waited for {}", before - reads.len());
    for read in reads {
        assert!(
            tokio::time::timeout(Duration::from_secs(60), read).await.unwrap().unwrap().results.is_empty()
        );
    }
    assert_eq!(count.await.unwrap().unwrap().sent, 100_000);
}

/// Polls once, without giving the future up.
trait Poll: Future + Unpin {
    fn now_or_never_mut(&mut self) -> Option<Self::Output> {
        std::pin::Pin::new(self).now_or_never()
    }
}

impl<F: Future + Unpin> Poll for F {}
