//! HTTP calls to Graph. Tells apart what was surely not sent from what may have been.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use serde::Deserialize;
use sha2::Sha256;
use tracing::{Instrument, Span};

use super::response::{Disposition, Refusal, Verdict, judge, judge_call};
use super::usage::Usage;
use super::{batch, receipt, request};
use crate::error::{Reason, SendError};
use crate::limits::{
    GRAPH_ANSWER_BYTES_MAX, GRAPH_CALL_TIMEOUT, GRAPH_CONNECT_TIMEOUT, GRAPH_MEDIA_CALL_TIMEOUT,
};
use crate::message::{Action, Message};
use crate::pages::Page;
use crate::telemetry::metrics::{GraphCall, Metrics};
use crate::telemetry::traces;

/// A connection pool to one Graph host.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    graph_url: String,
    host: Arc<str>,
    port: u16,
    metrics: Metrics,
    /// Pairs of Graph versions, asked and served, that were logged already.
    versions_logged: Mutex<HashSet<(String, String)>>,
}

/// What one call brought: a verdict per message, in order.
#[derive(Debug)]
pub struct CallAnswer {
    /// One for each message of the call.
    pub verdicts: Vec<Verdict>,
    /// What the usage headers said, if there were any.
    pub usage: Option<Usage>,
}

/// What telemetry calls a kind of call: its method, and its path with names in place of ids.
#[derive(Clone, Copy, Debug)]
struct Endpoint {
    method: &'static str,
    template: &'static str,
}

const MESSAGES: Endpoint = Endpoint { method: "POST", template: "/{version}/{page_id}/messages" };
const BATCH: Endpoint = Endpoint { method: "POST", template: "/{version}/" };
const PAGE: Endpoint = Endpoint { method: "GET", template: "/{version}/{page_id}" };

/// Why there is no answer to a call.
#[derive(Clone, Copy, Debug)]
enum NoAnswer {
    NotBuilt,
    NotConnected,
    Timeout,
    Broken,
    TooLong,
}

/// An HTTP answer, read to its end.
struct HttpAnswer {
    status: u16,
    body: Vec<u8>,
    usage: Option<Usage>,
}

/// The page as its own token shows it.
#[derive(Debug, Deserialize)]
pub struct ProbedPage {
    /// The page's id.
    pub id: String,
    /// The page's name.
    #[serde(default)]
    pub name: String,
}

