//! Messages a second through a service to a sandbox that costs little:
//!
//!     MESSENGER_CONNECTOR=$PWD/../../target/release/messenger-connector cargo bench

#![allow(clippy::unwrap_used, clippy::panic, reason = "of the scenarios")]

#[path = "../tests/scenarios/scenario.rs"]
#[allow(dead_code, reason = "the scenarios use more of it")]
mod scenario;
#[path = "../tests/scenarios/service.rs"]
#[allow(dead_code, reason = "the scenarios use more of it")]
mod service;

use std::time::Instant;

use messenger_connector_client::{stream, v1};

const ITEMS_COUNT: usize = 100_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let light = scenario::Service { sandbox: Some(vec!["--light".to_owned()]), ..Default::default() };
    let stack = service::Stack::start(light).await;
    let client = stack.connect(&scenario::Connect::default());
    let start = v1::BulkStart {
        action: Some(v1::TextMessage::from("The sale has begun.").into()),
        options: Some(v1::MessagingType::Update.into()),
        ..Default::default()
    };
    let items = (0..ITEMS_COUNT).map(|number| v1::BulkItem {
        item_id: number.to_string(),
        recipient: Some(v1::Recipient::id(number.to_string())),
        ..Default::default()
    });
    let (started, mut sent) = (Instant::now(), 0);
    let mut results = client.send_bulk(start, stream::iter(items));
    while let Some(result) = results.next().await {
        sent += usize::from(result?.state() == v1::ItemState::Sent);
    }
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(sent, ITEMS_COUNT);
    println!("{ITEMS_COUNT} messages in {seconds:.2} s: {:.0} messages/s", ITEMS_COUNT as f64 / seconds);
    Ok(())
}
