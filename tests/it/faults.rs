//! Every fault that Graph can show, and what the caller is told: the same in a unary call, in a bulk, and in a batch.

use std::time::Duration;

use futures_util::StreamExt;
use messenger_connector::api::pb::{self, ErrorReason, ItemState};
use tonic::Code;

use crate::harness::{
    self, BulkAnswer, bare_client, item, items_frame, send_error, start_frame, text_request, timed,
};

pub type Row = (&'static str, ItemState, ErrorReason, Code);

/// Faults that strike a message wherever it is.
#[rustfmt::skip]
pub const MESSAGE_FAULTS: &[Row] = &[
    ("fail-100",          ItemState::Failed,  ErrorReason::InvalidArgument,           Code::InvalidArgument),
    ("fail-190-463",      ItemState::NotSent, ErrorReason::PageTokenInvalid,          Code::FailedPrecondition),
    ("fail-102",          ItemState::NotSent, ErrorReason::PageTokenInvalid,          Code::FailedPrecondition),
    ("fail-3",            ItemState::NotSent, ErrorReason::PagePermissionMissing,     Code::FailedPrecondition),
    ("fail-10",           ItemState::NotSent, ErrorReason::PagePermissionMissing,     Code::FailedPrecondition),
    ("fail-230",          ItemState::NotSent, ErrorReason::PagePermissionMissing,     Code::FailedPrecondition),
    ("fail-368",          ItemState::NotSent, ErrorReason::PageRestricted,            Code::FailedPrecondition),
    ("fail-10-1893063",   ItemState::NotSent, ErrorReason::PageRestricted,            Code::FailedPrecondition),
    ("fail-10-2018278",   ItemState::Failed,  ErrorReason::OutsideWindow,             Code::FailedPrecondition),
    ("fail-551",          ItemState::Failed,  ErrorReason::RecipientUnavailable,      Code::FailedPrecondition),
    ("fail-551-1545041",  ItemState::Failed,  ErrorReason::RecipientUnavailable,      Code::FailedPrecondition),
    ("fail-10-2018108",   ItemState::Failed,  ErrorReason::RecipientUnavailable,      Code::FailedPrecondition),
    ("fail-10-2018300",   ItemState::NotSent, ErrorReason::ThreadControlledElsewhere, Code::FailedPrecondition),
    ("fail-100-2018001",  ItemState::Failed,  ErrorReason::RecipientNotFound,         Code::NotFound),
    ("fail-100-2018074",  ItemState::Failed,  ErrorReason::AttachmentNotFound,        Code::NotFound),
    ("throttle-always",   ItemState::NotSent, ErrorReason::RateLimited,               Code::ResourceExhausted),
    ("fail-613",          ItemState::NotSent, ErrorReason::RateLimited,               Code::ResourceExhausted),
    ("fail-4",            ItemState::NotSent, ErrorReason::RateLimited,               Code::ResourceExhausted),
    ("transient-1000",    ItemState::NotSent, ErrorReason::GraphUnavailable,          Code::Unavailable),
    ("fail-1",            ItemState::Unknown, ErrorReason::OutcomeUnknown,            Code::Unknown),
    ("fail-2",            ItemState::Unknown, ErrorReason::OutcomeUnknown,            Code::Unknown),
    ("fail-1200",         ItemState::Unknown, ErrorReason::OutcomeUnknown,            Code::Unknown),
    ("maybe-1357046",     ItemState::Unknown, ErrorReason::OutcomeUnknown,            Code::Unknown),
    ("fail-10900",        ItemState::Failed,  ErrorReason::GraphRejected,             Code::FailedPrecondition),
    ("error-200",         ItemState::Failed,  ErrorReason::RecipientNotFound,         Code::NotFound),
    ("html-502",          ItemState::Unknown, ErrorReason::OutcomeUnknown,            Code::Unknown),
    ("html-200",          ItemState::Unknown, ErrorReason::OutcomeUnknown,            Code::Unknown),
    ("empty-200",         ItemState::Unknown, ErrorReason::OutcomeUnknown,            Code::Unknown),
    ("no-id",             ItemState::Unknown, ErrorReason::OutcomeUnknown,            Code::Unknown),
    ("server-500",        ItemState::Unknown, ErrorReason::OutcomeUnknown,            Code::Unknown),
];

/// Faults that strike the whole call.
#[rustfmt::skip]
pub const CALL_FAULTS: &[Row] = &[
    ("reset-before",  ItemState::Unknown, ErrorReason::OutcomeUnknown, Code::Unknown),
    ("reset-after",   ItemState::Unknown, ErrorReason::OutcomeUnknown, Code::Unknown),
    ("reset-in-body", ItemState::Unknown, ErrorReason::OutcomeUnknown, Code::Unknown),
];

fn error_of<'a>(answer: &'a BulkAnswer, item_id: &str) -> (ItemState, &'a pb::SendError) {
    let result = answer.result(item_id);
    match &result.outcome {
        Some(pb::item_result::Outcome::Error(error)) => (result.state(), error),
        other => panic!("{item_id}: {other:?}"),
    }
}

/// What must be equal however a message is sent. Graph gives every answer an id of its own.
fn comparable(error: &pb::SendError) -> pb::SendError {
    let mut error = error.clone();
    if let Some(graph) = &mut error.graph {
        graph.fbtrace_id.clear();
    }
    error.retry_after = None;
    error
}

#[tokio::test]
async fn unary_bulk_and_batch_tell_the_same_of_the_same_fault() {
    let rows = MESSAGE_FAULTS.iter().chain(CALL_FAULTS).copied();
    // All at once would be many services at a time.
    futures_util::stream::iter(rows).for_each_concurrent(8, check_fault).await;
}