impl Client {
    /// A client for the Graph host at `graph_url`, for example `https://graph.facebook.com`.
    ///
    /// # Errors
    /// If the address has no host, or the system's TLS roots cannot be loaded.
    pub fn new(graph_url: &str, metrics: Metrics) -> anyhow::Result<Self> {
        let url = url::Url::parse(graph_url).context("the address of graph")?;
        let http = reqwest::Client::builder()
            .connect_timeout(GRAPH_CONNECT_TIMEOUT)
            // Shorter than servers keep idle connections, so that a call rarely meets one that is being closed.
            .pool_idle_timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("messenger-connector/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            http,
            graph_url: graph_url.trim_end_matches('/').to_owned(),
            host: url.host_str().context("the address of graph has no host")?.into(),
            port: url.port_or_known_default().unwrap_or_default(),
            metrics,
            versions_logged: Mutex::default(),
        })
    }

    /// Address of a page's plain sends, without credentials.
    pub fn messages_url(&self, page: &Page) -> String {
        format!("{}/{}/{}/messages", self.graph_url, page.graph_version, page.id)
    }

    /// Sends the messages in one call: alone as a plain send, together as a batch. The answer holds a verdict
    /// for each of them. `spans` are those that messages among them are traced in.
    pub async fn send(&self, page: &Page, messages: &[&Message], spans: &[&Span]) -> CallAnswer {
        let (endpoint, url, body) = match messages {
            [message] => (MESSAGES, self.messages_url(page), request::body_json(message)),
            _ => {
                let url = format!("{}/{}/", self.graph_url, page.graph_version);
                (BATCH, url, batch::body_json(&page.id, messages))
            }
        };
        let Ok(body) = body else { return refuse_all(messages, &not_built()) };
        let with_media = messages.iter().any(|message| matches!(*message.action, Action::Media { .. }));
        let timeout = if with_media { GRAPH_MEDIA_CALL_TIMEOUT } else { GRAPH_CALL_TIMEOUT };
        let post = self.http.post(url).header(CONTENT_TYPE, "application/json").body(body).timeout(timeout);
        let span = self.span(endpoint, page, messages.len(), spans);
        let answer = match self.call(endpoint, page, post, span).await {
            Ok(answer) => answer,
            Err(failure) => return refuse_all(messages, &failure.refusal()),
        };
        let mut read = if let [message] = messages {
            let verdict = judge(answer.status, &answer.body, &message.action);
            CallAnswer { verdicts: vec![verdict], usage: None }
        } else {
            match batch::judge_entries(&answer.body, messages) {
                Some((verdicts, usage)) => CallAnswer { verdicts, usage },
                None => refuse_all(messages, &judge_call(answer.status, &answer.body)),
            }
        };
        self.note_strangers(page, receipt::compare(messages, &mut read.verdicts));
        CallAnswer { usage: Usage::highest(read.usage, answer.usage), ..read }
    }

    /// Raises the alarm about receipts that name somebody else than their messages.
    fn note_strangers(&self, page: &Page, receipts: usize) {
        if receipts == 0 {
            return;
        }
        self.metrics.receipts_mismatched(receipts);
        tracing::error!(
            page.id = %page.id,
            receipts,
            "graph's answer names other recipients than asked: their messages end unknown"
        );
    }

    /// Asks Graph whose token the page's is.
    ///
    /// # Errors
    /// As a send to the page would fail.
    pub async fn probe(&self, page: &Page) -> Result<ProbedPage, Refusal> {
        let url = format!("{}/{}/{}", self.graph_url, page.graph_version, page.id);
        let get = self.http.get(url).query(&[("fields", "id,name")]).timeout(GRAPH_CALL_TIMEOUT);
        let span = self.span(PAGE, page, 0, &[]);
        let answer = self.call(PAGE, page, get, span).await.map_err(NoAnswer::refusal)?;
        serde_json::from_slice(&answer.body).map_err(|_| judge_call(answer.status, &answer.body))
    }

    fn span(&self, endpoint: Endpoint, page: &Page, messages: usize, of_messages: &[&Span]) -> Span {
        let Endpoint { method, template } = endpoint;
        traces::graph_call_span(method, template, (&self.host, self.port), &page.id, messages, of_messages)
    }

    /// Makes a call with the page's credentials and reads its answer.
    async fn call(
        &self,
        endpoint: Endpoint,
        page: &Page,
        call: reqwest::RequestBuilder,
        span: Span,
    ) -> Result<HttpAnswer, NoAnswer> {
        let began = Instant::now();
        let answer = self.exchange(page, call).instrument(span.clone()).await;
        let result = match &answer {
            Ok(answer) => Ok(answer.status),
            Err(failure) => Err(failure.name()),
        };
        traces::end_graph_call(&span, result);
        let Endpoint { method, template } = endpoint;
        let (host, port, duration) = (&self.host, self.port, began.elapsed());
        self.metrics.graph_call_ended(&GraphCall { method, template, host, port, result, duration });
        answer
    }

    async fn exchange(&self, page: &Page, call: reqwest::RequestBuilder) -> Result<HttpAnswer, NoAnswer> {
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {}", page.access_token.expose_secret()))
                .map_err(|_| NoAnswer::NotBuilt)?;
        authorization.set_sensitive(true);
        let mut call = call.header(AUTHORIZATION, authorization);
        if let Some(proof) = appsecret_proof(page) {
            call = call.query(&[("appsecret_proof", proof)]);
        }
        let mut response = call.send().await.map_err(|error| NoAnswer::of(&error))?;
        self.note_served_version(&page.graph_version, response.headers());
        let usage = usage_of(response.headers());
        let mut body = Vec::with_capacity(response.content_length().unwrap_or(1024).min(256 * 1024) as usize);
        while let Some(chunk) = response.chunk().await.map_err(|error| NoAnswer::of(&error))? {
            if body.len() + chunk.len() > GRAPH_ANSWER_BYTES_MAX {
                return Err(NoAnswer::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpAnswer { status: response.status().as_u16(), body, usage })
    }

    /// Meta serves a retired version with the oldest live one: says so once for each pair.
    fn note_served_version(&self, asked: &str, headers: &HeaderMap) {
        let served = headers.get("facebook-api-version").and_then(|value| value.to_str().ok());
        let Some(served) = served.filter(|served| *served != asked) else {
            return;
        };
        let mut logged = self.versions_logged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if logged.insert((asked.to_owned(), served.to_owned())) {
            tracing::warn!(
                asked,
                served,
                "graph serves another version than asked: set graph_version to a live one"
            );
        }
    }
}

/// HMAC-SHA256 of the access token with the app secret, in hex (Graph's "secure requests" guide).
fn appsecret_proof(page: &Page) -> Option<String> {
    let secret = page.app_secret.as_ref()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).ok()?;
    mac.update(page.access_token.expose_secret().as_bytes());
    Some(hex::encode(mac.finalize().into_bytes()))
}

