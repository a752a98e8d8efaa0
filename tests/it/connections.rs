//! Connections that say nothing, too much of them, and those that grow old.

use std::time::{Duration, Instant};

use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use messenger_connector::api::pb;
use messenger_connector::limits::{CONNECTIONS_MAX, WATCHES_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{
    self, Client, Stack, in_time, item, items_frame, start_frame, start_sandbox, text_request,
};
use crate::hostile::is_well;
use crate::kill::Service;

async fn tcp(address: &str) -> TcpStream {
    TcpStream::connect(address.trim_start_matches("http://")).await.unwrap()
}

async fn is_healthy(address: &str) -> bool {
    let channel = Channel::from_shared(address.to_owned()).unwrap().connect().await.unwrap();
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_ok()
}

#[tokio::test]
async fn a_thousand_silent_connections_harm_nobody_and_are_closed() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let mut stack = harness::start().await;
    let started = Instant::now();
    let mut silent = Vec::new();
    for number in 0..1000 {
        let mut connection = tcp(&stack.address).await;
        // Some say a little.
        connection.write_all(&b"PRI * HTTP/2.0"[..number % 10]).await.unwrap();
        silent.push(connection);
    }
    assert!(is_healthy(&stack.address).await);
    stack.client.send_text_message(text_request("7", "x")).await.unwrap();
    for connection in &mut silent {
        // The end, or a reset, where something was left unread.
        assert!(matches!(in_time(connection.read(&mut [0; 64])).await, Ok(0) | Err(_)));
    }
    assert!(started.elapsed() >= Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(is_healthy(&stack.address).await);
}

#[tokio::test]
async fn a_client_of_another_protocol_is_told() {
    let stack = harness::start().await;
    let mut connection = tcp(&stack.address).await;
    connection.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // It may end in a reset, because the rest of the request is not read.
    let _end = connection.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 505 ") && answer.contains("gRPC"), "{answer}");
}

/// Waits until a new connection is asked to end because of its age.
async fn until_a_connection_grows_old(stack: &Stack) {
    let io = TokioIo::new(tcp(&stack.address).await);
    let (mut sender, connection) =
        http2::handshake::<_, _, tonic::body::Body>(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(&stack.address).body(tonic::body::Body::empty()).unwrap();
    drop(sender.send_request(request).await.unwrap());
    in_time(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_grow_old_without_one_failed_call_and_streams_go_on() {
    let arguments = ["--page-access-token", "t", "--connection-age-max-ms", "200"];
    let stack = harness::start_with(&arguments).await;
    let (frames, requests) = tokio::sync::mpsc::channel(2);
    frames.send(start_frame("x")).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = stack.client.clone().send_bulk_messages(requests).await.unwrap().into_inner();

    let calls = tokio::spawn({
        let mut client = harness::bare_client(&stack);
        async move {
            loop {
                client.send_text_message(text_request("7", "x")).await.unwrap();
            }
        }
    });
    for _ in 0..4 {
        until_a_connection_grows_old(&stack).await;
    }
    assert!(!calls.is_finished(), "no call failed");
    calls.abort();

    frames.send(items_frame(vec![item("a", "8")])).await.unwrap();
    drop(frames);
    let mut counts = None;
    while let Some(response) = answers.message().await.unwrap() {
        if let Some(pb::send_bulk_messages_response::Frame::Summary(summary)) = response.frame {
            counts = summary.counts;
        }
    }
    assert_eq!(counts.unwrap().sent, 1);
}

#[tokio::test]
async fn running_out_of_files_passes() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
    let (sandbox_url, _stop) = start_sandbox(0).await;
    let mut service = Service::start_with(&ledger, &sandbox_url, &["--drain-delay-ms", "0"]).await;
    let pid = service.child.id().unwrap().to_string();
    let limit = std::process::Command::new("prlimit").args(["--pid", &pid, "--nofile=64:64"]).status();
    assert!(limit.unwrap().success());
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(tcp(&service.address).await);
    }
    let line = service.wait_for("a connection cannot be accepted").await;
    assert!(line.contains("failures=1"), "{line}");
    drop(silent);
    assert!(is_healthy(&service.address).await);
    service.signal("TERM");
    assert_eq!(service.child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_only_ping_make_room_for_callers() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
    let (sandbox_url, _stop) = start_sandbox(0).await;
    let service = Service::start_with(&ledger, &sandbox_url, &[]).await;
    let mut worker = Client::connect(service.address.clone()).await.unwrap();
    in_time(worker.send_text_message(text_request("7", "x"))).await.unwrap();
    let mut pinging = Vec::new();
    for _ in 0..CONNECTIONS_MAX + 100 {
        let mut connection = tcp(&service.address).await;
        // An HTTP/2 client that opens no stream, and pings.
        connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        connection.write_all(b"\0\0\x08\x06\0\0\0\0\0pingping").await.unwrap();
        pinging.push(connection);
    }
    is_well(&service, "connections that only ping").await;
    in_time(worker.send_text_message(text_request("7", "x"))).await.unwrap();
    // All of them are told, and closed.
    for connection in &mut pinging {
        let mut told = Vec::new();
        // The end, or a reset, where something was left unread.
        let _end = in_time(connection.read_to_end(&mut told)).await;
    }
    in_time(worker.send_text_message(text_request("7", "x"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_watches_are_bounded_and_leave_checks_alone() {
    const CONNECTIONS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
    let (sandbox_url, _stop) = start_sandbox(0).await;
    let service = Service::start_with(&ledger, &sandbox_url, &[]).await;
    let (mut watches, mut refused) = (Vec::new(), 0);
    for _ in 0..CONNECTIONS {
        let channel = Channel::from_shared(service.address.clone()).unwrap().connect().await.unwrap();
        for _ in 0..100 {
            match HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await {
                Ok(watch) => watches.push(watch.into_inner()),
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((watches.len(), refused), (WATCHES_MAX, CONNECTIONS * 100 - WATCHES_MAX));
    is_well(&service, "health watches").await;
    // Places of those that end are given to others.
    drop(watches.split_off(WATCHES_MAX / 2));
    let channel = Channel::from_shared(service.address.clone()).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    in_time(async { while health.watch(HealthCheckRequest::default()).await.is_err() {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_carries_a_thousand_calls_that_wait() {
    let stack = harness::start_with(&["--page-access-token", "t"]).await;
    let channel = stack.channel().await;
    let calls: Vec<_> = (0..1000)
        .map(|n| {
            let mut client = Client::new(channel.clone());
            tokio::spawn(
                async move { client.send_text_message(text_request(&format!("stall.{n}"), "x")).await },
            )
        })
        .collect();
    let mut other = Client::new(stack.channel().await);
    in_time(async {
        loop {
            let page = other.list_pages(pb::ListPagesRequest {}).await.unwrap().into_inner().pages.remove(0);
            if page.queued + page.in_flight == 1000 {
                return;
            }
        }
    })
    .await;
    calls.into_iter().for_each(|call| call.abort());
}
