use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use super::*;
use crate::error::Outcome;
use crate::ledger::MIGRATIONS_TABLE;
use crate::ledger::reads::Reads;
use crate::ledger::record::to_ms;
use crate::ledger::writer::Writer as WritingTask;
use crate::ledger::{Ledger, Options};

async fn store() -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open("sqlite://test.db", &folder.path().join("test.db"), &Origin::default())
        .await
        .unwrap();
    (folder, store)
}

fn claims(ids: std::ops::Range<u32>) -> Vec<Claim> {
    let key = |id: u32| Key { page_id: "page".into(), bulk_id: "bulk".into(), id: id.to_string().into() };
    ids.map(|id| Claim { key: key(id), fingerprint: [1; 16], resend: None }).collect()
}

#[tokio::test]
async fn no_statement_scans_the_table() {
    let (_folder, store) = store().await;
    let mut guard = store.writer.lock().await;
    let connection = &mut guard.as_mut().unwrap().connection;
    let is_over_rows = |statement: &&str| statement.contains("ledger_message");
    let written = statements::WRITE.split(';').filter(is_over_rows);
    let others =
        [statements::FIND, statements::RECLAIM, statements::BULK, statements::RESULTS, statements::SWEEP];
    for statement in written.chain(others) {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let steps: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).fetch_all(&mut *connection).await.unwrap();
        for (.., step) in steps {
            let is_scan = step.starts_with("SCAN message") || step.starts_with("SCAN ledger_message");
            assert!(!is_scan && !step.contains("TEMP B-TREE FOR ORDER BY"), "{step}: {statement}");
        }
    }
}

#[tokio::test]
async fn a_full_disk_stops_claims_until_there_is_room_again() {
    let (_folder, store) = store().await;
    let store = Arc::new(store);
    let quick = Options { retry_interval: Duration::from_millis(10), ..Options::default() };
    let (commands, mut ready) = WritingTask::start(store.clone(), quick.clone());
    let ledger = Ledger {
        store: store.clone(),
        reads: Reads::new(),
        commands,
        ready: ready.clone(),
        answer_timeout: quick.answer_timeout,
    };
    let limit_pages = async |pages: u32| {
        let mut guard = store.writer.lock().await;
        let limit = AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        guard.as_mut().unwrap().connection.execute(limit).await.unwrap();
    };
    // Below what there is, it means what there is.
    limit_pages(1).await;
    let error = ledger.claim(claims(0..1000)).await.unwrap_err().to_string();
    assert!(error.starts_with("ledger sqlite://test.db: the disk is full: free some space"), "{error}");
    ready.wait_for(|is_ready| !is_ready).await.unwrap();
    assert!(ledger.claim(claims(0..1)).await.is_err(), "not even one");

    limit_pages(1_000_000).await;
    ready.wait_for(|is_ready| *is_ready).await.unwrap();
    let claimed = ledger.claim(claims(0..1000)).await.unwrap();
    assert!(claimed.iter().all(|claimed| matches!(claimed, Claimed::New(_))), "nothing was left behind");
}

#[tokio::test]
async fn a_file_of_an_earlier_version_keeps_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut earlier = options.connect().await.unwrap();
    let mut migrator = sqlx::migrate!("src/ledger/migrations/sqlite");
    migrator.migrations.to_mut().truncate(2);
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE).run(&mut earlier).await.unwrap();
    let rows = "INSERT INTO ledger_message VALUES
        ('page', 'bulk', '1', unhex('01010101010101010101010101010101'), 1, 5, 20, 30, '{\"message_id\":\"m_1\"}'),
        ('page', 'bulk', '2', unhex('01010101010101010101010101010101'), 0, 5, 10, 10, NULL)";
    earlier.execute(rows).await.unwrap();
    earlier.close().await.unwrap();

    let store = SqliteStore::open("sqlite://test.db", &path, &Origin::default()).await.unwrap();
    let claims = claims(1..4);
    let claimed = store.write(store.next_claim(claims.len()), &[], &claims).await.unwrap();
    let [Claimed::Settled(Outcome::Sent(receipt)), Claimed::Settled(Outcome::Unknown(_)), Claimed::New(_)] =
        &claimed[..]
    else {
        panic!("{claimed:?}")
    };
    assert_eq!((&*receipt.message_id, to_ms(receipt.sent_time)), ("m_1", 30));
}
