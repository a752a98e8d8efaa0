//! HTTP calls to Graph. Tells apart what was surely not sent from what may have been.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http_body_util::Full;
use secrecy::ExposeSecret;
use serde::Deserialize;
use sha2::Sha256;
use tracing::{Instrument, Span};

use super::address::Address;
use super::connector::Connector;
use super::pool::{HttpAnswer, NoAnswer, Pool};
use super::response::{Disposition, Refusal, Verdict, read_call, read_message};
use super::usage::Usage;
use super::{batch, receipt, request};
use crate::error::{Reason, SendError};
use crate::limits::{GRAPH_CALL_TIMEOUT, GRAPH_MEDIA_CALL_TIMEOUT};
use crate::message::{Action, Message};
use crate::pages::Page;
use crate::telemetry::metrics::{GraphCall, Metrics};
use crate::telemetry::traces;

/// Makes calls to one Graph host.
#[derive(Debug)]
pub struct Client {
    pool: Arc<Pool>,
    address: Address,
    host: Arc<str>,
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

/// Why a call brought no answer.
enum Failure {
    NotBuilt,
    NoAnswer(NoAnswer),
}

/// What a call needs beside the page.
struct Call {
    method: Method,
    url: String,
    body: String,
    timeout: Duration,
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
    /// A client for the Graph host at `graph_url`, for example `https://graph.facebook.com`. Besides the authorities that
    /// the system trusts, it trusts those of the PEM file `authorities`.
    ///
    /// # Errors
    /// If the address is not one of [`Address`], or there is no authority to trust.
    pub fn new(graph_url: &str, authorities: Option<&Path>, metrics: Metrics) -> anyhow::Result<Self> {
        let address = Address::parse(graph_url)?;
        Ok(Self {
            pool: Arc::new(Connector::new(&address, authorities)?.into_pool()),
            host: address.host().into(),
            address,
            metrics,
            versions_logged: Mutex::default(),
        })
    }

    /// Address of a page's plain sends, without credentials.
    pub fn messages_url(&self, page: &Page) -> String {
        format!("{}/{}/{}/messages", self.address, page.graph_version, page.id)
    }

    /// Sends the messages in one call: alone as a plain send, together as a batch. The answer holds a verdict
    /// for each of them. `spans` are those that messages among them are traced in.
    pub async fn send(&self, page: &Page, messages: &[&Message], spans: &[&Span]) -> CallAnswer {
        let (endpoint, url, body) = match messages {
            [message] => (MESSAGES, self.messages_url(page), request::body_json(message)),
            _ => {
                let url = format!("{}/{}/", self.address, page.graph_version);
                (BATCH, url, batch::body_json(&page.id, messages))
            }
        };
        let Ok(body) = body else { return refuse_all(messages, &Failure::NotBuilt.refusal()) };
        let with_media = messages.iter().any(|message| matches!(*message.action, Action::Media { .. }));
        let timeout = if with_media { GRAPH_MEDIA_CALL_TIMEOUT } else { GRAPH_CALL_TIMEOUT };
        let call = Call { method: Method::POST, url, body, timeout };
        let span = self.span(endpoint, page, messages.len(), spans);
        let answer = match self.call(endpoint, page, call, span).await {
            Ok(answer) => answer,
            Err(failure) => return refuse_all(messages, &failure.refusal()),
        };
        let usage = usage_of(&answer.headers);
        let mut read = if let [message] = messages {
            let verdict = read_message(answer.status, &answer.body, &message.action);
            CallAnswer { verdicts: vec![verdict], usage: None }
        } else {
            match batch::read_entries(&answer.body, messages) {
                Some((verdicts, usage)) => CallAnswer { verdicts, usage },
                None => refuse_all(messages, &read_call(answer.status, &answer.body)),
            }
        };
        self.note_strangers(page, receipt::compare(messages, &mut read.verdicts));
        CallAnswer { usage: Usage::highest(read.usage, usage), ..read }
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
        let url = format!("{}/{}/{}?fields=id%2Cname", self.address, page.graph_version, page.id);
        let get = Call { method: Method::GET, url, body: String::new(), timeout: GRAPH_CALL_TIMEOUT };
        let span = self.span(PAGE, page, 0, &[]);
        let answer = self.call(PAGE, page, get, span).await.map_err(|failure| failure.refusal())?;
        serde_json::from_slice(&answer.body).map_err(|_| read_call(answer.status, &answer.body))
    }

