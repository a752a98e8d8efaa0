//! A Graph over TLS and HTTP/2, as Meta's is.

use std::time::Duration;

use messenger_connector::api::pb::{self, ErrorReason};
use messenger_connector::sandbox;
use tokio_util::sync::DropGuard;
use tonic::Code;

use crate::certificates::{Files, shown};
use crate::faults::CALL_FAULTS;
use crate::harness::{self, Stack, in_time, item, items_frame, send_error, start_frame, text_request};

/// A sandbox that speaks TLS.
struct Graph {
    url: String,
    files: Files,
    _stop: DropGuard,
}

impl Graph {
    async fn start(options: sandbox::Options) -> Self {
        let files = Files::new();
        let (tls_cert, tls_key) = (Some(files.path("cert.pem")), Some(files.path("key.pem")));
        let (url, stop) =
            harness::start_sandbox_with(sandbox::Options { tls_cert, tls_key, ..options }).await;
        Self { url, files, _stop: stop }
    }

    /// A service that calls it.
    async fn service(&self, more: &[&str]) -> Stack {
        let arguments = ["--page-access-token", "token", "--graph-url", &self.url];
        harness::start_with(&[&arguments, more].concat()).await
    }

    /// A service that calls it and trusts it.
    async fn trusting_service(&self) -> Stack {
        self.service(&["--graph-tls-ca", &shown(&self.files.path("ca.pem"))]).await
    }

    async fn state(&self) -> serde_json::Value {
        let authority = reqwest::Certificate::from_pem(self.files.authority.pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().add_root_certificate(authority).build().unwrap();
        let answer = client.get(format!("{}/sandbox/state", self.url)).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }
}

#[tokio::test]
async fn calls_in_flight_are_spread_over_connections() {
    for http1_only in [false, true] {
        let options =
            sandbox::Options { http2_streams: 2, latency_ms: 500, http1_only, ..Default::default() };
        let graph = Graph::start(options).await;
        let stack = graph.trusting_service().await;
        let items = (0..1000).map(|n| item(&n.to_string(), &format!("8{n}"))).collect();
        let bulk = stack.bulk(vec![start_frame("x"), items_frame(items)]).await;
        assert_eq!(bulk.summary.unwrap().sent, 1000);
        let state = graph.state().await;
        assert_eq!((state["delivered"].as_i64(), state["duplicates"].as_i64()), (Some(1000), Some(0)));
        // One of them is the question itself. 8 of the 20 batches may be in flight at first, 16 in the end.
        let connections = state["connections"].as_i64().unwrap() - 1;
        let expected = if http1_only { 8..=20 } else { 4..=10 };
        assert!(expected.contains(&connections), "{state}");
    }
}

#[tokio::test]
async fn a_graph_that_proves_itself_to_nobody_gets_nothing() {
    let graph = Graph::start(sandbox::Options::default()).await;
    let stack = graph.service(&[]).await;
    let mut request = tonic::Request::new(text_request("7", "x"));
    request.set_timeout(Duration::from_secs(20));
    let status = stack.client.clone().send_text_message(request).await.unwrap_err();
    let error = send_error(&status);
    assert_eq!((status.code(), error.reason()), (Code::Unavailable, ErrorReason::GraphUnavailable));
    assert!(error.retryable && error.message.contains("certificate"), "{error:?}");
    assert_eq!(graph.state().await["calls"], 0);
}

#[tokio::test]
async fn a_call_that_breaks_off_is_unknown_and_takes_no_other_with_it() {
    let graph = Graph::start(sandbox::Options::default()).await;
    for (fault, _, reason, code) in CALL_FAULTS {
        let stack = graph.trusting_service().await;
        // It has asked Graph whose the token is by the time it answers.
        stack.client.clone().list_pages(pb::ListPagesRequest {}).await.unwrap();
        let mut slow = stack.client.clone();
        let slow_recipient = format!("slow-500.{fault}");
        let calls = graph.state().await["calls"].as_i64().unwrap();
        let slow =
            tokio::spawn(async move { slow.send_text_message(text_request(&slow_recipient, "x")).await });
        in_time(async { while graph.state().await["calls"] == calls {} }).await;
        let sent = stack.client.clone().send_text_message(text_request(fault, "x")).await;
        let status = sent.unwrap_err();
        assert_eq!((status.code(), send_error(&status).reason()), (*code, *reason), "{fault}");
        slow.await.unwrap().unwrap();
    }
    assert_eq!(graph.state().await["duplicates"], 0);
}
