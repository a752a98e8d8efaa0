//! HTTP calls to Graph. Tells apart what was surely not sent from what may have been.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use serde::Deserialize;
use sha2::Sha256;

use super::response::{Disposition, Refusal, Verdict, judge, judge_call};
use super::usage::Usage;
use super::{batch, request};
use crate::error::{Reason, SendError};
use crate::limits::{
    GRAPH_ANSWER_BYTES_MAX, GRAPH_CALL_TIMEOUT, GRAPH_CONNECT_TIMEOUT, GRAPH_MEDIA_CALL_TIMEOUT,
};
use crate::message::{Action, Message};
use crate::pages::Page;

/// A connection pool to one Graph host.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    graph_url: String,
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
    /// If the system's TLS roots cannot be loaded.
    pub fn new(graph_url: &str) -> anyhow::Result<Self> {
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
            versions_logged: Mutex::default(),
        })
    }

    /// Address of a page's plain sends, without credentials.
    pub fn messages_url(&self, page: &Page) -> String {
        format!("{}/{}/{}/messages", self.graph_url, page.graph_version, page.id)
    }

    /// Sends the messages in one call: alone as a plain send, together as a batch. The answer holds a verdict
    /// for each of them.
    pub async fn send(&self, page: &Page, messages: &[&Message]) -> CallAnswer {
        let (url, body) = match messages {
            [message] => (self.messages_url(page), request::body_json(message)),
            _ => {
                (format!("{}/{}/", self.graph_url, page.graph_version), batch::body_json(&page.id, messages))
            }
        };
        let Ok(body) = body else { return refuse_all(messages, &not_built()) };
        let with_media = messages.iter().any(|message| matches!(*message.action, Action::Media { .. }));
        let timeout = if with_media { GRAPH_MEDIA_CALL_TIMEOUT } else { GRAPH_CALL_TIMEOUT };
        let post = self.http.post(url).header(CONTENT_TYPE, "application/json").body(body).timeout(timeout);
        let answer = match self.call(page, post).await {
            Ok(answer) => answer,
            Err(refusal) => return refuse_all(messages, &refusal),
        };
        if let [message] = messages {
            let verdict = judge(answer.status, &answer.body, &message.action);
            return CallAnswer { verdicts: vec![verdict], usage: answer.usage };
        }
        match batch::judge_entries(&answer.body, messages) {
            Some((verdicts, usage)) => CallAnswer { verdicts, usage: Usage::highest(usage, answer.usage) },
            None => CallAnswer {
                usage: answer.usage,
                ..refuse_all(messages, &judge_call(answer.status, &answer.body))
            },
        }
    }

    /// Asks Graph whose token the page's is.
    ///
    /// # Errors
    /// As a send to the page would fail.
    pub async fn probe(&self, page: &Page) -> Result<ProbedPage, SendError> {
        let url = format!("{}/{}/{}", self.graph_url, page.graph_version, page.id);
        let get = self.http.get(url).query(&[("fields", "id,name")]).timeout(GRAPH_CALL_TIMEOUT);
        let answer = self.call(page, get).await.map_err(|refusal| refusal.error)?;
        serde_json::from_slice(&answer.body).map_err(|_| judge_call(answer.status, &answer.body).error)
    }

    /// Makes a call with the page's credentials and reads its answer.
    async fn call(&self, page: &Page, call: reqwest::RequestBuilder) -> Result<HttpAnswer, Refusal> {
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {}", page.access_token.expose_secret()))
                .map_err(|_| not_built())?;
        authorization.set_sensitive(true);
        let mut call = call.header(AUTHORIZATION, authorization);
        if let Some(proof) = appsecret_proof(page) {
            call = call.query(&[("appsecret_proof", proof)]);
        }
        let mut response = call.send().await.map_err(|error| transport_refusal(&error))?;
        self.note_served_version(&page.graph_version, response.headers());
        let usage = usage_of(response.headers());
        let mut body = Vec::with_capacity(response.content_length().unwrap_or(1024).min(256 * 1024) as usize);
        while let Some(chunk) = response.chunk().await.map_err(|error| transport_refusal(&error))? {
            if body.len() + chunk.len() > GRAPH_ANSWER_BYTES_MAX {
                return Err(maybe_sent("graph's answer is too long to read"));
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

/// What a broken call means. Only a connection that was never made surely sent nothing.
fn transport_refusal(error: &reqwest::Error) -> Refusal {
    if error.is_builder() {
        return not_built();
    }
    if error.is_connect() {
        return Refusal {
            error: SendError::new(
                Reason::GraphUnavailable,
                "graph could not be reached: no connection was made",
            ),
            disposition: Disposition::Transient,
        };
    }
    maybe_sent(if error.is_timeout() {
        "graph did not answer in time: the message may have been delivered"
    } else {
        "the connection broke after the message was written: it may have been delivered"
    })
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
        let client = Client::new("http://127.0.0.1").unwrap();
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
