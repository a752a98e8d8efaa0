//! Two services on one Postgres: what they share of a page.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messenger_connector::api::pb::bulk_start::OnUnknown;
use messenger_connector::api::pb::{self, ErrorReason, page::State};
use messenger_connector::sandbox::Options;
use tokio::sync::watch;

use crate::account::{Account, Tally, deliveries, records};
use crate::caller::{Caller, Habits};
use crate::harness::{
    self, Client, Stack, item, items_frame, receipt, sandbox_json, send_error, start_frame, text_action,
    text_request,
};
use crate::kill::{Service, judge};
use crate::postgres::{Wire, new_database};
use crate::random::Random;

/// Messages per second of the page, of both replicas together.
const RATE: u32 = 100;

async fn start(ledger: &str, sandbox_url: &str, pages: &[&str]) -> Stack {
    harness::start_with(&[&["--ledger", ledger, "--graph-url", sandbox_url], pages].concat()).await
}

fn single(rate: &str) -> [&str; 6] {
    ["--page-access-token", "t", "--rate-per-second", rate, "--media-rate-per-second", "0"]
}

async fn page(stack: &Stack) -> pb::Page {
    stack.client.clone().list_pages(pb::ListPagesRequest {}).await.unwrap().into_inner().pages.remove(0)
}

/// Waits until the page is as it should be on a replica.
async fn wait_for(stack: &Stack, is_so: impl Fn(&pb::Page) -> bool) -> pb::Page {
    loop {
        let page = page(stack).await;
        if is_so(&page) {
            return page;
        }
        tokio::task::yield_now().await;
    }
}

async fn bulk(stack: &Stack, name: &str, count: usize) -> i64 {
    let items = (0..count).map(|n| item(&format!("{name}-{n}"), &format!("{name}-{n}"))).collect();
    stack.bulk(vec![start_frame("x"), items_frame(items)]).await.summary.unwrap().sent
}

#[tokio::test]
async fn replicas_hold_a_rate_together_and_a_survivor_takes_it_all() {
    let (sandbox_url, _stop) = harness::start_sandbox(0).await;
    let url = new_database().await;
    let (wire, through) = Wire::to(&url).await;
    let rate = RATE.to_string();
    let first = start(through.as_str(), &sandbox_url, &single(&rate)).await;
    let second = start(url.as_str(), &sandbox_url, &single(&rate)).await;

    let begun = Instant::now();
    let (of_first, of_second) = tokio::join!(bulk(&first, "a", 200), bulk(&second, "b", 200));
    assert_eq!((of_first, of_second), (200, 200));
    let took = begun.elapsed();
    assert!((Duration::from_millis(3600)..Duration::from_secs(8)).contains(&took), "{took:?}");
    let most = sandbox_json(&sandbox_url, "/sandbox/rate").await["most_in_one_second"].as_u64().unwrap();
    assert!(most <= u64::from(RATE) * 12 / 10, "a busy machine bunches some, but not twice the rate: {most}");

    let shares = [page(&first).await, page(&second).await].map(|page| page.current_rate_per_second);
    assert!(
        shares.iter().all(|share| *share > 0.0) && shares.iter().sum::<f64>() <= RATE.into(),
        "{shares:?}"
    );
    wire.cut();
    wait_for(&second, |page| page.current_rate_per_second == f64::from(RATE)).await;
    wait_for(&first, |page| page.current_rate_per_second == 0.0).await;
    let late = pb::SendTextMessageRequest { request_id: "late".into(), ..text_request("late", "x") };
    let error = first.client.clone().send_text_message(late).await.unwrap_err();
    assert_eq!(send_error(&error).reason(), ErrorReason::LedgerUnavailable);
}

#[tokio::test]
async fn a_pause_holds_on_every_replica() {
    let (sandbox_url, _stop) = harness::start_sandbox(0).await;
    let url = new_database().await;
    let first = start(url.as_str(), &sandbox_url, &single("0")).await;
    let second = start(url.as_str(), &sandbox_url, &single("0")).await;
    let mut client = first.client.clone();
    let throttled =
        tokio::spawn(async move { client.send_text_message(text_request("throttle-2", "x")).await });
    let paused = wait_for(&second, |page| page.state() == State::Paused).await;
    assert_eq!(paused.state_reason(), ErrorReason::RateLimited);
    let waited = second.client.clone().send_text_message(text_request("7", "x")).await.unwrap();
    assert_eq!(receipt(waited.into_inner()).attempts, 1);
    assert_eq!(receipt(throttled.await.unwrap().unwrap().into_inner()).attempts, 3);
    for stack in [&first, &second] {
        wait_for(stack, |page| page.state() == State::Active).await;
    }
}

