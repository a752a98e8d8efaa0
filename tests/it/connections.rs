//! Connections that say nothing, too much of them, and those that grow old.

use std::time::{Duration, Instant};

use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use messenger_connector::api::pb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{self, Stack, in_time, item, items_frame, start_frame, start_sandbox, text_request};
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
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
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
