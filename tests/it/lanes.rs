//! What a page's lane does when it may not send, or not so fast.

use std::time::{Duration, Instant};

use messenger_connector::api::pb::{self, ErrorReason, ItemState, page::State};
use tonic::{Code, Request};

use crate::harness::{self, Stack, item, items_frame, receipt, send_error, start_frame, text_request};

async fn page(stack: &Stack) -> pb::Page {
    stack.client.clone().list_pages(pb::ListPagesRequest {}).await.unwrap().into_inner().pages.remove(0)
}

async fn set(stack: &Stack, faults: serde_json::Value) {
    let client = reqwest::Client::new();
    let post = client.post(format!("{}/sandbox/faults", stack.sandbox_url)).body(faults.to_string());
    assert!(post.header("content-type", "application/json").send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn a_rate_is_held_by_unary_and_bulk_together() {
    let stack = harness::start_with(&["--page-access-token", "t", "--rate-per-second", "100"]).await;
    let begun = Instant::now();
    let items = (0..250).map(|n| item(&n.to_string(), &n.to_string())).collect();
    let answer = stack.bulk(vec![start_frame("x"), items_frame(items)]).await;
    assert_eq!(answer.summary.unwrap().sent, 250);
    // 250 messages at 100 a second, of which a tenth of a second's worth goes at once.
    assert!(begun.elapsed() >= Duration::from_millis(2350), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_passing_fault_is_tried_again_and_the_receipt_counts_the_attempts() {
    let stack = harness::start().await;
    let sent = stack.client.clone().send_text_message(text_request("transient-2", "x")).await.unwrap();
    assert_eq!(receipt(sent.into_inner()).attempts, 3);
}

#[tokio::test]
async fn a_throttled_page_waits_and_goes_on() {
    let stack = harness::start().await;
    let mut client = stack.client.clone();
    let throttled =
        tokio::spawn(async move { client.send_text_message(text_request("throttle-1", "x")).await });
    while page(&stack).await.state() != State::Paused {
        tokio::task::yield_now().await;
    }
    let paused = page(&stack).await;
    assert_eq!(paused.state_reason(), ErrorReason::RateLimited);
    assert!(paused.state_since.is_some());
    let sent = receipt(throttled.await.unwrap().unwrap().into_inner());
    assert_eq!(sent.attempts, 2);
    while page(&stack).await.state() != State::Active {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn patience_ends_with_the_deadline_and_says_when_to_come_back() {
    let stack = harness::start().await;
    let mut request = Request::new(text_request("throttle-always", "x"));
    request.set_timeout(Duration::from_secs(2));
    let status = stack.client.clone().send_text_message(request).await.unwrap_err();
    let error = send_error(&status);
    assert_eq!((status.code(), error.reason()), (Code::ResourceExhausted, ErrorReason::RateLimited));
    assert!(error.retryable && error.retry_after.is_some(), "{error:?}");
}

#[tokio::test]
async fn a_refused_token_stops_the_page_until_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("token", "expired-1");
    write("pages.toml", "[[page]]\nid = \"1\"\naccess_token_file = \"token\"\nrate_per_second = 0\n");
    let stack = harness::start_with(&["--pages", folder.path().join("pages.toml").to_str().unwrap()]).await;
    let items = (0..5000).map(|n| item(&n.to_string(), &n.to_string())).collect();
    let answer = stack.bulk(vec![start_frame("x"), items_frame(items)]).await;
    assert_eq!(answer.summary.unwrap().not_sent, 5000);
    for result in &answer.results {
        let Some(pb::item_result::Outcome::Error(error)) = &result.outcome else { panic!("{result:?}") };
        assert_eq!((result.state(), error.reason()), (ItemState::NotSent, ErrorReason::PageTokenInvalid));
    }
    let items = stack.sandbox("/sandbox/state").await["batch_items"].as_u64().unwrap();
    assert!(items < 2000, "most were not burned one by one: {items}");
    assert_eq!(page(&stack).await.state(), State::Suspended);
    write("token", "good");
    while stack.client.clone().send_text_message(text_request("7", "x")).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(page(&stack).await.state(), State::Active);
}

#[tokio::test]
async fn a_page_whose_calls_mostly_fail_pauses() {
    let stack = harness::start().await;
    for n in 0..100 {
        assert_eq!(page(&stack).await.state(), State::Active, "{n} calls are too few to tell");
        stack
            .client
            .clone()
            .send_text_message(text_request(&format!("server-500.{n}"), "x"))
            .await
            .unwrap_err();
    }
    while page(&stack).await.state() != State::Paused {
        tokio::task::yield_now().await;
    }
    assert_eq!(page(&stack).await.state_reason(), ErrorReason::GraphUnavailable);
}

#[tokio::test]
async fn audio_and_video_have_a_rate_of_their_own() {
    let stack = harness::start_with(&[
        "--page-access-token",
        "t",
        "--rate-per-second",
        "0",
        "--media-rate-per-second",
        "10",
    ])
    .await;
    let video = pb::MediaMessage {
        r#type: pb::media_message::Type::Video.into(),
        source: Some(pb::media_message::Source::Url("https://example.com/v.mp4".into())),
        ..Default::default()
    };
    let video = pb::Action { kind: Some(pb::action::Kind::Media(video)) };
    let items = (0..220).map(|n| pb::BulkItem {
        action: (n % 10 == 0).then(|| video.clone()),
        ..item(&n.to_string(), &n.to_string())
    });
    let begun = Instant::now();
    let answer = stack.bulk(vec![start_frame("x"), items_frame(items.collect())]).await;
    assert_eq!(answer.summary.unwrap().sent, 220);
    assert!(begun.elapsed() >= Duration::from_secs(2), "22 videos at 10 a second: {:?}", begun.elapsed());
    let states: Vec<_> =
        answer.results.iter().take(150).map(|result| result.item_id.parse::<u32>().unwrap() % 10).collect();
    assert!(states.iter().filter(|n| **n == 0).count() < 10, "texts do not wait behind videos");
}

#[tokio::test]
async fn a_budget_that_runs_out_slows_the_page_down() {
    let stack = harness::start_with(&["--page-access-token", "t", "--rate-per-second", "200"]).await;
    set(&stack, serde_json::json!({"usage_percent": 99})).await;
    let send = |count: usize, name: &'static str| {
        let items = (0..count).map(move |n| item(&format!("{name}-{n}"), &format!("{name}-{n}"))).collect();
        stack.bulk(vec![start_frame("x"), items_frame(items)])
    };
    send(20, "learn").await;
    let begun = Instant::now();
    send(40, "slow").await;
    assert!(
        begun.elapsed() >= Duration::from_millis(1500),
        "40 at a tenth of 200 a second: {:?}",
        begun.elapsed()
    );
}
