//! Ids: the same one is never sent twice, and what became of it can be asked for.

use messenger_connector::api::pb::{self, ErrorReason, ItemState};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::harness::{
    self, frame, item, items_frame, receipt, send_error, text_action, text_request, update,
};

fn with_id(request_id: &str, recipient: &str, text: &str) -> pb::SendTextMessageRequest {
    pb::SendTextMessageRequest { request_id: request_id.into(), ..text_request(recipient, text) }
}

fn start(bulk_id: &str, text: &str) -> pb::BulkStart {
    let (action, options) = (Some(text_action(text)), Some(update()));
    pb::BulkStart { bulk_id: bulk_id.into(), action, options, ..Default::default() }
}

#[tokio::test]
async fn the_same_request_id_replays_its_outcome_and_another_request_is_refused() {
    let stack = harness::start().await;
    let mut client = stack.client.clone();
    let first = receipt(client.send_text_message(with_id("order-1", "7", "x")).await.unwrap().into_inner());
    let again = receipt(client.send_text_message(with_id("order-1", "7", "x")).await.unwrap().into_inner());
    assert!(!first.replayed && again.replayed);
    assert_eq!(again, pb::Receipt { replayed: true, sent_time: again.sent_time, ..first.clone() });
    let since = |receipt: &pb::Receipt| receipt.sent_time.unwrap().seconds;
    assert_eq!(since(&again), since(&first));

    let other = client.send_text_message(with_id("order-1", "7", "y")).await.unwrap_err();
    assert_eq!(
        (other.code(), send_error(&other).reason()),
        (Code::AlreadyExists, ErrorReason::RequestIdReused)
    );
    assert_eq!(stack.bodies().await.len(), 1);

    let refused = client.send_text_message(with_id("order-2", "fail-551", "x")).await.unwrap_err();
    let again = client.send_text_message(with_id("order-2", "fail-551", "x")).await.unwrap_err();
    assert_eq!((again.code(), send_error(&again).reason()), (refused.code(), send_error(&refused).reason()));
    assert_eq!(send_error(&again).graph.unwrap().code, 551);
    assert_eq!(stack.sandbox("/sandbox/state").await["refused"], 1, "a refusal is on record too");
}

#[tokio::test]
async fn what_was_surely_not_sent_may_be_sent_with_the_same_id() {
    let stack = harness::start().await;
    let mut client = stack.client.clone();
    // As often as one message is tried, and once more.
    let flaky = || with_id("a", "transient-5", "x");
    let refused = client.send_text_message(flaky()).await.unwrap_err();
    assert!(send_error(&refused).retryable);
    let sent = receipt(client.send_text_message(flaky()).await.unwrap().into_inner());
    assert!(!sent.replayed);
}

