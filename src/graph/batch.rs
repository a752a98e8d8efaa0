//! Many messages in one Graph call (Graph's batch guide).

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::lenient::{Object, Scalar, each_object};
use super::request::append_body_form;
use super::response::{Verdict, read_message};
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

#[derive(Default, Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    code: Scalar<'a>,
    #[serde(default)]
    headers: UsageHeaders,
    #[serde(borrow, default)]
    body: EntryBody<'a>,
}

/// What is used of an entry's headers.
#[derive(Default)]
struct UsageHeaders(Option<Usage>);

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow, default)]
    name: Scalar<'a>,
    #[serde(borrow, default)]
    value: Scalar<'a>,
}

/// An entry's body: JSON in a text, or the JSON itself.
#[derive(Default)]
struct EntryBody<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for UsageHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut usage = None;
        each_object(deserializer, |Header { name, value }: Header<'de>| {
            usage = Usage::highest(usage, Usage::from_header(&name.into_text(), &value.into_text()));
        })?;
        Ok(Self(usage))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for EntryBody<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json: &'a RawValue = Deserialize::deserialize(deserializer)?;
        let text = if json.get().starts_with('"') { serde_json::from_str(json.get()).ok() } else { None };
        Ok(Self(text.map_or(Cow::Borrowed(json.get()), Scalar::into_text)))
    }
}

/// Reads the answer of a batch call: a verdict per message, in order, and the highest usage of any entry. An entry that is
/// missing or odd costs only itself. `None` if the answer is no array, and says nothing about the messages.
pub fn read_entries(body: &[u8], messages: &[&Message]) -> Option<(Vec<Verdict>, Option<Usage>)> {
    let entries: Vec<Object<Entry<'_>>> = serde_json::from_slice(body).ok()?;
    let mut usage: Option<Usage> = None;
    let mut entries = entries.into_iter();
    let verdicts = messages.iter().map(|message| {
        let Some(entry) = entries.next().and_then(Object::read) else {
            return Verdict::Refused(empty_entry());
        };
        usage = Usage::highest(usage, entry.headers.0);
        read_message(entry.code.integer().unwrap_or_default(), entry.body.0.as_bytes(), &message.action)
    });
    let verdicts = verdicts.collect();
    Some((verdicts, usage))
}

/// Graph did not finish the entry within the batch's time; the message may have gone out all the same.
fn empty_entry() -> Refusal {
    Refusal {
        error: SendError::new(
            Reason::OutcomeUnknown,
            "graph left the message's entry in the batch answer empty: it may have been delivered",
        ),
        disposition: Disposition::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::sample_message;
    use crate::message::Recipient;

    /// What each of the entries means for its message: `sent`, or the reason and what follows from it.
    fn read(body: &str, messages: usize) -> Vec<String> {
        let message = sample_message(Recipient::UserRef("r".into()));
        let messages = vec![&message; messages];
        let (verdicts, _) = read_entries(body.as_bytes(), &messages).unwrap();
        let told = verdicts.iter().map(|verdict| match verdict {
            Verdict::Accepted(accepted) => accepted.message_id.clone(),
            Verdict::Refused(refusal) => format!("{:?}", refusal.error.reason),
        });
        told.collect()
    }

    #[test]
    fn an_odd_entry_costs_only_itself() {
        let good = r#"{"code":200,"headers":[{"name":"a","value":"b"}],"body":"{\"message_id\":\"m\"}"}"#;
        let table = [
            (r#"{"code":200,"headers":null,"body":"{\"message_id\":\"m\"}"}"#, "m"),
            (r#"{"code":200,"headers":"none","body":"{\"message_id\":\"m\"}"}"#, "m"),
            (r#"{"code":200,"headers":[null,7,{"name":null}],"body":"{\"message_id\":\"m\"}"}"#, "m"),
            (r#"{"code":"200","body":"{\"message_id\":\"m\"}"}"#, "m"),
            (r#"{"code":200,"body":{"message_id":"m"}}"#, "m"),
            (r#"{"code":200,"body":"{\"message_id\":\"m\",\"error\":null,\"recipient_id\":null}"}"#, "m"),
            (r#"{"body":"{\"message_id\":\"m\"}"}"#, "OutcomeUnknown"),
            (r#"{"code":null,"body":"{\"message_id\":\"m\"}"}"#, "OutcomeUnknown"),
            (r#"{"code":99999,"body":"{\"message_id\":\"m\"}"}"#, "OutcomeUnknown"),
            (r#"{"code":{},"body":"{\"error\":{\"code\":31337}}"}"#, "OutcomeUnknown"),
            (r#"{"code":{},"body":"{\"error\":{\"code\":551}}"}"#, "RecipientUnavailable"),
            (r#"{"code":200,"body":null}"#, "OutcomeUnknown"),
            (r#"{"code":200,"body":[]}"#, "OutcomeUnknown"),
            (r#"{"code":200}"#, "OutcomeUnknown"),
            ("null", "OutcomeUnknown"),
            ("7", "OutcomeUnknown"),
            (r#""text""#, "OutcomeUnknown"),
            ("[{}]", "OutcomeUnknown"),
            (r#"{"code":400,"body":"{\"error\":{\"code\":\"190\",\"message\":null}}"}"#, "PageTokenInvalid"),
        ];
        for (odd, expected) in table {
            assert_eq!(read(&format!("[{good},{odd},{good}]"), 3), ["m", expected, "m"], "{odd}");
        }
    }

    #[test]
    fn too_few_entries_cost_those_that_are_missing_and_too_many_cost_nothing() {
        let good = r#"{"code":200,"body":"{\"message_id\":\"m\"}"}"#;
        assert_eq!(read(&format!("[{good}]"), 2), ["m", "OutcomeUnknown"]);
        assert_eq!(read(&format!("[{good},{good},{good}]"), 2), ["m", "m"]);
    }
}
