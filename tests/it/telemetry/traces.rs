//! Spans: of calls in the trace of their caller, of Graph calls, of some items of a bulk.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tonic::Request;

use super::collector::Collector;
use super::echo::Echo;
use super::process::Process;
use crate::harness::{
    Client, frame, in_time, item, items_frame, start_sandbox, text_action, text_request, update,
};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT_ID: &str = "00f067aa0ba902b7";
const SEND_TEXT: &str = "messenger.v1.MessengerService/SendTextMessage";
const SEND_BULK: &str = "messenger.v1.MessengerService/SendBulkMessages";
const POST_MESSAGES: &str = "POST /{version}/{page_id}/messages";

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn only<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = named(spans, name);
    let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
    assert_eq!(found.len(), 1, "{name} in {names:?}");
    found[0]
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    if let Value::IntValue(number) = value {
        return Some(number.to_string());
    }
    let Value::StringValue(text) = value else { panic!("{value:?}") };
    Some(text)
}

#[tokio::test]
async fn a_call_joins_the_trace_of_its_caller_and_graph_learns_nothing_of_it() {
    let (collector, collector_address) = Collector::start().await;
    let (graph, graph_url) = Echo::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = ["--page-access-token", "token", "--page-id", "101"];
    let process = Process::start(folder.path(), &collector_address, &graph_url, &token, &[]).await;
    let mut client = Client::connect(process.address.clone()).await.unwrap();
    let mut request = Request::new(text_request("7", "x"));
    request.metadata_mut().insert("traceparent", format!("00-{TRACE_ID}-{PARENT_ID}-01").parse().unwrap());
    request.metadata_mut().insert("tracestate", "vendor=7".parse().unwrap());
    client.send_text_message(request).await.unwrap_err();
    let mut unsampled = Request::new(text_request("7", "x"));
    unsampled.metadata_mut().insert("traceparent", format!("00-{TRACE_ID}-{PARENT_ID}-00").parse().unwrap());
    client.send_text_message(unsampled).await.unwrap_err();
    process.end().await;

    // What happened right before the end has arrived. What the caller does not sample is not told.
    let spans = collector.spans();
    assert_eq!(spans.len(), 2, "{spans:?}");
    let call = only(&spans, SEND_TEXT);
    assert_eq!((hex::encode(&call.trace_id).as_str(), call.kind()), (TRACE_ID, SpanKind::Server));
    assert_eq!(hex::encode(&call.parent_span_id), PARENT_ID);
    assert_eq!(attribute(call, "rpc.response.status_code").as_deref(), Some("FAILED_PRECONDITION"));
    assert_eq!(attribute(call, "messenger.state").as_deref(), Some("FAILED"));
    assert_eq!(attribute(call, "messenger.reason").as_deref(), Some("RecipientUnavailable"));
    assert_eq!(attribute(call, "error.type"), None, "the caller's fault");
    let graph_call = only(&spans, POST_MESSAGES);
    assert_eq!((&graph_call.trace_id, graph_call.kind()), (&call.trace_id, SpanKind::Client));
    assert_eq!(graph_call.parent_span_id, call.span_id);
    assert_eq!(attribute(graph_call, "http.response.status_code").as_deref(), Some("400"));
    assert_eq!(graph_call.status.as_ref().unwrap().code(), StatusCode::Error);
    for call in graph.calls() {
        let call = call.to_lowercase();
        assert!(call.contains("authorization: bearer token"), "{call}");
        for secret in ["traceparent", "tracestate", TRACE_ID, "vendor=7"] {
            assert!(!call.contains(secret), "{secret}: {call}");
        }
    }
    let names = collector.metric_names();
    for name in ["rpc.server.call.duration", "http.client.request.duration", "messenger.messages"] {
        assert!(names.iter().any(|told| told == name), "{name} is not among {names:?}");
    }
}

#[tokio::test]
async fn a_stream_is_a_span_and_some_items_are_linked_to_it() {
    let (collector, collector_address) = Collector::start().await;
    let (sandbox_url, _stop) = start_sandbox(0).await;
    let folder = tempfile::tempdir().unwrap();
    let token = ["--page-access-token", "token", "--rate-per-second", "0"];
    let process = Process::start(folder.path(), &collector_address, &sandbox_url, &token, &[]).await;
    let mut client = Client::connect(process.address.clone()).await.unwrap();
    let start = frame(messenger_connector::api::pb::BulkStart {
        bulk_id: "sale".into(),
        action: Some(text_action("x")),
        options: Some(update()),
        ..Default::default()
    });
    let items = (0..250).map(|n| item(&n.to_string(), &n.to_string())).collect();
    let frames = tokio_stream::iter([start, items_frame(items)]);
    let mut answers = client.send_bulk_messages(frames).await.unwrap().into_inner();
    while in_time(answers.message()).await.unwrap().is_some() {}
    process.end().await;

    let spans = collector.spans();
    let stream = only(&spans, SEND_BULK);
    assert_eq!(attribute(stream, "messenger.bulk.id").as_deref(), Some("sale"));
    assert_eq!(attribute(stream, "rpc.response.status_code").as_deref(), Some("OK"));
    let sampled = named(&spans, "bulk item");
    assert_eq!(sampled.len(), 3, "one in a hundred, the first included");
    for item in &sampled {
        assert!(item.parent_span_id.is_empty() && item.trace_id != stream.trace_id, "a trace of its own");
        assert_eq!(item.links.len(), 1, "{item:?}");
        assert_eq!(item.links[0].span_id, stream.span_id);
        assert_eq!(attribute(item, "messenger.state").as_deref(), Some("SENT"));
    }
    // Of each item's Graph call one can tell which it was.
    let graph_calls: Vec<_> = spans.iter().filter(|span| span.kind() == SpanKind::Client).collect();
    let carried: i64 = graph_calls
        .iter()
        .map(|call| attribute(call, "messenger.messages").unwrap().parse::<i64>().unwrap())
        .sum();
    assert_eq!(carried, 250);
    for item in sampled {
        let carries = |call: &&&Span| {
            call.parent_span_id == item.span_id || call.links.iter().any(|link| link.span_id == item.span_id)
        };
        assert_eq!(graph_calls.iter().filter(carries).count(), 1, "{item:?}");
    }
    assert_eq!(
        spans.len(),
        1 + 3 + graph_calls.len(),
        "and nothing else, the exporter's own calls least of all"
    );
}
