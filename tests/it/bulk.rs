//! The bulk stream's protocol.

use std::collections::HashMap;

use messenger_connector::api::pb;
use messenger_connector::limits::ITEMS_PER_FRAME_MAX;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::harness::{self, frame, item, items_frame, send_error, start_frame};

#[tokio::test]
async fn an_audience_gets_one_result_each_in_batches() {
    let stack = harness::start().await;
    let items = (0..1000).map(|n| item(&format!("item-{n}"), &format!("{n}"))).collect();
    let answer = stack.bulk(vec![start_frame("hello"), items_frame(items)]).await;
    assert!(answer.end.is_none(), "{:?}", answer.end);
    let accepted = answer.accepted.as_ref().unwrap();
    assert!(!accepted.bulk_id.is_empty() && accepted.max_in_flight > 0, "{accepted:?}");
    for n in 0..1000 {
        assert_eq!(answer.result(&format!("item-{n}")).state(), pb::ItemState::Sent);
    }
    assert_eq!(answer.summary.unwrap(), pb::BulkCounts { sent: 1000, ..Default::default() });
    let state = stack.sandbox("/sandbox/state").await;
    assert_eq!(state["delivered"], 1000);
    assert_eq!(state["batch_items"], 1000);
    assert!(state["batch_calls"].as_u64().unwrap() <= 1000 / 50, "{state}");
}

#[tokio::test]
async fn a_bad_item_is_a_result_and_the_stream_goes_on() {
    let stack = harness::start().await;
    let no_recipient = pb::BulkItem { item_id: "none".into(), ..Default::default() };
    let own_action = pb::BulkItem { action: Some(harness::text_action("").into()), ..item("own", "1") };
    let items = vec![item("good", "1"), no_recipient, own_action, item("", "2"), item("after", "3")];
    let answer = stack.bulk(vec![start_frame("hello"), items_frame(items)]).await;
    assert_eq!(answer.summary.unwrap(), pb::BulkCounts { sent: 2, rejected: 3, ..Default::default() });
    let violation = |item_id: &str| {
        let Some(pb::item_result::Outcome::Error(error)) = &answer.result(item_id).outcome else { panic!() };
        error.violations[0].field.clone()
    };
    assert_eq!(violation("none"), "items[1].recipient");
    assert_eq!(violation("own"), "items[2].action.text.text");
    assert_eq!(violation(""), "items[3].item_id");
}

