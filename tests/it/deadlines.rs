//! Deadlines of unary calls, as a client sees them that leaves them to the service.

use std::time::{Duration, Instant};

use messenger_connector::api::pb;
use tonic::{Code, Status};

use crate::harness::{self, BareClient, bare_client, send_error, text_request, timed};

async fn send(
    client: &mut BareClient,
    request: pb::SendTextMessageRequest,
    timeout: &str,
) -> (Status, Duration) {
    let started = Instant::now();
    (client.send_text_message(timed(request, timeout)).await.unwrap_err(), started.elapsed())
}

#[tokio::test]
async fn a_deadline_is_told_as_one_whether_the_message_waits_or_is_being_sent() {
    let stack = harness::start().await;
    let mut client = bare_client(&stack);
    let with_id = |message: &str| pb::SendTextMessageRequest {
        request_id: message.into(),
        ..text_request("slow-3000.x", message)
    };

    let (status, took) = send(&mut client, with_id("sending"), "200m").await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let error = send_error(&status);
    assert_eq!((error.reason(), error.retryable), (pb::ErrorReason::OutcomeUnknown, false));
    assert!(took < Duration::from_millis(2900), "at its deadline, not when Graph answers: {took:?}");

    // The recipient's second message waits for the first one.
    let (status, _) = send(&mut client, with_id("waiting"), "1000m").await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let error = send_error(&status);
    assert_eq!((error.reason(), error.retryable), (pb::ErrorReason::Expired, true), "surely not sent");

    let (status, _) = send(&mut client, with_id("late"), "0m").await;
    assert_eq!(
        (status.code(), send_error(&status).reason()),
        (Code::DeadlineExceeded, pb::ErrorReason::Expired)
    );

    // The send went on without its caller, and its outcome is there to be asked for.
    let receipt = loop {
        match client.send_text_message(with_id("sending")).await {
            Ok(response) => break harness::receipt(response.into_inner()),
            Err(status) => assert_eq!(send_error(&status).reason(), pb::ErrorReason::RequestInProgress),
        }
    };
    assert!(receipt.replayed);
    assert_eq!(stack.bodies().await.len(), 1);
}