/// A page fault changes how the page fares, so each fault has a service of its own, and each message too.
async fn check_fault((fault, state, reason, code): Row) {
    // Throttled messages wait; not for ever.
    let timeout = Duration::from_secs(5);
    let request = timed(text_request(&format!("{fault}.unary"), "x"), "5S");
    let stack = harness::start().await;
    let status = bare_client(&stack).send_text_message(request).await.unwrap_err();
    let unary = send_error(&status);
    assert_eq!((status.code(), unary.reason()), (code, reason), "{fault}: {status:?}");

    let start = || {
        let expire_time = Some((std::time::SystemTime::now() + timeout).into());
        let (action, options) = (Some(harness::text_action("x")), Some(harness::update()));
        harness::frame(pb::BulkStart { action, options, expire_time, ..Default::default() })
    };
    let alone = vec![start(), items_frame(vec![item("a", &format!("{fault}.bulk"))])];
    let alone = harness::start().await.bulk(alone).await;
    let (bulk_state, bulk) = error_of(&alone, "a");
    // A unary caller hears what its message waited for. An item has a time of its own, whatever it waited for.
    let waits = reason == ErrorReason::RateLimited;
    let bulk_reason = if waits { ErrorReason::Expired } else { reason };
    assert_eq!((bulk_state, bulk.reason()), (state, bulk_reason), "{fault}");
    if !waits {
        assert_eq!(comparable(bulk), comparable(&unary), "{fault}");
    }

    let neighbours = vec![item("a", &format!("{fault}.batch")), item("b", &format!("{fault}-neighbour"))];
    let batch = harness::start().await.bulk(vec![start(), items_frame(neighbours)]).await;
    let (batch_state, batched) = error_of(&batch, "a");
    assert_eq!((batch_state, batched.reason()), (state, bulk_reason), "{fault} in a batch");
    assert_eq!(batched.retryable, unary.retryable, "{fault} in a batch");
}

#[tokio::test]
async fn a_fault_of_one_entry_leaves_its_batch_alone() {
    let stack = harness::start().await;
    let of_the_page = [
        ErrorReason::PageTokenInvalid,
        ErrorReason::PagePermissionMissing,
        ErrorReason::PageRestricted,
        ErrorReason::RateLimited,
    ];
    let rows: Vec<_> = MESSAGE_FAULTS.iter().filter(|row| !of_the_page.contains(&row.2)).collect();
    let items = rows.iter().enumerate().flat_map(|(n, row)| {
        [item(&format!("bad-{n}"), &format!("{}.x", row.0)), item(&format!("good-{n}"), &format!("good-{n}"))]
    });
    let answer = stack.bulk(vec![start_frame("x"), items_frame(items.collect())]).await;
    for (n, (fault, state, reason, _)) in rows.into_iter().enumerate() {
        let (found, error) = error_of(&answer, &format!("bad-{n}"));
        assert_eq!((found, error.reason()), (*state, *reason), "{fault}");
        assert_eq!(answer.result(&format!("good-{n}")).state(), ItemState::Sent, "beside {fault}");
    }
}

#[tokio::test]
async fn what_is_retryable_is_sent_again_with_the_same_id_and_what_is_on_record_is_not() {
    let stack = harness::start().await;
    // How often Graph is asked when the same request comes twice.
    let table =
        [("fail-10-2018300", true, 2), ("fail-10", false, 2), ("fail-200", false, 2), ("fail-551", false, 1)];
    for (fault, is_retryable, calls) in table {
        let before = stack.sandbox("/sandbox/state").await["refused"].as_i64().unwrap();
        for _ in 0..2 {
            let request =
                pb::SendTextMessageRequest { request_id: fault.to_owned(), ..text_request(fault, "x") };
            let status = stack.client.clone().send_text_message(request).await.unwrap_err();
            assert_eq!(send_error(&status).retryable, is_retryable, "{fault}");
        }
        let after = stack.sandbox("/sandbox/state").await["refused"].as_i64().unwrap();
        assert_eq!(after - before, calls, "{fault}");
    }
}

#[tokio::test]
async fn an_empty_batch_entry_is_unknown_and_never_sent_again() {
    let stack = harness::start().await;
    let items = vec![item("null", "null-in-batch.1"), item("good", "2")];
    let answer = stack.bulk(vec![start_frame("x"), items_frame(items)]).await;
    let (state, error) = error_of(&answer, "null");
    assert_eq!(
        (state, error.reason(), error.retryable),
        (ItemState::Unknown, ErrorReason::OutcomeUnknown, false)
    );
    assert_eq!(answer.result("good").state(), ItemState::Sent);
    let state = stack.sandbox("/sandbox/state").await;
    assert_eq!((state["delivered"].as_i64(), state["duplicates"].as_i64()), (Some(2), Some(0)), "{state}");
}

#[tokio::test]
async fn a_graph_that_is_not_there_sent_nothing() {
    // A port that is taken, so that nobody else gets it, and that nothing listens on.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let graph_url = format!("http://{}", silent.local_addr().unwrap());
    let stack = harness::start_with(&["--page-access-token", "token", "--graph-url", &graph_url]).await;
    let status = stack.client.clone().send_text_message(text_request("1", "x")).await.unwrap_err();
    let error = send_error(&status);
    assert_eq!((status.code(), error.reason()), (Code::Unavailable, ErrorReason::GraphUnavailable));
    assert!(error.retryable);
}