fn usage_of(headers: &HeaderMap) -> Option<Usage> {
    ["x-business-use-case-usage", "x-app-usage", "x-page-usage"]
        .into_iter()
        .filter_map(|name| Usage::from_header(name, headers.get(name)?.to_str().ok()?))
        .fold(None, |highest, usage| Usage::highest(highest, Some(usage)))
}

impl NoAnswer {
    fn of(error: &reqwest::Error) -> Self {
        if error.is_builder() {
            Self::NotBuilt
        } else if error.is_connect() {
            Self::NotConnected
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Broken
        }
    }

    /// What telemetry calls it.
    fn name(self) -> &'static str {
        match self {
            Self::NotBuilt => "not_built",
            Self::NotConnected => "not_connected",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::TooLong => "too_long",
        }
    }

    /// What it means for the messages. Only a connection that was never made surely sent nothing.
    fn refusal(self) -> Refusal {
        match self {
            Self::NotBuilt => not_built(),
            Self::NotConnected => Refusal {
                error: SendError::new(
                    Reason::GraphUnavailable,
                    "graph could not be reached: no connection was made",
                ),
                disposition: Disposition::Transient,
            },
            Self::Timeout => maybe_sent("graph did not answer in time: the message may have been delivered"),
            Self::Broken => {
                maybe_sent("the connection broke after the message was written: it may have been delivered")
            }
            Self::TooLong => maybe_sent("graph's answer is too long to read"),
        }
    }
}

fn maybe_sent(message: &'static str) -> Refusal {
    Refusal { error: SendError::new(Reason::OutcomeUnknown, message), disposition: Disposition::Unknown }
}

fn not_built() -> Refusal {
    Refusal {
        error: SendError::new(Reason::Internal, "the graph call could not be built: nothing was sent"),
        disposition: Disposition::Later,
    }
}

fn refuse_all(messages: &[&Message], refusal: &Refusal) -> CallAnswer {
    let verdict =
        || Verdict::Refused(Refusal { error: refusal.error.clone(), disposition: refusal.disposition });
    CallAnswer { verdicts: messages.iter().map(|_| verdict()).collect(), usage: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_graph_serves_instead_is_noted_once() {
        let client = Client::new("http://127.0.0.1", Metrics::default()).unwrap();
        let served = |version: &'static str| {
            HeaderMap::from_iter([(
                "facebook-api-version".parse().unwrap(),
                HeaderValue::from_static(version),
            )])
        };
        for version in ["v18.0", "v21.0", "v21.0"] {
            client.note_served_version("v18.0", &served(version));
        }
        client.note_served_version("v18.0", &HeaderMap::new());
        let logged = client.versions_logged.into_inner().unwrap();
        assert_eq!(logged.into_iter().collect::<Vec<_>>(), [("v18.0".to_owned(), "v21.0".to_owned())]);
    }

    #[test]
    fn appsecret_proof_is_the_hmac_that_graph_expects() {
        let page = Page {
            access_token: "12345678".into(),
            app_secret: Some("12345678".into()),
            ..Page::sample("me")
        };
        assert_eq!(
            appsecret_proof(&page).as_deref(),
            Some("e220691b3e23647fc17c4b282bb469ac77fbadb8f5c77898294e42de95add560")
        );
    }
}