    fn span(&self, endpoint: Endpoint, page: &Page, messages: usize, of_messages: &[&Span]) -> Span {
        let Endpoint { method, template } = endpoint;
        traces::graph_call_span(
            method,
            template,
            (&self.host, self.address.port()),
            &page.id,
            messages,
            of_messages,
        )
    }

    /// Makes a call with the page's credentials and reads its answer.
    async fn call(
        &self,
        endpoint: Endpoint,
        page: &Page,
        call: Call,
        span: Span,
    ) -> Result<HttpAnswer, Failure> {
        let began = Instant::now();
        let answer = self.exchange(page, call).instrument(span.clone()).await;
        let result = match &answer {
            Ok(answer) => Ok(answer.status),
            Err(failure) => Err(failure.name()),
        };
        traces::end_graph_call(&span, result);
        let Endpoint { method, template } = endpoint;
        let (host, port, duration) = (&self.host, self.address.port(), began.elapsed());
        self.metrics.graph_call_ended(&GraphCall { method, template, host, port, result, duration });
        answer
    }

    async fn exchange(&self, page: &Page, call: Call) -> Result<HttpAnswer, Failure> {
        let timeout = call.timeout;
        let request = request_of(page, call).map_err(|_| Failure::NotBuilt)?;
        let answer = self.pool.exchange(request, timeout).await.map_err(Failure::NoAnswer)?;
        self.note_served_version(&page.graph_version, &answer.headers);
        Ok(answer)
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

/// A call as HTTP, with the page's credentials.
fn request_of(page: &Page, call: Call) -> Result<http::Request<Full<Bytes>>, http::Error> {
    let Call { method, mut url, body, .. } = call;
    if let Some(proof) = appsecret_proof(page) {
        let separator = if url.contains('?') { '&' } else { '?' };
        url = format!("{url}{separator}appsecret_proof={proof}");
    }
    let mut authorization = HeaderValue::try_from(format!("Bearer {}", page.access_token.expose_secret()))?;
    authorization.set_sensitive(true);
    let mut request = http::Request::builder()
        .method(method)
        .uri(url)
        .header(AUTHORIZATION, authorization)
        .header(ACCEPT, "*/*")
        .header(USER_AGENT, concat!("messenger-connector/", env!("CARGO_PKG_VERSION")));
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    request.body(Full::from(body))
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

impl Failure {
    /// What telemetry calls it.
    fn name(&self) -> &'static str {
        match self {
            Self::NotBuilt => "not_built",
            Self::NoAnswer(NoAnswer::NotConnected(_)) => "not_connected",
            Self::NoAnswer(NoAnswer::Timeout) => "timeout",
            Self::NoAnswer(NoAnswer::Broken) => "broken",
            Self::NoAnswer(NoAnswer::TooLong) => "too_long",
        }
    }

    /// What it means for the messages. Only what was never written was surely not sent.
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotBuilt => Refusal {
                error: SendError::new(
                    Reason::Internal,
                    "the graph call could not be built: nothing was sent",
                ),
                disposition: Disposition::Later,
            },
            Self::NoAnswer(NoAnswer::NotConnected(why)) => Refusal {
                error: SendError::new(
                    Reason::GraphUnavailable,
                    format!("graph could not be reached, no connection was made: {why}"),
                ),
                disposition: Disposition::Transient,
            },
            Self::NoAnswer(NoAnswer::Timeout) => {
                maybe_sent("graph did not answer in time: the message may have been delivered")
            }
            Self::NoAnswer(NoAnswer::Broken) => {
                maybe_sent("the connection broke after the message was written: it may have been delivered")
            }
            Self::NoAnswer(NoAnswer::TooLong) => maybe_sent("graph's answer is too long to read"),
        }
    }
}

fn maybe_sent(message: &'static str) -> Refusal {
    Refusal { error: SendError::new(Reason::OutcomeUnknown, message), disposition: Disposition::Unknown }
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
        let client = Client::new("http://127.0.0.1", None, Metrics::default()).unwrap();
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