#[tokio::test]
async fn items_may_bring_their_own_action_and_options() {
    let stack = harness::start().await;
    let own = pb::BulkItem {
        action: Some(harness::text_action("own").into()),
        options: Some(Box::new(pb::SendOptions {
            messaging_type: pb::MessagingType::Response.into(),
            ..Default::default()
        })),
        ..item("own", "1")
    };
    let answer = stack.bulk(vec![start_frame("shared"), items_frame(vec![own, item("shared", "2")])]).await;
    assert_eq!(answer.summary.unwrap().sent, 2);
    let bodies: HashMap<_, _> = stack
        .bodies()
        .await
        .into_iter()
        .map(|body| {
            (
                body["recipient"]["id"].to_string(),
                (body["message"]["text"].clone(), body["messaging_type"].clone()),
            )
        })
        .collect();
    assert_eq!(bodies[r#""1""#], ("own".into(), "RESPONSE".into()));
    assert_eq!(bodies[r#""2""#], ("shared".into(), "UPDATE".into()));
}

#[tokio::test]
async fn a_broken_protocol_ends_the_stream_with_its_reason() {
    let stack = harness::start().await;
    let unknown_page = frame(pb::BulkStart { page_id: "999".into(), ..Default::default() });
    let bad_action = frame(pb::BulkStart { action: Some(harness::text_action("")), ..Default::default() });
    let table = [
        (vec![], Code::InvalidArgument, "the first frame must be start"),
        (vec![items_frame(vec![])], Code::InvalidArgument, "the first frame must be start"),
        (
            vec![start_frame("x"), start_frame("x")],
            Code::InvalidArgument,
            "start must be sent once, as the first frame",
        ),
        (
            vec![start_frame("x"), pb::SendBulkMessagesRequest::default()],
            Code::InvalidArgument,
            "a frame must be start or items",
        ),
        (
            vec![start_frame("x"), items_frame(vec![pb::BulkItem::default(); ITEMS_PER_FRAME_MAX + 1])],
            Code::InvalidArgument,
            "a frame must not hold more than 50000 items: put some hundred into each",
        ),
        (
            vec![unknown_page],
            Code::NotFound,
            "no page with this page_id is configured: list the pages to see their ids",
        ),
        (vec![bad_action], Code::InvalidArgument, "start.action.text.text: must not be empty"),
    ];
    for (frames, code, message) in table {
        let end = stack.bulk(frames).await.end.unwrap();
        assert_eq!((end.code(), end.message()), (code, message));
        assert_eq!(send_error(&end).message, message);
    }
}

#[tokio::test]
async fn the_same_item_id_is_sent_once_and_answered_each_time() {
    let stack = harness::start().await;
    let twice = vec![item("a", "1"), item("a", "1"), item("b", "2")];
    let answer =
        stack.bulk(vec![start_frame("x"), items_frame(twice), items_frame(vec![item("a", "1")])]).await;
    let receipts: Vec<_> = answer
        .results
        .iter()
        .filter(|result| result.item_id == "a")
        .map(|result| match &result.outcome {
            Some(pb::item_result::Outcome::Receipt(receipt)) => receipt.message_id.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(receipts.len(), 3);
    assert!(receipts.iter().all(|message_id| *message_id == receipts[0]), "{receipts:?}");
    assert_eq!(stack.sandbox("/sandbox/state").await["delivered"], 2);
}

#[tokio::test]
async fn another_message_under_an_id_in_flight_is_refused_and_sends_nothing() {
    let stack = harness::start().await;
    // The second one comes while the first one is being sent, the last one when it has been.
    let items = vec![item("a", "slow-300.1"), item("a", "2"), item("a", "slow-300.1")];
    let (frames, requests) = tokio::sync::mpsc::channel(2);
    frames.send(start_frame("x")).await.unwrap();
    frames.send(items_frame(items)).await.unwrap();
    let mut client = stack.client.clone();
    let mut answers = client.send_bulk_messages(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let (mut reasons, mut frames) = (Vec::new(), Some(frames));
    while let Some(answer) = answers.message().await.unwrap() {
        let Some(pb::send_bulk_messages_response::Frame::Results(results)) = answer.frame else { continue };
        reasons.extend(results.results.into_iter().map(|result| match result.outcome.unwrap() {
            pb::item_result::Outcome::Receipt(_) => None,
            pb::item_result::Outcome::Error(error) => Some((result.state, error.reason())),
        }));
        if reasons.len() == 3
            && let Some(frames) = frames.take()
        {
            frames.send(items_frame(vec![item("a", "2")])).await.unwrap();
        }
    }
    let reused = Some((pb::ItemState::Rejected.into(), pb::ErrorReason::RequestIdReused));
    assert_eq!(reasons, [reused, None, None, reused]);
    assert_eq!(stack.bodies().await.len(), 1);
}

#[tokio::test]
async fn one_recipients_items_arrive_in_the_order_of_the_stream() {
    let stack = harness::start().await;
    let items: Vec<_> = (0..600)
        .map(|n| pb::BulkItem {
            action: Some(harness::text_action(&n.to_string()).into()),
            ..item(&n.to_string(), &format!("recipient-{}", n % 7))
        })
        .collect();
    let frames = items.chunks(25).map(|items| items_frame(items.to_vec()));
    let answer = stack.bulk([start_frame("x")].into_iter().chain(frames).collect()).await;
    assert_eq!(answer.summary.unwrap().sent, 600);
    let mut last: HashMap<String, i64> = HashMap::new();
    for body in stack.bodies().await {
        let number: i64 = body["message"]["text"].as_str().unwrap().parse().unwrap();
        let before = last.insert(body["recipient"]["id"].to_string(), number).unwrap_or(-1);
        assert!(before < number, "{number} came after {before}");
    }
    assert_eq!(stack.sandbox("/sandbox/state").await["same_recipient_batches"], 0);
}

#[tokio::test]
async fn no_more_than_max_in_flight_items_are_read_before_results_are_taken() {
    let stack = harness::start_with(&["--page-access-token", "token", "--bulk-in-flight-max", "10"]).await;
    // Graph never answers these: every item that is read stays in flight.
    let (sender, frames) = tokio::sync::mpsc::channel(1);
    let mut client = stack.client.clone();
    let mut responses = client.send_bulk_messages(ReceiverStream::new(frames)).await.unwrap().into_inner();
    sender.send(start_frame("x")).await.unwrap();
    let accepted = responses.message().await.unwrap().unwrap();
    assert!(matches!(
        accepted.frame,
        Some(pb::send_bulk_messages_response::Frame::Accepted(pb::BulkAccepted { max_in_flight: 10, .. }))
    ));
    let stalled = |n: usize| item(&n.to_string(), &format!("stall.{n}"));
    sender.send(items_frame((0..100).map(stalled).collect())).await.unwrap();
    let page = || async {
        let pages =
            stack.client.clone().list_pages(pb::ListPagesRequest {}).await.unwrap().into_inner().pages;
        pages[0].queued + pages[0].in_flight
    };
    while page().await < 10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(page().await, 10);
}

#[tokio::test]
async fn a_caller_who_cancels_starts_nothing_new() {
    let stack = harness::start().await;
    let (sender, frames) = tokio::sync::mpsc::channel(1);
    let mut client = stack.client.clone();
    let mut responses = client.send_bulk_messages(ReceiverStream::new(frames)).await.unwrap().into_inner();
    sender.send(start_frame("x")).await.unwrap();
    responses.message().await.unwrap().unwrap();
    // Every call slot is taken by a slow batch, the rest waits.
    let slow = |n: usize| item(&n.to_string(), &format!("slow-500.{n}"));
    sender.send(items_frame((0..2000).map(slow).collect())).await.unwrap();
    let pages = || async {
        stack.client.clone().list_pages(pb::ListPagesRequest {}).await.unwrap().into_inner().pages[0].clone()
    };
    while pages().await.in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let in_flight = pages().await.in_flight;
    drop(responses);
    drop(sender);
    while pages().await.queued > 0 || pages().await.in_flight > 0 {
        tokio::task::yield_now().await;
    }
    let delivered = stack.sandbox("/sandbox/state").await["delivered"].as_i64().unwrap();
    assert_eq!(delivered, in_flight, "what was started is finished, and nothing else was started");
}

#[tokio::test]
async fn a_shutdown_ends_streams_as_unavailable_with_a_result_for_every_item_read() {
    let stack = harness::start().await;
    let (sender, frames) = tokio::sync::mpsc::channel(1);
    let mut client = stack.client.clone();
    let mut responses = client.send_bulk_messages(ReceiverStream::new(frames)).await.unwrap().into_inner();
    sender.send(start_frame("x")).await.unwrap();
    responses.message().await.unwrap().unwrap();
    let slow = |n: usize| item(&n.to_string(), &format!("slow-200.{n}"));
    sender.send(items_frame((0..4000).map(slow).collect())).await.unwrap();
    while stack.sandbox("/sandbox/state").await["batch_calls"] == 0 {
        tokio::task::yield_now().await;
    }
    stack.shutdown.cancel();
    let mut states: HashMap<i32, usize> = HashMap::new();
    let end = loop {
        match responses.message().await {
            Ok(Some(pb::SendBulkMessagesResponse {
                frame: Some(pb::send_bulk_messages_response::Frame::Results(results)),
            })) => results.results.iter().for_each(|result| *states.entry(result.state).or_default() += 1),
            Ok(other) => panic!("{other:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable);
    let error = send_error(&end);
    assert_eq!(error.reason(), pb::ErrorReason::Draining);
    assert!(error.retry_after.is_some());
    assert_eq!(states.values().sum::<usize>(), 4000);
    let sent = states[&pb::ItemState::Sent.into()];
    assert_eq!(states[&pb::ItemState::NotSent.into()], 4000 - sent);
    assert_eq!(stack.sandbox("/sandbox/state").await["delivered"], sent);
}
