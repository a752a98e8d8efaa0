//! Many messages in one Graph call (Graph's batch guide).

use std::borrow::Cow;

use serde::Deserialize;

use super::request::append_body_form;
use super::response::{Verdict, judge};
use super::usage::Usage;
use crate::error::{Reason, SendError};
use crate::graph::response::{Disposition, Refusal};
use crate::message::Message;

/// The body of a batch call to `POST /{version}/`, for messages of one page.
///
/// # Errors
/// None in practice: every template payload was parsed before.
pub fn body_json(page_id: &str, messages: &[&Message]) -> serde_json::Result<String> {
    let mut body = String::with_capacity(64 + messages.len() * 320);
    body.push_str(r#"{"include_headers":true,"batch":["#);
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        // A page id and a form hold no character that JSON would escape.
        body.push_str(r#"{"method":"POST","relative_url":""#);
        body.push_str(page_id);
        body.push_str(r#"/messages","body":""#);
        append_body_form(message, &mut body)?;
        body.push_str("\"}");
    }
    body.push_str("]}");
    Ok(body)
}

#[derive(Deserialize)]
struct Entry<'a> {
    code: u16,
    #[serde(borrow, default)]
    headers: Vec<Header<'a>>,
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

/// Reads the answer of a batch call: a verdict per message, in order, and the highest usage of any entry.
/// `None` if the answer is not an array of that length, and says nothing about the messages.
pub fn judge_entries(body: &[u8], messages: &[&Message]) -> Option<(Vec<Verdict>, Option<Usage>)> {
    let entries: Vec<Option<Entry<'_>>> = serde_json::from_slice(body).ok()?;
    if entries.len() != messages.len() {
        return None;
    }
    let mut usage: Option<Usage> = None;
    let verdicts = entries
        .into_iter()
        .zip(messages)
        .map(|(entry, message)| {
            let Some(entry) = entry else {
                return Verdict::Refused(null_entry());
            };
            for header in &entry.headers {
                usage = Usage::highest(usage, Usage::from_header(&header.name, &header.value));
            }
            judge(entry.code, entry.body.as_deref().unwrap_or_default().as_bytes(), &message.action)
        })
        .collect();
    Some((verdicts, usage))
}

/// Graph did not finish the entry within the batch's time; the message may have gone out all the same.
fn null_entry() -> Refusal {
    Refusal {
        error: SendError::new(
            Reason::OutcomeUnknown,
            "graph left the message's entry in the batch answer empty: it may have been delivered",
        ),
        disposition: Disposition::Unknown,
    }
}
