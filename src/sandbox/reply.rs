//! An answer before it is written: alone as an HTTP response, or as an entry of a batch's answer.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::graph_error::GraphError;
use super::ids::Ids;
use super::version::GraphVersion;

/// What a call is answered with, and what goes wrong on the way.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content: Content,
    /// Of every page the answer is about.
    pub(crate) usages: Vec<Usage>,
    pub(crate) disturbance: Disturbance,
}

/// A body and its kind.
#[derive(Debug)]
pub(crate) enum Content {
    Json(String),
    Html(&'static str),
    Text(&'static str),
    Empty,
}

/// What the usage header says about a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) page_id: String,
    pub(crate) percent: u8,
    pub(crate) regain_minutes: u32,
}

/// What happens to an answer on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disturbance {
    pub(crate) delay: Duration,
    pub(crate) cut: Option<Cut>,
    /// In a batch the entry is `null`.
    pub(crate) is_null_entry: bool,
}

/// Ways in which an answer does not arrive. The greater one prevails in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// The connection is closed in the middle of the body.
    InBody,
    /// The connection is reset instead of an answer.
    Reset,
    /// There is no answer while the connection lives.
    Stall,
}

impl Disturbance {
    /// What happens to an answer that contains this and `other`.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { delay: self.delay.max(other.delay), cut: self.cut.max(other.cut), is_null_entry: false }
    }
}

impl Reply {
    /// HTTP 200 with a JSON text.
    pub(crate) fn json(json: String) -> Self {
        Self {
            status: 200,
            content: Content::Json(json),
            usages: Vec::new(),
            disturbance: Disturbance::default(),
        }
    }

    pub(crate) fn error(error: &GraphError, ids: &Ids) -> Self {
        Self { status: error.status(), ..Self::json(error.envelope(&ids.trace())) }
    }

    /// The connection is reset.
    pub(crate) fn reset() -> Self {
        let mut reply = Self::json(String::new());
        reply.disturbance.cut = Some(Cut::Reset);
        reply
    }

    pub(crate) fn with_usage(mut self, usage: Usage) -> Self {
        self.usages.push(usage);
        self
    }

    /// Appends this reply as an entry of a batch's answer.
    pub(crate) fn write_entry(&self, entries: &mut String, with_headers: bool, version: GraphVersion) {
        if self.disturbance.is_null_entry {
            entries.push_str("null");
            return;
        }
        // Writing to a string cannot fail.
        let _written = write!(entries, r#"{{"code":{},"#, self.status);
        if with_headers {
            entries.push_str(r#""headers":["#);
            let kind = self.content.kind("text/javascript; charset=UTF-8");
            push_header(entries, "Content-Type", kind);
            entries.push(',');
            push_header(entries, "Facebook-API-Version", &version.to_string());
            if !self.usages.is_empty() {
                entries.push(',');
                push_header(entries, "X-Business-Use-Case-Usage", &usage_header(&self.usages));
            }
            entries.push_str("],");
        }
        entries.push_str(r#""body":"#);
        push_quoted(entries, self.content.text());
        entries.push('}');
    }
}

impl Content {
    /// The `Content-Type`; JSON's differs between answers and entries of a batch.
    pub(crate) fn kind(&self, json: &'static str) -> &'static str {
        match self {
            Self::Json(_) | Self::Empty => json,
            Self::Html(_) => "text/html; charset=UTF-8",
            Self::Text(_) => "text/plain; charset=UTF-8",
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Json(text) => text,
            Self::Html(text) | Self::Text(text) => text,
            Self::Empty => "",
        }
    }

    pub(crate) fn into_bytes(self) -> bytes::Bytes {
        match self {
            Self::Json(text) => text.into(),
            Self::Html(text) | Self::Text(text) => text.into(),
            Self::Empty => bytes::Bytes::new(),
        }
    }
}

/// The value of `x-business-use-case-usage`, every page once. Of a page's usages the highest
/// counts.
pub(crate) fn usage_header(usages: &[Usage]) -> String {
    let mut pages: BTreeMap<&str, [UseCase; 1]> = BTreeMap::new();
    for usage in usages {
        let [highest] = pages.entry(&usage.page_id).or_default();
        let percent = highest.call_count.max(usage.percent);
        *highest = UseCase {
            kind: "messenger",
            call_count: percent,
            total_cputime: percent,
            total_time: percent,
            estimated_time_to_regain_access: highest
                .estimated_time_to_regain_access
                .max(usage.regain_minutes),
        };
    }
    serde_json::to_string(&pages).unwrap_or_default()
}

/// Percentages of a page's budget, and minutes, in the order a recorded header has them.
#[derive(Default, Serialize)]
struct UseCase {
    #[serde(rename = "type")]
    kind: &'static str,
    call_count: u8,
    total_cputime: u8,
    total_time: u8,
    estimated_time_to_regain_access: u32,
}

/// Appends a header as entries of a batch list them.
pub(crate) fn push_header(entries: &mut String, name: &str, value: &str) {
    entries.push_str(r#"{"name":""#);
    entries.push_str(name);
    entries.push_str(r#"","value":"#);
    push_quoted(entries, value);
    entries.push('}');
}

fn push_quoted(text: &mut String, value: &str) {
    text.push_str(&serde_json::to_string(value).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn usage(page_id: &str, percent: u8, regain_minutes: u32) -> Usage {
        Usage { page_id: page_id.to_owned(), percent, regain_minutes }
    }

    #[test]
    fn usage_names_every_page_once() {
        let header = usage_header(&[usage("1", 3, 0), usage("2", 1, 0), usage("1", 100, 5)]);
        let header: Value = serde_json::from_str(&header).unwrap();
        assert_eq!(header["1"][0]["call_count"], 100);
        assert_eq!(header["1"][0]["estimated_time_to_regain_access"], 5);
        assert_eq!(header["2"][0]["type"], "messenger");
    }

    #[test]
    fn entries_carry_their_body_as_a_string() {
        let reply = Reply::json(r#"{"message_id":"m_1"}"#.to_owned()).with_usage(usage("1", 1, 0));
        let version = "v25.0".parse().unwrap();
        let mut entry = String::new();
        reply.write_entry(&mut entry, true, version);
        let entry: Value = serde_json::from_str(&entry).unwrap();
        assert_eq!(entry["body"], r#"{"message_id":"m_1"}"#);
        assert_eq!(entry["headers"][1], json!({"name": "Facebook-API-Version", "value": "v25.0"}));
        assert_eq!(entry["headers"].as_array().unwrap().len(), 3);
        let mut bare = String::new();
        reply.write_entry(&mut bare, false, version);
        assert_eq!(bare, r#"{"code":200,"body":"{\"message_id\":\"m_1\"}"}"#);
    }
}
