//! What a page's lane does when it may not send, or not so fast.

use std::time::{Duration, Instant};

use messenger_connector::api::pb::{self, ErrorReason, ItemState, page::State};
use tonic::Code;

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
    let request = harness::timed(text_request("throttle-always", "x"), "2S");
    let status = harness::bare_client(&stack).send_text_message(request).await.unwrap_err();
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
    assert!(items <= 1000, "most were not burned one by one: {items}");
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
        action: (n % 10 == 0).then(|| video.clone().into()),
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

#[tokio::test]
async fn what_is_on_record_is_answered_on_a_page_that_waits() {
    let stack = harness::start().await;
    let with_id = || pb::SendTextMessageRequest { request_id: "a".into(), ..text_request("7", "x") };
    let start = || {
        let (action, options) = (Some(harness::text_action("x")), Some(harness::update()));
        harness::frame(pb::BulkStart { bulk_id: "b".into(), action, options, ..Default::default() })
    };
    let items =
        |count: usize| items_frame((0..count).map(|n| item(&n.to_string(), &n.to_string())).collect());
    stack.client.clone().send_text_message(with_id()).await.unwrap();
    assert_eq!(stack.bulk(vec![start(), items(300)]).await.summary.unwrap().sent, 300);

    set(&stack, serde_json::json!({"throttle_all": true, "regain_minutes": 60})).await;
    let mut client = stack.client.clone();
    let waiting = tokio::spawn(async move { client.send_text_message(text_request("8", "x")).await });
    while page(&stack).await.state() != State::Paused {
        tokio::task::yield_now().await;
    }
    assert!(receipt(stack.client.clone().send_text_message(with_id()).await.unwrap().into_inner()).replayed);
    let again = stack.bulk(vec![start(), items(300)]);
    let again =
        tokio::time::timeout(Duration::from_secs(30), again).await.expect("nothing waits for the page");
    assert_eq!(again.summary.unwrap().replayed, 300);
    waiting.abort();
}

/// Opens a bulk that the page needs a long time for, and tells how many results it had when `during` was over.
async fn during_a_large_bulk(stack: &Stack, during: impl Future<Output = ()>) -> usize {
    use pb::send_bulk_messages_response::Frame;

    let items = (0..3000).map(|n| item(&format!("large-{n}"), &format!("large-{n}"))).collect();
    let frames = tokio_stream::iter(vec![start_frame("x"), items_frame(items)]);
    let mut results = stack.client.clone().send_bulk_messages(frames).await.unwrap().into_inner();
    let mut count = 0;
    let mut begun = false;
    let mut during = std::pin::pin!(during);
    loop {
        tokio::select! {
            biased;
            response = results.message() => {
                if let Some(Frame::Results(results)) = response.unwrap().unwrap().frame {
                    count += results.results.len();
                    begun = true;
                }
            }
            () = &mut during, if begun => return count,
        }
    }
}

#[tokio::test]
async fn a_small_bulk_and_unary_messages_do_not_wait_for_a_large_bulk() {
    let stack = harness::start_with(&["--page-access-token", "t", "--rate-per-second", "200"]).await;
    let large = during_a_large_bulk(&stack, async {
        let items = (0..100).map(|n| item(&format!("small-{n}"), &format!("small-{n}"))).collect();
        let small = stack.bulk(vec![start_frame("x"), items_frame(items)]).await;
        assert_eq!(small.summary.unwrap().sent, 100);
    });
    let large = large.await;
    assert!(large <= 250, "while 100 of a small bulk were sent, {large} of the large one were");
    let large = during_a_large_bulk(&stack, async {
        for n in 0..20 {
            stack.client.clone().send_text_message(text_request(&format!("unary-{n}"), "x")).await.unwrap();
        }
    });
    let large = large.await;
    assert!(large <= 250, "while 20 unary messages were sent, {large} of the large bulk were");
}

#[tokio::test]
async fn a_page_that_waits_does_not_hold_up_another() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("token", "good");
    let page =
        |id: u8| format!("[[page]]\nid = \"{id}\"\naccess_token_file = \"token\"\nrate_per_second = {id}\n");
    write("pages.toml", &[page(1), page(200)].concat());
    let stack = harness::start_with(&["--pages", folder.path().join("pages.toml").to_str().unwrap()]).await;
    let bulk = |page_id: &str, count: usize| {
        let (action, options) = (Some(harness::text_action("x")), Some(harness::update()));
        let start = pb::BulkStart { page_id: page_id.to_owned(), action, options, ..Default::default() };
        let items = (0..count).map(|n| item(&n.to_string(), &n.to_string())).collect();
        stack.bulk(vec![harness::frame(start), items_frame(items)])
    };
    let slow = bulk("1", 1000);
    let fast = bulk("200", 300);
    tokio::select! {
        slow = slow => panic!("1,000 messages at one a second: {slow:?}"),
        fast = fast => assert_eq!(fast.summary.unwrap().sent, 300),
    }
}

#[tokio::test]
async fn media_that_graph_could_not_fetch_is_tried_once_more() {
    let stack = harness::start().await;
    let media = |times: u8| pb::SendMediaMessageRequest {
        recipient: Some(harness::psid("7")),
        options: Some(harness::update()),
        media: Some(pb::MediaMessage {
            r#type: pb::media_message::Type::Image.into(),
            source: Some(pb::media_message::Source::Url(format!("https://unfetchable.example/{times}"))),
            ..Default::default()
        }),
        ..Default::default()
    };
    let sent = stack.client.clone().send_media_message(media(1)).await.unwrap().into_inner();
    let Some(pb::send_media_message_response::Result::Receipt(receipt)) = sent.result else {
        panic!("{sent:?}")
    };
    assert_eq!(receipt.attempts, 2);
    let status = stack.client.clone().send_media_message(media(2)).await.unwrap_err();
    assert_eq!(send_error(&status).reason(), ErrorReason::InvalidArgument);
}

#[tokio::test]
async fn what_waits_for_a_page_is_not_sent_once_its_caller_has_left() {
    let stack = harness::start().await;
    set(&stack, serde_json::json!({"throttle_all": true})).await;
    let send = |recipient: &'static str| {
        let mut client = stack.client.clone();
        tokio::spawn(async move { client.send_text_message(text_request(recipient, "x")).await })
    };
    let stays = send("stays");
    while page(&stack).await.state() != State::Paused {
        tokio::task::yield_now().await;
    }
    let leaves = send("leaves");
    while page(&stack).await.queued < 2 {
        tokio::task::yield_now().await;
    }
    leaves.abort();
    set(&stack, serde_json::json!({"throttle_all": false})).await;
    stays.await.unwrap().unwrap();
    send("later").await.unwrap().unwrap();
    let bodies = stack.bodies().await;
    let recipients: Vec<_> = bodies.iter().map(|body| body["recipient"]["id"].as_str().unwrap()).collect();
    assert_eq!(recipients, ["stays", "later"]);
}
