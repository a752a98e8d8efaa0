//! What the client makes of connections that break, hang, or are full.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use messenger_connector_client::{BulkEvent, Code, MessengerClient, Options, stream, v1};
use tokio::sync::Barrier;
use v1::send_bulk_messages_request::Frame;
use v1::send_bulk_messages_response::Frame as Answer;

use crate::raw_service::{self, Call};
use crate::service::NOBODY;

/// Calls that get no further fail, and do not hang.
const PATIENCE: Duration = Duration::from_secs(60);
/// gRPC's code of an id that is in progress.
const ABORTED: u32 = 10;

fn sent(message_id: &str) -> v1::SendTextMessageResponse {
    let receipt = v1::Receipt { message_id: message_id.to_owned(), ..Default::default() };
    v1::SendTextMessageResponse { result: Some(v1::send_text_message_response::Result::Receipt(receipt)) }
}

/// The first call is read and its connection broken: what it began goes on for the next two.
pub(crate) async fn what_a_broken_try_began_is_waited_for() {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let seen = ids.clone();
    let address = raw_service::serve(100, move |mut call: Call| {
        let seen = seen.clone();
        async move {
            let request: v1::SendTextMessageRequest = call.requests.next().await.unwrap();
            seen.lock().unwrap().push(request.request_id);
            let reason = v1::ErrorReason::RequestInProgress.into();
            match call.number {
                0 => call.hang_up(),
                3 => call.succeed(&sent("m")),
                _ => call.fail(ABORTED, &v1::SendError { reason, retryable: true, ..Default::default() }),
            }
        }
    });
    let client = MessengerClient::connect(&address.await, Options::default()).unwrap();
    let response =
        client.with_timeout(PATIENCE).send_text_message(v1::SendTextMessageRequest::default()).await.unwrap();
    assert_eq!(response.receipt().unwrap().message_id, "m");
    let made_up = ids.lock().unwrap()[0].clone();
    assert!(!made_up.is_empty());
    assert_eq!(*ids.lock().unwrap(), [(); 4].map(|()| made_up.clone()));
}

/// The service answers none before all have come, and allows 100 of them on a connection.
pub(crate) async fn as_many_connections_are_made_as_calls_need() {
    const CALLS_COUNT: usize = 250;
    let all_are_there = Arc::new(Barrier::new(CALLS_COUNT));
    let address = raw_service::serve(100, move |mut call: Call| {
        let all_are_there = all_are_there.clone();
        async move {
            let _: v1::SendTextMessageRequest = call.requests.next().await.unwrap();
            all_are_there.wait().await;
            call.succeed(&sent("m"));
        }
    });
    let client = MessengerClient::connect(&address.await, Options::default()).unwrap().with_timeout(PATIENCE);
    let calls = (0..CALLS_COUNT).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.send_text_message(v1::SendTextMessageRequest::default()).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
}

/// Nor does a bulk wait for ever, whose streams all carry the name of one run.
pub(crate) async fn a_start_that_is_not_answered_is_made_anew() {
    let starts = Arc::new(Mutex::new(Vec::new()));
    let seen = starts.clone();
    let address = raw_service::serve(100, move |call: Call| {
        let seen = seen.clone();
        async move {
            let number = call.number;
            let (mut requests, mut answers) = call.begin();
            let mut send = |frame| answers.send(&v1::SendBulkMessagesResponse { frame: Some(frame) });
            while let Some(request) = requests.next::<v1::SendBulkMessagesRequest>().await {
                match request.frame.unwrap() {
                    Frame::Start(start) => {
                        let bulk_id = start.bulk_id.clone();
                        seen.lock().unwrap().push(*start);
                        if number > 0 {
                            send(Answer::Accepted(v1::BulkAccepted { bulk_id, max_in_flight: 10 }));
                        }
                    }
                    Frame::Items(items) => {
                        let sent = v1::ItemState::Sent.into();
                        let result = |item: v1::BulkItem| v1::ItemResult {
                            item_id: item.item_id,
                            state: sent,
                            outcome: None,
                        };
                        let results = items.items.into_iter().map(result).collect();
                        send(Answer::Results(v1::BulkResults { results }));
                    }
                }
            }
            if number > 0 {
                send(Answer::Summary(v1::BulkSummary::default()));
                answers.end();
            }
        }
    });
    let client = MessengerClient::connect(&address.await, Options::default()).unwrap();
    let client = client.with_timeout(Duration::from_secs(1));
    for run_id in ["", "monday"] {
        let start = v1::BulkStart { run_id: run_id.to_owned(), ..Default::default() };
        let item = v1::BulkItem { item_id: "a".to_owned(), ..Default::default() };
        let mut results = client.send_bulk(start, stream::iter([item]));
        let name = results.run_id().to_owned();
        assert!(!name.is_empty() && (run_id.is_empty() || run_id == name));
        let result = tokio::time::timeout(PATIENCE, results.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(result.state(), v1::ItemState::Sent);
        assert!(results.next().await.is_none());
        let starts = std::mem::take(&mut *starts.lock().unwrap());
        assert!(starts.iter().all(|start| start.run_id == name), "{starts:?}");
        assert_eq!(starts.len() > 1, run_id.is_empty(), "the first stream of all is not answered");
    }
}

/// No item is taken, and the reason is told.
pub(crate) async fn a_bulk_without_a_service_can_be_stopped() {
    let client = MessengerClient::connect(NOBODY, Options::default()).unwrap().with_timeout(2 * PATIENCE);
    let items = std::iter::from_fn(|| -> Option<v1::BulkItem> { panic!("nobody takes items") });
    let mut results = client.send_bulk(v1::BulkStart::default(), stream::iter(items));
    let interrupted = results.next_event().await.unwrap().unwrap();
    assert!(matches!(interrupted, BulkEvent::Interrupted(_)), "{interrupted:?}");
    results.stop();
    let error = tokio::time::timeout(PATIENCE, results.next_event()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "{error:?}");
    assert!(results.next_event().await.is_none());
}
