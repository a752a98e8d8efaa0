//! The cheap mode for benchmarks: answers as Graph would if all went well, and looks at nothing but
//! the number of messages and their pages.
//!
//! An answer names the person whom the message names by its id, and otherwise nobody in particular.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use hyper::http::request::Parts;
use hyper::{Method, Response, header};
use serde::Deserialize;
use serde_json::Value;

use super::answer::{self, AnswerBody};
use super::decode;
use super::graph;
use super::graph_error::GraphError;
use super::reply::{Reply, Usage, push_header};
use super::state::{Shared, count, now_ms};
use super::target::{Node, Target};
use super::version::GraphVersion;

/// The person that messages without an id are answered to have gone to.
const RECIPIENT: &str = "7000000000000000";

/// Answers any Graph call.
pub(crate) fn answer(shared: &Shared, head: &Parts, body: &[u8]) -> Response<AnswerBody> {
    let target = Target::parse(head.uri.path());
    let version = graph::serving(shared, target.as_ref().ok().and_then(|target| target.version));
    let is_post = head.method == Method::POST;
    let reply = match target.map(|target| target.node) {
        Ok(Node::Messages(page)) if is_post => {
            count(&shared.counters.plain_calls);
            shared.page(&page).deliver_unseen(1, now_ms());
            let (id, recipient) =
                (shared.ids.message(), recipient(std::str::from_utf8(body).unwrap_or_default()));
            Reply::json(format!(r#"{{"recipient_id":"{recipient}","message_id":"{id}"}}"#))
                .with_usage(usage(page))
        }
        Ok(Node::Uploads(_)) if is_post => {
            count(&shared.counters.uploads);
            Reply::json(format!(r#"{{"attachment_id":"{}"}}"#, shared.ids.attachment()))
        }
        Ok(Node::Root | Node::Page(_)) if is_post => batch(shared, head, body, version),
        Ok(Node::Page(page)) => {
            count(&shared.counters.probes);
            // Nothing is checked here, the token neither: all tokens are of one page.
            let page = if page == "me" { "1".to_owned() } else { page };
            Reply::json(format!(r#"{{"id":"{page}","name":"Sandbox Page"}}"#)).with_usage(usage(page))
        }
        Ok(Node::Root | Node::Messages(_) | Node::Uploads(_)) => {
            Reply::error(&GraphError::known(100, Some(33)), &shared.ids)
        }
        Err(error) => Reply::error(&error, &shared.ids),
    };
    answer::from_reply(reply, version, &shared.ids)
}

fn usage(page_id: String) -> Usage {
    Usage { page_id, percent: 1, regain_minutes: 0 }
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    batch: Vec<Item<'a>>,
    include_headers: Option<Value>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    relative_url: Cow<'a, str>,
    #[serde(borrow, default)]
    body: Cow<'a, str>,
}

/// The id of a message's recipient, from JSON or from a form of JSON, without reading either.
fn recipient(message: &str) -> &str {
    let Some((_, rest)) = message.split_once("recipient") else { return RECIPIENT };
    let id = [("\"id\":\"", '"'), ("%22id%22%3A%22", '%')].into_iter().find_map(|(name, end)| {
        let (id, _) = rest.split_once(name)?.1.split_once(end)?;
        Some(id)
    });
    id.filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
        .unwrap_or(RECIPIENT)
}

fn batch(shared: &Shared, head: &Parts, body: &[u8], version: GraphVersion) -> Reply {
    count(&shared.counters.batch_calls);
    let content_type = head.headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    if content_type.is_some_and(|kind| kind.starts_with(b"application/json")) {
        return match serde_json::from_slice::<Batch<'_>>(body) {
            Ok(call) => {
                entries(shared, &call.batch, decode::flag(call.include_headers.as_ref(), true), version)
            }
            Err(_error) => unreadable(shared),
        };
    }
    let (mut batch, mut include_headers) = (Cow::Borrowed(""), None);
    for (name, value) in form_urlencoded::parse(body) {
        match name.as_ref() {
            "batch" => batch = value,
            "include_headers" => include_headers = Some(Value::String(value.into_owned())),
            _ => {}
        }
    }
    match serde_json::from_str::<Vec<Item<'_>>>(&batch) {
        Ok(items) => entries(shared, &items, decode::flag(include_headers.as_ref(), true), version),
        Err(_error) => unreadable(shared),
    }
}

fn unreadable(shared: &Shared) -> Reply {
    Reply::error(&GraphError::parameter("param batch must be an array."), &shared.ids)
}

fn entries(shared: &Shared, items: &[Item<'_>], with_headers: bool, version: GraphVersion) -> Reply {
    let number = |items: usize| u64::try_from(items).unwrap_or(u64::MAX);
    shared.counters.batch_items.fetch_add(number(items.len()), Ordering::Relaxed);
    let mut usages = Vec::new();
    let now_ms = now_ms();
    let mut headers = String::new();
    if with_headers {
        headers.push_str(r#""headers":["#);
        push_header(&mut headers, "Content-Type", "text/javascript; charset=UTF-8");
        headers.push(',');
        push_header(&mut headers, "Facebook-API-Version", &version.to_string());
        headers.push_str("],");
    }
    let mut text = String::with_capacity(2 + items.len() * (120 + headers.len()));
    text.push('[');
    for of_one_page in items.chunk_by(|left, right| left.relative_url == right.relative_url) {
        if let Some(Node::Messages(page)) = of_one_page.first().and_then(|item| node(&item.relative_url)) {
            shared.page(&page).deliver_unseen(number(of_one_page.len()), now_ms);
            usages.push(usage(page));
        }
        for item in of_one_page {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(r#"{"code":200,"#);
            text.push_str(&headers);
            text.push_str(r#""body":"{\"recipient_id\":\""#);
            text.push_str(recipient(&item.body));
            text.push_str(r#"\",\"message_id\":\""#);
            text.push_str(&shared.ids.message());
            text.push_str(r#"\"}"}"#);
        }
    }
    text.push(']');
    Reply { usages, ..Reply::json(text) }
}

fn node(relative_url: &str) -> Option<Node> {
    let path = relative_url.split_once('?').map_or(relative_url, |(path, _query)| path);
    Target::parse(path).ok().map(|target| target.node)
}