#[tokio::test]
async fn an_id_that_is_being_sent_is_in_progress_for_others() {
    let stack = harness::start().await;
    let mut client = stack.client.clone();
    let (mut first, request) = (client.clone(), with_id("slow", "slow-300", "x"));
    let first = tokio::spawn(async move { first.send_text_message(request).await });
    while stack.sandbox("/sandbox/state").await["plain_calls"] == 0 {
        tokio::task::yield_now().await;
    }
    // Another recipient, so that the message does not wait behind the first one, and so another request.
    let other = client.send_text_message(with_id("slow", "8", "x")).await.unwrap_err();
    assert_eq!(send_error(&other).reason(), ErrorReason::RequestIdReused);
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_bulk_that_is_opened_again_sends_only_the_rest() {
    let stack = harness::start().await;
    let items = |count: usize| (0..count).map(|n| item(&n.to_string(), &n.to_string())).collect();
    let first = stack.bulk(vec![frame(start("sale", "x")), items_frame(items(300))]).await;
    assert_eq!(first.accepted.unwrap().bulk_id, "sale");
    let second = stack.bulk(vec![frame(start("sale", "x")), items_frame(items(500))]).await;
    assert_eq!(second.summary.unwrap(), pb::BulkCounts { sent: 500, replayed: 300, ..Default::default() });
    assert_eq!(stack.sandbox("/sandbox/state").await["delivered"], 500);

    let changed = stack.bulk(vec![frame(start("sale", "y")), items_frame(items(1))]).await;
    assert_eq!(changed.summary.unwrap().rejected, 1, "the same item with another text is another message");
}

#[tokio::test]
async fn unknown_outcomes_are_reported_again_and_sent_again_only_on_demand() {
    let stack = harness::start().await;
    let bulk = |on_unknown: pb::bulk_start::OnUnknown, run_id: &str| {
        let run_id = run_id.to_owned();
        let start = pb::BulkStart { on_unknown: on_unknown.into(), run_id, ..start("b", "x") };
        vec![frame(start), items_frame(vec![item("lost", "reset-after.1")])]
    };
    let report = pb::bulk_start::OnUnknown::Report;
    let lost = |answer: &harness::BulkAnswer| answer.result("lost").state();
    assert_eq!(lost(&stack.bulk(bulk(report, "")).await), ItemState::Unknown);
    let delivered = stack.sandbox("/sandbox/state").await["delivered"].as_i64().unwrap();
    assert_eq!(lost(&stack.bulk(bulk(report, "")).await), ItemState::Unknown);
    assert_eq!(stack.sandbox("/sandbox/state").await["delivered"], delivered, "nothing was sent again");
    let resend = pb::bulk_start::OnUnknown::Resend;
    for (run_id, more) in [("monday", 1), ("monday", 0), ("tuesday", 1), ("monday", 0)] {
        let before = stack.sandbox("/sandbox/state").await["delivered"].as_i64().unwrap();
        stack.bulk(bulk(resend, run_id)).await;
        let after = stack.sandbox("/sandbox/state").await["delivered"].as_i64().unwrap();
        assert_eq!(after - before, more, "{run_id}: a run that is opened again is the same decision");
    }
    let refused = stack.bulk(bulk(resend, "")).await.end.unwrap();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert_eq!(send_error(&refused).violations[0].field, "start.run_id");
}

#[tokio::test]
async fn a_bulk_can_be_asked_for_and_its_results_listed_page_by_page() {
    let stack = harness::start().await;
    let mut client = stack.client.clone();
    let mut items: Vec<_> = (0..25).map(|n| item(&format!("good-{n:02}"), &n.to_string())).collect();
    items.push(item("bad", "fail-551.x"));
    items.push(pb::BulkItem { item_id: "rejected".into(), ..Default::default() });
    stack.bulk(vec![frame(start("b", "x")), items_frame(items)]).await;

    let request = pb::GetBulkRequest { bulk_id: "b".into(), ..Default::default() };
    let bulk = client.get_bulk(request).await.unwrap().into_inner();
    assert_eq!(bulk.counts.unwrap(), pb::BulkCounts { sent: 25, failed: 1, ..Default::default() });
    assert_eq!((bulk.in_flight, bulk.page_id.as_str()), (0, "1"));
    assert!(bulk.create_time.is_some() && bulk.update_time.is_some());

    let list = |page_token: String, state: ItemState| pb::ListBulkResultsRequest {
        bulk_id: "b".into(),
        state: state.into(),
        page_size: 10,
        page_token,
        ..Default::default()
    };
    let (mut token, mut ids, mut sizes) = (String::new(), Vec::new(), Vec::new());
    loop {
        let page = client.list_bulk_results(list(token, ItemState::Unspecified)).await.unwrap().into_inner();
        sizes.push(page.results.len());
        ids.extend(page.results.into_iter().map(|result| result.item_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes, [10, 10, 6]);
    assert!(ids.is_sorted() && ids.len() == 26, "{ids:?}");
    let failed = client.list_bulk_results(list(String::new(), ItemState::Failed)).await.unwrap().into_inner();
    assert_eq!(failed.results.len(), 1);
    assert_eq!((failed.results[0].item_id.as_str(), failed.results[0].state()), ("bad", ItemState::Failed));

    let unknown = pb::GetBulkRequest { bulk_id: "none".into(), ..Default::default() };
    let status = client.get_bulk(unknown).await.unwrap_err();
    assert_eq!((status.code(), send_error(&status).reason()), (Code::NotFound, ErrorReason::BulkNotFound));
    for wrong in [list("%".into(), ItemState::Sent), list(String::new(), ItemState::NotSent)] {
        assert_eq!(client.list_bulk_results(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_caller_who_leaves_loses_no_outcome() {
    let stack = harness::start().await;
    let (sender, frames) = tokio::sync::mpsc::channel(4);
    let mut client = stack.client.clone();
    let responses = client.send_bulk_messages(ReceiverStream::new(frames)).await.unwrap().into_inner();
    sender.send(frame(start("b", "x"))).await.unwrap();
    sender.send(items_frame(vec![item("slow", "slow-300")])).await.unwrap();
    while stack.sandbox("/sandbox/state").await["plain_calls"] == 0 {
        tokio::task::yield_now().await;
    }
    drop((responses, sender));
    let get = || pb::GetBulkRequest { bulk_id: "b".into(), ..Default::default() };
    while client.get_bulk(get()).await.unwrap().into_inner().counts.unwrap().sent == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stack.sandbox("/sandbox/state").await["delivered"], 1);
}
