//! The end of a service: in order, bounded, and without losing an item.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messenger_connector::api::pb::{self, ItemState, bulk_start::OnUnknown};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::account::{Account, deliveries, records};
use crate::caller::{Caller, Habits};
use crate::certificates::Files;
use crate::harness::{
    self, Client, Stack, in_time, item, items_frame, send_error, start_frame, start_sandbox, text_action,
    text_request,
};
use crate::kill::Service;
use crate::random::Random;

const READINESS: &str = "readiness";

fn request(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

async fn check(health: &mut HealthClient<Channel>, service: &str) -> ServingStatus {
    health.check(request(service)).await.unwrap().into_inner().status()
}

/// Opens a bulk with these items, and leaves it open.
async fn open_bulk(
    stack: &Stack,
    start: pb::SendBulkMessagesRequest,
    items: Vec<pb::BulkItem>,
) -> (mpsc::Sender<pb::SendBulkMessagesRequest>, tonic::Streaming<pb::SendBulkMessagesResponse>) {
    let (frames, requests) = mpsc::channel(2);
    frames.send(start).await.unwrap();
    frames.send(items_frame(items)).await.unwrap();
    let answers = stack.client.clone().send_bulk_messages(ReceiverStream::new(requests)).await.unwrap();
    (frames, answers.into_inner())
}

async fn until_in_flight(stack: &Stack) {
    let mut client = stack.client.clone();
    in_time(async {
        while client.list_pages(pb::ListPagesRequest {}).await.unwrap().into_inner().pages[0].in_flight == 0 {
        }
    })
    .await;
}

#[tokio::test]
async fn a_drain_says_so_before_it_begins_on_both_ports() {
    let files = Files::new();
    let tls = files.arguments();
    let tls: Vec<_> = tls.iter().map(String::as_str).collect();
    let more = ["--page-access-token", "t", "--health-listen", "127.0.0.1:0", "--drain-delay-ms", "600"];
    let mut stack = harness::start_with(&[&tls[..], &more].concat()).await;
    let probes =
        Channel::from_shared(stack.health_address.clone().unwrap()).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(probes.clone());
    assert_eq!(check(&mut health, READINESS).await, ServingStatus::Serving);
    // Nothing else is served there.
    let stranger = Client::new(probes).send_text_message(text_request("7", "x")).await;
    assert_eq!(stranger.unwrap_err().code(), Code::Unimplemented);

    let mut watch = health.watch(request(READINESS)).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    stack.shutdown.cancel();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let said = Instant::now();
    assert_eq!(check(&mut health, "liveness").await, ServingStatus::Serving);
    // Calls that still come are served, over new connections too.
    let address = stack.address.replace("http://127.0.0.1", "https://localhost");
    let authority = tonic::transport::Certificate::from_pem(files.authority.pem());
    let trust = tonic::transport::ClientTlsConfig::new().ca_certificate(authority);
    let channel = Channel::from_shared(address).unwrap().tls_config(trust).unwrap().connect().await.unwrap();
    Client::new(channel).send_text_message(text_request("7", "x")).await.unwrap();
    assert!(watch.message().await.unwrap().is_none(), "the watch ends with the service");
    assert!(said.elapsed() >= Duration::from_millis(500), "{:?}", said.elapsed());
    in_time(&mut stack.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn streams_watchers_and_silent_connections_do_not_hold_it() {
    let mut stack = harness::start().await;
    let mut health = HealthClient::new(stack.channel().await);
    let mut watches = Vec::new();
    for service in ["", "liveness", "what"] {
        watches.push(health.watch(request(service)).await.unwrap().into_inner());
    }
    let _silent = tokio::net::TcpStream::connect(stack.address.trim_start_matches("http://")).await.unwrap();
    let (_frames, mut answers) = open_bulk(&stack, start_frame("x"), vec![item("a", "slow-300.1")]).await;
    until_in_flight(&stack).await;

    stack.shutdown.cancel();
    let started = Instant::now();
    let end = loop {
        use pb::send_bulk_messages_response::Frame;
        match in_time(answers.message()).await {
            Ok(Some(response)) => match response.frame.unwrap() {
                Frame::Results(results) => assert_eq!(results.results[0].state(), ItemState::Sent),
                Frame::Accepted(_) => {}
                Frame::Summary(_) => panic!("not a whole bulk"),
            },
            Ok(None) => panic!("ended as if it was complete"),
            Err(status) => break status,
        }
    };
    assert_eq!(stack.bodies().await.len(), 1, "what was started is finished");
    assert_eq!((end.code(), send_error(&end).reason()), (Code::Unavailable, pb::ErrorReason::Draining));
    assert!(end.get_details_retry_info().is_some());
    in_time(&mut stack.served).await.unwrap().unwrap();
    // Far from the drain timeout of 30 seconds.
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    for mut watch in watches {
        while watch.message().await.unwrap().is_some() {}
    }
}

#[tokio::test]
async fn a_client_that_never_answers_is_cut() {
    use tokio::io::AsyncWriteExt;

    let mut stack = harness::start_with(&["--page-access-token", "t", "--drain-timeout-ms", "300"]).await;
    let mut deaf = tokio::net::TcpStream::connect(stack.address.trim_start_matches("http://")).await.unwrap();
    deaf.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // Another connection has been served by then, so this one has been taken.
    stack.client.list_pages(pb::ListPagesRequest {}).await.unwrap();
    stack.shutdown.cancel();
    let started = Instant::now();
    in_time(&mut stack.served).await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_message_that_outlives_its_stream_is_still_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
    // Another sandbox stands for the same Graph.
    let arguments = ["--page-access-token", "t", "--ledger", &ledger, "--ledger-adopt"];
    let mut stack = harness::start_with(&arguments).await;
    let start = pb::BulkStart {
        bulk_id: "sale".into(),
        action: Some(text_action("x")),
        options: Some(harness::update()),
        ..Default::default()
    };
    let opened = open_bulk(&stack, harness::frame(start), vec![item("a", "slow-500.1")]).await;
    until_in_flight(&stack).await;
    drop(opened);
    stack.client = Client::new(Channel::from_static("http://127.0.0.1:1").connect_lazy());
    stack.shutdown.cancel();
    in_time(&mut stack.served).await.unwrap().unwrap();

    let again = harness::start_with(&arguments).await;
    let get = pb::GetBulkRequest { page_id: String::new(), bulk_id: "sale".into() };
    let counts = again.client.clone().get_bulk(get).await.unwrap().into_inner().counts.unwrap();
    assert_eq!((counts.sent, counts.unknown), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_a_bulk_of_20000_items_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
    let (sandbox_url, _stop) = start_sandbox(20).await;
    let no_limit = ["--rate-per-second", "0", "--drain-delay-ms", "100", "--drain-timeout-ms", "10000"];
    let mut service = Service::start_with(&ledger, &sandbox_url, &no_limit).await;
    let items = (0..20_000).map(|n| {
        let item_id = format!("drain-{n}");
        pb::BulkItem { action: Some(text_action(&item_id).into()), ..item(&item_id, &n.to_string()) }
    });
    let account = Arc::new(Account::new("drain", items.collect()));
    let address = watch::Sender::new(Some(service.address.clone()));
    let habits = Habits { frame_items_max: 500, window: 5000, cancels: 0, on_unknown: OnUnknown::Report };
    let caller =
        Caller { account: account.clone(), address: address.subscribe(), habits, random: Random::new(1) };
    let caller = tokio::spawn(caller.run());

    account.told_more(4000).await;
    service.signal("TERM");
    let signalled = Instant::now();
    let status = in_time(service.child.wait()).await.unwrap();
    address.send_replace(None);
    let (took, told) = (signalled.elapsed(), account.told().len());
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(told < 20_000, "in the middle of the bulk");

    let service = Service::start_with(&ledger, &sandbox_url, &no_limit).await;
    address.send_replace(Some(service.address.clone()));
    caller.await.unwrap();
    let mut client = Client::connect(service.address.clone()).await.unwrap();
    let (violations, tally) =
        account.audit(&deliveries(&sandbox_url).await, &records(&mut client, "drain").await);
    assert!(violations.is_empty(), "{violations:#?}");
    assert_eq!((tally.sent, tally.unknown), (20_000, 0), "nothing was lost, doubled or left unknown");
    println!("drained in {took:.0?} with {told} of 20000 items told");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
    let (sandbox_url, _stop) = start_sandbox(0).await;
    let patience = ["--drain-delay-ms", "60000"];
    let mut service = Service::start_with(&ledger, &sandbox_url, &patience).await;
    service.signal("TERM");
    service.wait_for("draining").await;
    service.signal("TERM");
    assert_eq!(in_time(service.child.wait()).await.unwrap().code(), Some(128 + 15));
}
