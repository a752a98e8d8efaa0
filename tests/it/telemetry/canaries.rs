//! Whatever happens, no secret and nobody's data gets into a log, a span, a metric or an error.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use messenger_connector::api::pb;
use messenger_connector::callers::key_hash;
use tonic::Status;

use super::collector::Collector;
use super::echo::Echo;
use super::process::Process;
use crate::faults::{CALL_FAULTS, MESSAGE_FAULTS};
use crate::harness::{
    self, BareKeyedClient, bare_keyed_client, frame, items_frame, psid, start_sandbox, timed, update, write,
};

const TOKEN: &str = "CanaryToken";
const APP_SECRET: &str = "CanaryAppSecret";
const KEY: &str = "CanaryKey";
const WRONG_KEY: &str = "CanaryWrongKey";
const COLLECTOR_KEY: &str = "CanaryCollectorKey";
const RECIPIENT: &str = "CanaryRecipient";
const TEXT: &str = "CanaryText";
/// All of them begin so.
const CANARY: &str = "canary";

/// A page for each fault, because some of them stop a page.
fn pages(folder: &Path, count: usize) -> String {
    write(folder, "token", TOKEN);
    write(folder, "secret", APP_SECRET);
    let mut pages = String::new();
    for page in 0..count {
        let files = "access_token_file = \"token\"\napp_secret_file = \"secret\"";
        writeln!(pages, "[[page]]\nid = \"{page}\"\n{files}").unwrap();
    }
    write(folder, "pages.toml", &pages)
}

async fn start(folder: &Path, collector: &str, graph_url: &str, page_count: usize) -> Process {
    let pages = pages(folder, page_count);
    let hash: String = key_hash(KEY).iter().map(|byte| format!("{byte:02x}")).collect();
    let callers =
        write(folder, "callers.toml", &format!("[[caller]]\nname = \"c\"\nkey_sha256 = \"{hash}\""));
    let more = ["--pages", &pages, "--callers", &callers, "--log", "trace"];
    let header = format!("authorization=Bearer {COLLECTOR_KEY}");
    Process::start(folder, collector, graph_url, &more, &[("OTEL_EXPORTER_OTLP_HEADERS", &header)]).await
}

/// However busy the machine is, the service tells what became of a call, not the client's clock.
fn client(process: &Process, key: &str) -> BareKeyedClient {
    bare_keyed_client(&process.address, key)
}

fn text() -> pb::TextMessage {
    let reply = pb::QuickReply {
        content_type: pb::quick_reply::ContentType::Text.into(),
        title: TEXT.into(),
        payload: TEXT.into(),
        ..Default::default()
    };
    let extras =
        pb::MessageExtras { quick_replies: vec![reply], metadata: TEXT.into(), ..Default::default() };
    pb::TextMessage { text: format!("{TEXT} {{{{name}}}}"), extras: Some(extras) }
}

fn variables() -> prost_types::Struct {
    let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(TEXT.into())) };
    prost_types::Struct { fields: [("name".to_owned(), value)].into() }
}

fn text_request(page_id: usize, fault: &str) -> pb::SendTextMessageRequest {
    pb::SendTextMessageRequest {
        request_id: format!("r-{page_id}"),
        page_id: page_id.to_string(),
        recipient: Some(psid(&format!("{fault}.{RECIPIENT}"))),
        options: Some(update()),
        text: Some(text()),
        template_variables: Some(variables()),
        ..Default::default()
    }
}

/// What our own part of an error says.
fn errors_of(status: &Status) -> String {
    let error = harness::send_error(status);
    format!("{} {} {:?}", status.message(), error.message, error.violations)
}

/// Sends a text and a bulk to the recipients of one fault.
async fn send(mut client: BareKeyedClient, page_id: usize, fault: &str) -> String {
    let mut errors = String::new();
    if let Err(status) = client.send_text_message(timed(text_request(page_id, fault), "2S")).await {
        errors += &errors_of(&status);
    }
    let start = frame(pb::BulkStart {
        page_id: page_id.to_string(),
        action: Some(pb::Action { kind: Some(pb::action::Kind::Text(text())) }),
        options: Some(update()),
        expire_time: Some((std::time::SystemTime::now() + Duration::from_secs(2)).into()),
        ..Default::default()
    });
    let items = (0..3).map(|n| pb::BulkItem {
        item_id: n.to_string(),
        recipient: Some(psid(&format!("{fault}.{RECIPIENT}{n}"))),
        variables: Some(variables()),
        ..Default::default()
    });
    let frames = tokio_stream::iter([start, items_frame(items.collect())]);
    let mut answers = client.send_bulk_messages(frames).await.unwrap().into_inner();
    while let Some(answer) = answers.message().await.unwrap() {
        let Some(pb::send_bulk_messages_response::Frame::Results(results)) = answer.frame else { continue };
        for result in results.results {
            if let Some(pb::item_result::Outcome::Error(error)) = result.outcome {
                write!(errors, "{} {:?}", error.message, error.violations).unwrap();
            }
        }
    }
    errors
}

fn template(payload: String) -> pb::TemplateMessage {
    let content = pb::template_message::Content::PayloadJson(payload);
    pb::TemplateMessage { content: Some(content), ..Default::default() }
}

