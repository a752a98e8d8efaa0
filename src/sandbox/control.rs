//! The sandbox's own endpoints, under `/sandbox/`: what it received, its counts, its faults.
//!
//! * `GET messages?limit&offset&recipient`: `{"total", "messages": [{"page_id", "version",
//!   "message_id", "in_batch", "received_at", "body", "appsecret_proof", "authorization"}]}`, oldest
//!   first; `total` counts the kept messages that match, `received_at` is in milliseconds since the
//!   Unix epoch, `authorization` is `bearer`, `query` or `body`; at most 1000 without a `limit`.
//! * `GET state`: `calls`, `plain_calls`, `batch_calls`, `batch_items`, `probes`, `uploads`;
//!   `delivered`, `duplicates` (deliveries of a page, recipient and body that had been delivered
//!   before), `refused`, `throttled`, in all and per page under `pages`; `same_recipient_batches`
//!   (batches with two sends to one recipient); `connections`, `open_connections`.
//! * `GET rate?page`: `{"bucket_ms", "most_in_one_second", "buckets": [{"start_ms", "count"}]}`, of
//!   one page or of all; empty buckets are left out.
//! * `GET faults`, `POST faults`: see `script`. `POST reset`: forgets everything.
//!
//! Mistakes are answered with status 400 or 404 and `{"error": "..."}`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::{self, AnswerBody};
use super::page::PageCounts;
use super::rate::{BUCKET_MS, Bucket, most_in_one_second};
use super::state::{KeptMessage, Shared};

/// Messages listed when the query has no `limit`.
const DEFAULT_LIMIT: usize = 1000;

/// Answers a request under `/sandbox/`.
pub(crate) fn answer(shared: &Shared, head: &Parts, body: &[u8]) -> Response<AnswerBody> {
    let query = Query::read(head.uri.query().unwrap_or_default());
    let result = match (&head.method, head.uri.path()) {
        (&Method::GET, "/sandbox/messages") => messages(shared, &query),
        (&Method::GET, "/sandbox/state") => Ok(state(shared)),
        (&Method::GET, "/sandbox/rate") => Ok(rate(shared, &query)),
        (&Method::GET, "/sandbox/faults") => Ok(to_json(&*shared.script())),
        (&Method::POST, "/sandbox/faults") => set_faults(shared, body),
        (&Method::POST, "/sandbox/reset") => {
            shared.reset();
            Ok("{}".to_owned())
        }
        _ => {
            let text = "no such endpoint; there are messages, state, rate, faults and reset";
            return answer::json(StatusCode::NOT_FOUND, json!({"error": text}).to_string());
        }
    };
    match result {
        Ok(json) => answer::json(StatusCode::OK, json),
        Err(text) => answer::json(StatusCode::BAD_REQUEST, json!({"error": text}).to_string()),
    }
}

struct Query(Vec<(String, String)>);

impl Query {
    fn read(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _value)| key == name).map(|(_key, value)| value.as_str())
    }

    fn number(&self, name: &str, default: usize) -> Result<usize, String> {
        match self.text(name) {
            Some(text) => text.parse().map_err(|_error| format!("{name} must be a number")),
            None => Ok(default),
        }
    }
}

/// The answer of `/sandbox/messages`.
#[derive(Serialize)]
struct Messages<'a> {
    /// Messages that are kept and match, on this page of the list or not.
    total: usize,
    messages: Vec<&'a KeptMessage>,
}

fn messages(shared: &Shared, query: &Query) -> Result<String, String> {
    let (limit, offset) = (query.number("limit", DEFAULT_LIMIT)?, query.number("offset", 0)?);
    let recipient = query.text("recipient");
    let kept = shared.kept();
    let matching: Vec<&KeptMessage> = kept
        .iter()
        .map(AsRef::as_ref)
        .filter(|message| recipient.is_none_or(|recipient| message.recipient == recipient))
        .collect();
    let total = matching.len();
    let messages = matching.into_iter().skip(offset).take(limit).collect();
    Ok(to_json(&Messages { total, messages }))
}

fn state(shared: &Shared) -> String {
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &shared.counters;
    let pages: Vec<_> = shared.pages().into_iter().map(|(id, page)| (id, page.counts())).collect();
    let sum = |of: fn(&PageCounts) -> u64| pages.iter().map(|(_id, counts)| of(counts)).sum::<u64>();
    let by_page: BTreeMap<&String, &PageCounts> = pages.iter().map(|(id, counts)| (id, counts)).collect();
    json!({
        "calls": number(&counters.calls),
        "plain_calls": number(&counters.plain_calls),
        "batch_calls": number(&counters.batch_calls),
        "batch_items": number(&counters.batch_items),
        "probes": number(&counters.probes),
        "uploads": number(&counters.uploads),
        "delivered": sum(|counts| counts.delivered),
        "duplicates": sum(|counts| counts.duplicates),
        "refused": sum(|counts| counts.refused),
        "throttled": sum(|counts| counts.throttled),
        "same_recipient_batches": number(&counters.same_recipient_batches),
        "connections": number(&counters.connections),
        "open_connections": number(&counters.open_connections),
        "pages": by_page,
    })
    .to_string()
}

/// Deliveries of one page, or of all, in buckets of 100 ms.
fn rate(shared: &Shared, query: &Query) -> String {
    let wanted = query.text("page");
    let mut buckets: Vec<Bucket> = shared
        .pages()
        .iter()
        .filter(|(id, _page)| wanted.is_none_or(|wanted| wanted == id))
        .flat_map(|(_id, page)| page.histogram().buckets().collect::<Vec<Bucket>>())
        .collect();
    buckets.sort_by_key(|bucket| bucket.start_ms);
    buckets.dedup_by(|later, earlier| {
        let is_same = later.start_ms == earlier.start_ms;
        if is_same {
            earlier.count += later.count;
        }
        is_same
    });
    let most = most_in_one_second(&buckets);
    json!({"bucket_ms": BUCKET_MS, "most_in_one_second": most, "buckets": buckets}).to_string()
}

fn set_faults(shared: &Shared, body: &[u8]) -> Result<String, String> {
    let changes: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("the body must be a JSON object: {error}"))?;
    let script = shared.script().with(changes)?;
    let json = to_json(&script);
    shared.set_script(script);
    Ok(json)
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
