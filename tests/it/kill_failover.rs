//! A Postgres server in whose place comes one that is behind: the service says so, and nothing is wrong beside what that
//! server does not know.

use std::collections::BTreeSet;
use std::sync::Arc;

use messenger_connector::api::pb::{self, ItemState, bulk_start::OnUnknown};
use tokio::sync::watch;

use crate::account::{Account, deliveries, records};
use crate::caller::{Caller, Habits};
use crate::harness::{Client, in_time, item, start_sandbox, text_action};
use crate::kill::Service;
use crate::ledger_place::eventually;
use crate::postgres::OwnServer;
use crate::random::Random;

/// Items that are sent before the copy is made, after it, while the server fails, and after that.
const PARTS: [(&str, usize); 4] = [("before", 300), ("lost", 300), ("meanwhile", 4000), ("after", 300)];

fn items() -> Vec<pb::BulkItem> {
    let ids = PARTS.iter().flat_map(|(part, count)| (0..*count).map(move |n| format!("{part}-{n}")));
    let item = |item_id: String| pb::BulkItem {
        action: Some(text_action(&item_id).into()),
        ..item(&item_id, &item_id)
    };
    ids.map(item).collect()
}

/// Sends a part of the bulk.
fn call(
    account: Account,
    address: &watch::Sender<Option<String>>,
) -> (Arc<Account>, impl Future<Output = ()> + use<>) {
    let account = Arc::new(account);
    let habits = Habits { frame_items_max: 100, window: 300, cancels: 0, on_unknown: OnUnknown::Report };
    let address = address.subscribe();
    (account.clone(), Caller { account, address, habits, random: Random::new(1) }.run())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_copy_that_is_behind_is_said_and_loses_only_what_the_copy_does_not_know() {
    let mut server = OwnServer::start().await;
    let (sandbox_url, _stop) = start_sandbox(5).await;
    let more = ["--admin-listen", "127.0.0.1:0", "--drain-delay-ms", "0"];
    let mut service = Service::start_with(server.url.as_str(), &sandbox_url, &more).await;
    let admin = service.wait_for("admin listens address=").await;
    let metrics_url = format!("http://{}/metrics", admin.split_once("address=").unwrap().1);
    let address = watch::Sender::new(Some(service.address.clone()));
    let mut client = Client::connect(service.address.clone()).await.unwrap();
    let bulk = Account::new("failover", items());
    let part = |part: usize| call(bulk.afresh(|id| id.starts_with(PARTS[part].0)), &address);

    let (before, sending) = part(0);
    sending.await;
    // The copy is made as a replica is: the service notices nothing of it.
    service.signal("STOP");
    server.save().await;
    service.signal("CONT");
    let (_child, log) = service.read_log();
    let (lost, sending) = part(1);
    sending.await;
    let (meanwhile, sending) = part(2);
    let sending = tokio::spawn(sending);
    meanwhile.told_more(500).await;
    server.restore().await;
    let has_setback = async || {
        let text = reqwest::get(&metrics_url).await.unwrap().text().await.unwrap();
        text.lines().any(|line| line.starts_with("messenger_ledger_setbacks_total") && !line.ends_with(" 0"))
    };
    eventually(has_setback).await;
    in_time(sending).await.unwrap();
    let (after, sending) = part(3);
    in_time(sending).await;

    let is_said = |line: &String| line.contains("ERROR") && line.contains("gone back to an earlier state");
    assert!(log.lock().unwrap().iter().any(is_said), "{:#?}", log.lock().unwrap());
    let (delivered, on_record) = (deliveries(&sandbox_url).await, records(&mut client, "failover").await);
    assert_eq!(delivered.len(), bulk.items.len(), "everything was delivered");
    let twice: Vec<_> = delivered.iter().filter(|(_, got)| got.len() > 1).collect();
    assert!(twice.is_empty(), "nothing was sent twice by itself: {twice:?}");
    let mut forgotten = BTreeSet::new();
    // What was settled before the failover may be told after it: a stream that looks for records waits for the database.
    for (account, may_be_lost) in [(&before, false), (&lost, true), (&meanwhile, true), (&after, false)] {
        for (id, told) in account.told() {
            assert_eq!(told.state, ItemState::Sent, "{id}");
            match on_record.get(&id) {
                None if may_be_lost => drop(forgotten.insert(id)),
                found => assert_eq!(found, Some(&told), "{id}"),
            }
        }
    }
    assert!(lost.told().keys().all(|id| forgotten.contains(id)), "the copy does not know these");

    // Who repeats the bulk sends again what the database has forgotten, and nothing else.
    let (again, sending) = call(bulk.afresh(|_| true), &address);
    in_time(sending).await;
    let delivered = deliveries(&sandbox_url).await;
    let twice: BTreeSet<_> =
        delivered.iter().filter(|(_, got)| got.len() == 2).map(|(id, _)| id.clone()).collect();
    assert_eq!(twice, forgotten);
    assert!(delivered.values().all(|got| got.len() <= 2));
    assert_eq!(records(&mut client, "failover").await, again.told());
    println!("{} items: {} forgotten, {} repeated", bulk.items.len(), forgotten.len(), twice.len());
}
