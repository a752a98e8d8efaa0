//! The Graph API: takes a call apart and hands it to the edge it is for.

use hyper::http::request::Parts;
use hyper::{Method, header};
use serde_json::{Map, Value, json};

use super::batch;
use super::credential::Credential;
use super::decode;
use super::graph_error::GraphError;
use super::reply::{Reply, Usage};
use super::rules;
use super::script::Script;
use super::send;
use super::state::{Shared, count};
use super::target::{Node, Target};
use super::version::GraphVersion;

/// One call of the Graph API: an HTTP request, or an item of a batch.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) node: Node,
    /// The version that serves it.
    pub(crate) version: GraphVersion,
    /// Query and body together, without token and proof.
    pub(crate) parameters: Map<String, Value>,
    pub(crate) credential: Credential,
    pub(crate) in_batch: bool,
}

/// The percentage a live sender's usage header showed.
const QUIET_USAGE_PERCENT: u8 = 1;

/// The version that serves a call which asked for `asked`.
pub(crate) fn serving(shared: &Shared, asked: Option<GraphVersion>) -> GraphVersion {
    shared.options.graph_version.unwrap_or_else(|| GraphVersion::serving(asked))
}

/// Answers an HTTP request; also says which version served it.
pub(crate) fn answer(shared: &Shared, script: &Script, head: &Parts, body: &[u8]) -> (Reply, GraphVersion) {
    let target = match Target::parse(head.uri.path()) {
        Ok(target) => target,
        Err(error) => return (Reply::error(&error, &shared.ids), serving(shared, None)),
    };
    let version = serving(shared, target.version);
    let reply = match read(head, body, target.node, version) {
        Ok(call) => dispatch(shared, script, call),
        Err(error) => Reply::error(&error, &shared.ids),
    };
    (reply, version)
}

fn read(head: &Parts, body: &[u8], node: Node, version: GraphVersion) -> Result<Call, GraphError> {
    let text = |name| head.headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let mut query = decode::form(head.uri.query().unwrap_or_default().as_bytes())?;
    let mut parameters = decode::body(text(header::CONTENT_TYPE), body)?;
    let credential = Credential::take(text(header::AUTHORIZATION), &mut query, &mut parameters, None)?;
    query.extend(parameters);
    Ok(Call { method: head.method.clone(), node, version, parameters: query, credential, in_batch: false })
}

fn dispatch(shared: &Shared, script: &Script, call: Call) -> Reply {
    let takes_batches = matches!(call.node, Node::Root | Node::Page(_));
    if takes_batches && call.method == Method::POST && call.parameters.contains_key("batch") {
        count(&shared.counters.batch_calls);
        return batch::answer(shared, script, call);
    }
    if matches!(call.node, Node::Messages(_)) && call.method == Method::POST {
        count(&shared.counters.plain_calls);
    }
    execute(shared, script, call)
}

/// Carries out one call: of `/messages`, `/message_attachments`, or a probe of the page.
pub(crate) fn execute(shared: &Shared, script: &Script, call: Call) -> Reply {
    let is_post = call.method == Method::POST;
    match &call.node {
        Node::Messages(page) if is_post => {
            let page_id = page_id(page, &call.credential);
            send::answer(shared, script, call, page_id)
        }
        Node::Uploads(page) if is_post => {
            count(&shared.counters.uploads);
            let page_id = page_id(page, &call.credential);
            let reply = upload(shared, script, &call, &page_id)
                .unwrap_or_else(|error| Reply::error(&error, &shared.ids));
            reply.with_usage(usage(script, page_id))
        }
        Node::Page(page) if call.method == Method::GET => {
            count(&shared.counters.probes);
            let page_id = page_id(page, &call.credential);
            let reply = match authorize(shared, script, &call.credential) {
                Ok(()) => Reply::json(json!({"id": page_id, "name": "Sandbox Page"}).to_string()),
                Err(error) => Reply::error(&error, &shared.ids),
            };
            reply.with_usage(usage(script, page_id))
        }
        Node::Root | Node::Page(_) | Node::Messages(_) | Node::Uploads(_) => {
            let verb = call.method.as_str().to_ascii_lowercase();
            let text = format!(
                "Unsupported {verb} request. Object does not exist, cannot be loaded due to \
                 missing permissions, or does not support this operation."
            );
            let error = GraphError::known(100, Some(33)).bare_text(text).kind("GraphMethodException");
            Reply::error(&error, &shared.ids)
        }
    }
}

/// Whether a call's token is good for anything.
pub(crate) fn authorize(shared: &Shared, script: &Script, credential: &Credential) -> Result<(), GraphError> {
    if script.token_invalid {
        return Err(GraphError::known(190, None));
    }
    credential.check(&shared.options)
}

/// The usage of a page that is not throttled.
pub(crate) fn usage(script: &Script, page_id: String) -> Usage {
    Usage { page_id, percent: script.usage_percent.unwrap_or(QUIET_USAGE_PERCENT), regain_minutes: 0 }
}

fn page_id(name: &str, credential: &Credential) -> String {
    if name == "me" { credential.page_id().to_owned() } else { name.to_owned() }
}

fn upload(shared: &Shared, script: &Script, call: &Call, page_id: &str) -> Result<Reply, GraphError> {
    authorize(shared, script, &call.credential)?;
    call.credential.check_sending()?;
    let media = rules::check_upload(&call.parameters)?;
    let page = shared.page(page_id);
    send::fetch(&page, &media)?;
    let id = shared.ids.attachment();
    page.save_attachment(&id);
    Ok(Reply::json(json!({"attachment_id": id}).to_string()))
}
