//! Metrics: all that are documented are there, and none that is not; labels come from fixed lists.

use std::collections::{BTreeMap, BTreeSet};

use messenger_connector::api::pb;
use tonic::codegen::http::uri::PathAndQuery;

use crate::harness::{self, Stack, item, items_frame, receipt, start_frame, text_request};

const DOCUMENT: &str = include_str!("../../../docs/operations.md");

/// Metrics and their labels, as the document has them: rows of "| `name` | labels | meaning |".
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let section = DOCUMENT.split("\n## ").find(|section| section.starts_with("Metrics\n")).unwrap();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    cells.map(|cells| (quoted(cells[0]).remove(0), quoted(cells[1]).into_iter().collect())).collect()
}

/// Samples in Prometheus' text format: metric, labels, value.
fn samples(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (key, value) = label.split_once("=\"").unwrap();
            (key.to_owned(), value.trim_end_matches('"').to_owned())
        });
        (name.to_owned(), labels.collect(), value.parse().unwrap())
    });
    parsed.collect()
}

async fn metrics(stack: &Stack) -> String {
    let answer = reqwest::get(format!("{}/metrics", stack.admin_address.as_ref().unwrap())).await.unwrap();
    assert_eq!(answer.status(), 200);
    String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap()
}

/// Messages by state and reason.
async fn messages(stack: &Stack) -> BTreeMap<String, f64> {
    let counted =
        samples(&metrics(stack).await).into_iter().filter(|(name, ..)| name == "messenger_messages_total");
    let named = counted.map(|(_, labels, count)| {
        let names: Vec<_> = ["state", "reason"].iter().filter_map(|key| labels.get(*key).cloned()).collect();
        (names.join(" "), count)
    });
    named.collect()
}

/// Calls a method that there is not.
async fn call_unknown_method(stack: &Stack, path: String) {
    let mut grpc = tonic::client::Grpc::new(stack.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<pb::GetBulkRequest, pb::Bulk>::default();
    let path = PathAndQuery::try_from(path).unwrap();
    grpc.unary(tonic::Request::new(pb::GetBulkRequest::default()), path, codec).await.unwrap_err();
}

#[tokio::test]
async fn every_documented_metric_is_told_and_no_other() {
    let stack = harness::start_with(&["--page-access-token", "t", "--admin-listen", "127.0.0.1:0"]).await;
    let mut client = stack.client.clone();
    let named = pb::SendTextMessageRequest { request_id: "one".into(), ..text_request("7", "x") };
    receipt(client.send_text_message(named.clone()).await.unwrap().into_inner());
    assert!(receipt(client.send_text_message(named).await.unwrap().into_inner()).replayed);
    receipt(client.send_text_message(text_request("transient-1.a", "x")).await.unwrap().into_inner());
    client.send_text_message(text_request("fail-551.a", "x")).await.unwrap_err();
    client.send_text_message(text_request("8", "")).await.unwrap_err();
    let items = (0..100).map(|n| item(&format!("item-{n}"), &format!("987654{n}"))).collect();
    stack.bulk(vec![start_frame("x"), items_frame(items), items_frame(vec![item("", "8")])]).await;
    for n in 0..20 {
        call_unknown_method(&stack, format!("/messenger.v1.MessengerService/Call987654{n}")).await;
    }

    let text = metrics(&stack).await;
    let documented = documented();
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, labels, _) in samples(&text) {
        let stem =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        told.entry(stem.to_owned()).or_default().extend(labels.into_keys().filter(|key| key != "le"));
    }
    assert_eq!(told.keys().collect::<Vec<_>>(), documented.keys().collect::<Vec<_>>());
    for (name, labels) in &told {
        let unknown: Vec<_> = labels.difference(&documented[name]).collect();
        assert!(unknown.is_empty(), "{name} has undocumented labels {unknown:?}");
    }
    assert!(!text.contains("987654"), "nothing of a caller's choice is a label: {text}");
    assert!(text.contains("rpc_method=\"_OTHER\""), "{text}");
    let counts = messages(&stack).await;
    let expected =
        [("FAILED RECIPIENT_UNAVAILABLE", 1.0), ("REJECTED INVALID_ARGUMENT", 2.0), ("SENT", 103.0)];
    assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)).into());
    let total =
        |name: &str| samples(&text).iter().filter(|sample| sample.0 == name).map(|sample| sample.2).sum();
    let totals: [f64; 3] =
        ["messenger_replays_total", "messenger_retries_total", "messenger_streams_active"].map(total);
    assert_eq!(totals, [1.0, 1.0, 0.0]);
}

#[tokio::test]
async fn a_message_whose_caller_left_is_counted_as_that() {
    let stack = harness::start_with(&["--page-access-token", "t", "--admin-listen", "127.0.0.1:0"]).await;
    let request = harness::timed(text_request("stall.a", "x"), "300m");
    harness::bare_client(&stack).send_text_message(request).await.unwrap_err();
    let items = vec![item("a", "stall.b"), item("b", "stall.c")];
    let (frames, requests) = tokio::sync::mpsc::channel(2);
    for frame in [start_frame("x"), items_frame(items)] {
        frames.send(frame).await.unwrap();
    }
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let answers = stack.client.clone().send_bulk_messages(requests).await.unwrap();
    let text = loop {
        let text = metrics(&stack).await;
        if text.contains("messenger_in_flight 3") {
            break text;
        }
    };
    assert!(text.contains("messenger_streams_active 1"), "{text}");
    drop((frames, answers));
    harness::in_time(async { while messages(&stack).await.get("UNANSWERED") != Some(&3.0) {} }).await;
    let text = metrics(&stack).await;
    for code in ["DEADLINE_EXCEEDED", "CANCELLED"] {
        assert!(text.contains(&format!("rpc_response_status_code=\"{code}\"")), "{code}: {text}");
    }
}

#[tokio::test]
async fn the_admin_port_answers_probes_and_says_whom_it_is_in_the_way_of() {
    let stack = harness::start_with(&["--page-access-token", "t", "--admin-listen", "127.0.0.1:0"]).await;
    let address = stack.admin_address.clone().unwrap();
    let get = async |path: &str| {
        let answer = reqwest::get(format!("{address}{path}")).await.unwrap();
        (answer.status().as_u16(), String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap())
    };
    assert_eq!(get("/livez").await, (200, "alive\n".to_owned()));
    assert_eq!(get("/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(get("/").await.0, 404);
    let taken = address.trim_start_matches("http://");
    let options = harness::serve_options(&["--page-access-token", "t", "--admin-listen", taken]);
    let error = format!("{:#}", messenger_connector::server::Server::bind(options).await.unwrap_err());
    assert!(error.contains("--admin-listen") && error.contains(taken), "{error}");
}