fn media(url: String) -> pb::MediaMessage {
    let source = Some(pb::media_message::Source::Url(url));
    pb::MediaMessage { r#type: pb::media_message::Type::Image.into(), source, ..Default::default() }
}

/// Sends the kinds of messages that are no texts: well to the last page, and wrongly.
async fn send_other_kinds(process: &Process, page_id: usize) -> String {
    let mut client = client(process, KEY);
    let (page_id, recipient, options) = (page_id.to_string(), Some(psid(RECIPIENT)), Some(update()));
    let mut errors = Vec::new();
    let button = format!(
        r#"{{"template_type": "button", "text": "{TEXT}", "buttons":
            [{{"type": "postback", "title": "Yes", "payload": "{TEXT}"}}]}}"#
    );
    for payload in [button, format!(r#"{{"template_type": "{TEXT}", "#)] {
        errors.push(
            client
                .send_template_message(pb::SendTemplateMessageRequest {
                    page_id: page_id.clone(),
                    recipient: recipient.clone(),
                    options: options.clone(),
                    template: Some(template(payload)),
                    ..Default::default()
                })
                .await
                .err(),
        );
    }
    for url in [format!("https://example.com/{TEXT}"), format!("ftp://{TEXT}")] {
        errors.push(
            client
                .send_media_message(pb::SendMediaMessageRequest {
                    page_id: page_id.clone(),
                    recipient: recipient.clone(),
                    options: options.clone(),
                    media: Some(media(url)),
                    ..Default::default()
                })
                .await
                .err(),
        );
    }
    let typing = pb::SenderAction { r#type: pb::sender_action::Type::TypingOn.into() };
    let typing =
        pb::SendSenderActionRequest { page_id, recipient, sender_action: Some(typing), ..Default::default() };
    client.send_sender_action(typing).await.unwrap();
    let refused: Vec<_> = errors.iter().map(Option::is_some).collect();
    assert_eq!(refused, [false, true, false, true], "{errors:?}");
    errors.iter().flatten().map(errors_of).collect()
}

/// Requests that are refused before anything is sent.
async fn send_wrongly(process: &Process) -> String {
    let mut client = client(process, KEY);
    let mut stranger = self::client(process, WRONG_KEY);
    let too_long = TEXT.repeat(1000);
    let no_template = pb::TextMessage { text: format!("{TEXT}{{{{#if {TEXT}"), extras: None };
    let extras = pb::MessageExtras { metadata: too_long.clone(), ..Default::default() };
    let mut errors = vec![stranger.send_text_message(text_request(0, "x")).await.unwrap_err()];
    for request in [
        pb::SendTextMessageRequest { text: Some(harness::text(&too_long)), ..text_request(0, "x") },
        pb::SendTextMessageRequest { text: Some(no_template), ..text_request(0, "x") },
        pb::SendTextMessageRequest {
            text: Some(pb::TextMessage { text: TEXT.into(), extras: Some(extras) }),
            ..text_request(0, "x")
        },
        pb::SendTextMessageRequest { recipient: Some(psid(&RECIPIENT.repeat(1000))), ..text_request(0, "x") },
        pb::SendTextMessageRequest { request_id: "r-0".into(), ..text_request(1, "another") },
        pb::SendTextMessageRequest { page_id: RECIPIENT.into(), ..text_request(0, "x") },
    ] {
        errors.extend(client.send_text_message(timed(request, "2S")).await.err());
    }
    errors.iter().map(errors_of).collect()
}

fn assert_silent(what: &str, told: &str) {
    let lower = told.to_lowercase();
    if let Some(at) = lower.find(CANARY) {
        let around: String =
            lower.chars().skip(lower[..at].chars().count().saturating_sub(600)).take(900).collect();
        panic!("a canary in {what}: {around}");
    }
}

#[tokio::test]
async fn no_fault_and_no_mistake_makes_the_service_tell_a_secret() {
    let (collector, collector_address) = Collector::start().await;
    let (sandbox_url, _stop) = start_sandbox(0).await;
    let folder = tempfile::tempdir().unwrap();
    let faults: Vec<_> = MESSAGE_FAULTS.iter().chain(CALL_FAULTS).map(|row| row.0).chain(["7"]).collect();
    let process = start(folder.path(), &collector_address, &sandbox_url, faults.len()).await;
    let client = client(&process, KEY);
    let sends = faults.iter().enumerate().map(|(page_id, fault)| send(client.clone(), page_id, fault));
    let errors = futures_util::future::join_all(sends).await.concat()
        + &send_wrongly(&process).await
        + &send_other_kinds(&process, faults.len() - 1).await;
    let metrics = process.metrics().await;
    let log = process.end().await;
    assert!(errors.contains("graph refused") && metrics.contains("reason=\"OUTCOME_UNKNOWN\""), "{metrics}");
    assert!(
        log.contains("hyper") && log.contains("DEBUG") && log.contains("TRACE"),
        "libraries were heard too"
    );
    assert!(collector.spans().len() > faults.len() * 2);
    for (what, told) in [
        ("an error", &errors),
        ("the metrics", &metrics),
        ("the log", &log),
        ("what the collector got", &collector.text()),
    ] {
        assert_silent(what, told);
    }
}

#[tokio::test]
async fn a_graph_that_quotes_everything_is_not_quoted() {
    let (collector, collector_address) = Collector::start().await;
    let (graph, graph_url) = Echo::start().await;
    let folder = tempfile::tempdir().unwrap();
    let process = start(folder.path(), &collector_address, &graph_url, 1).await;
    let errors = send(client(&process, KEY), 0, "x").await;
    let metrics = process.metrics().await;
    let log = process.end().await;
    let calls = graph.calls().concat();
    for canary in [TOKEN, RECIPIENT, TEXT] {
        assert!(calls.contains(canary), "{canary} is a canary: {calls}");
    }
    for (what, told) in [
        ("an error", &errors),
        ("the metrics", &metrics),
        ("the log", &log),
        ("what the collector got", &collector.text()),
    ] {
        assert_silent(what, told);
    }
}