#[tokio::test]
async fn a_refused_token_stops_every_replica_that_has_it_until_it_is_replaced() {
    let (sandbox_url, _stop) = harness::start_sandbox(0).await;
    let url = new_database().await;
    let folder = tempfile::tempdir().unwrap();
    let token =
        |number: usize, token: &str| std::fs::write(folder.path().join(format!("token-{number}")), token);
    let mut stacks = Vec::new();
    for (number, held) in ["expired-1", "expired-1", "good"].into_iter().enumerate() {
        token(number, held).unwrap();
        let path = folder.path().join(format!("pages-{number}.toml"));
        let text =
            format!("[[page]]\nid = \"1\"\naccess_token_file = \"token-{number}\"\nrate_per_second = 0\n");
        std::fs::write(&path, text).unwrap();
        stacks.push(start(url.as_str(), &sandbox_url, &["--pages", path.to_str().unwrap()]).await);
    }
    let [first, second, third] = &stacks[..] else { panic!("three replicas") };
    first.client.clone().send_text_message(text_request("7", "x")).await.unwrap_err();
    let suspended = wait_for(second, |page| page.state() == State::Suspended).await;
    assert_eq!(suspended.state_reason(), ErrorReason::PageTokenInvalid);
    let calls = sandbox_json(&sandbox_url, "/sandbox/state").await["plain_calls"].clone();
    let error = second.client.clone().send_text_message(text_request("7", "x")).await.unwrap_err();
    assert_eq!(send_error(&error).reason(), ErrorReason::PageTokenInvalid);
    assert_eq!(
        sandbox_json(&sandbox_url, "/sandbox/state").await["plain_calls"],
        calls,
        "nothing was burned"
    );
    third.client.clone().send_text_message(text_request("7", "x")).await.unwrap();

    token(1, "good").unwrap();
    wait_for(second, |page| page.state() == State::Active).await;
    token(0, "good").unwrap();
    wait_for(first, |page| page.state() == State::Active).await;
    for stack in &stacks {
        stack.client.clone().send_text_message(text_request("8", "x")).await.unwrap();
    }
}

#[tokio::test]
async fn replicas_whose_page_graph_throttles_again_and_again_lose_nothing() {
    // Less than the page's rate: Graph throttles whatever the replicas agree on.
    let limited = Options { rate_per_second: 60, ..Options::default() };
    let (sandbox_url, _stop) = harness::start_sandbox_with(limited).await;
    let url = new_database().await;
    let rate = RATE.to_string();
    let first = start(url.as_str(), &sandbox_url, &single(&rate)).await;
    let second = start(url.as_str(), &sandbox_url, &single(&rate)).await;
    let both = async { tokio::join!(bulk(&first, "a", 150), bulk(&second, "b", 150)) };
    let sent = tokio::time::timeout(Duration::from_secs(60), both).await.expect("no replica waits for ever");
    assert_eq!(sent, (150, 150));
}

/// Starts a stream of these items, to where `address` says.
fn call(account: &Arc<Account>, address: watch::Receiver<Option<String>>) -> tokio::task::JoinHandle<()> {
    let habits = Habits { frame_items_max: 20, window: 60, cancels: 0, on_unknown: OnUnknown::Report };
    tokio::spawn(Caller { account: account.clone(), address, habits, random: Random::new(1) }.run())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_killed_in_a_bulk_loses_nothing_and_doubles_nothing() {
    let (sandbox_url, _stop) = harness::start_sandbox(50).await;
    let url = new_database().await;
    let mut first = Service::start_with(url.as_str(), &sandbox_url, &[]).await;
    let second = Service::start_with(url.as_str(), &sandbox_url, &[]).await;
    let items = (0..2000).map(|n| {
        // The first part of an id is the stream that it goes into.
        let item_id = format!("{}-{n}", n % 8);
        pb::BulkItem { action: Some(text_action(&item_id).into()), ..item(&item_id, &n.to_string()) }
    });
    let bulk = Account::new("sale", items.collect());
    // One client with eight streams, which gives them to the replicas in turn.
    let (of_first, of_second) =
        (watch::Sender::new(Some(first.address.clone())), watch::Sender::new(Some(second.address.clone())));
    let mut streams: Vec<_> = (0..8)
        .map(|number| {
            let prefix = format!("{number}-");
            let part = Arc::new(bulk.afresh(|item_id| item_id.starts_with(&prefix)));
            let address = [&of_first, &of_second][number % 2].subscribe();
            let calls = call(&part, address);
            (prefix, part, calls)
        })
        .collect();

    streams[0].1.told_more(60).await;
    first.child.kill().await.unwrap();
    of_first.send_replace(Some(second.address.clone()));
    let told: usize = streams.iter().map(|(_, part, _)| part.told().len()).sum();

    let mut client = Client::connect(second.address.clone()).await.unwrap();
    let (mut total, mut violations, mut in_flight) = (Tally::default(), Vec::new(), 0);
    for (_, _, calls) in &mut streams {
        tokio::time::timeout(Duration::from_secs(60), calls).await.expect("every item has a result").unwrap();
    }
    let (delivered, on_record) = (deliveries(&sandbox_url).await, records(&mut client, "sale").await);
    for (prefix, part, _) in &streams {
        let (mut delivered, mut on_record) = (delivered.clone(), on_record.clone());
        delivered.retain(|item_id, _| item_id.starts_with(prefix));
        on_record.retain(|item_id, _| item_id.starts_with(prefix));
        let (found, tally) = judge(part, &delivered, &on_record);
        violations.extend(found);
        total += tally;
        in_flight += part.in_flight().len();
    }
    println!("killed with {told} of 2000 items told and {in_flight} in flight: {total}");
    assert!(violations.is_empty(), "{violations:#?}");
    assert_eq!((total.items, on_record.len()), (2000, 2000));
    assert!(told < 1900 && in_flight > 0, "in the middle of the bulk: {told} told, {in_flight} in flight");
}
