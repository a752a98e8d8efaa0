//! Batch calls: up to 50 calls in one, carried out in the order given and answered entry by entry.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use hyper::Method;
use serde_json::{Map, Value};

use super::credential::Credential;
use super::decode;
use super::graph::{self, Call};
use super::graph_error::GraphError;
use super::magic::Fault;
use super::reply::{Disturbance, Reply};
use super::rules;
use super::script::Script;
use super::state::{Shared, count};
use super::target::{Node, Target};
use super::version::GraphVersion;

/// Items in a batch (Meta's guide to batch requests).
const MAX_ITEMS: usize = 50;

/// Answers a batch call. A call that is wrong as a whole gets one plain error.
pub(crate) fn answer(shared: &Shared, script: &Script, mut call: Call) -> Reply {
    let with_headers = decode::flag(call.parameters.get("include_headers"), true);
    let items = graph::authorize(shared, script, &call.credential)
        .and_then(|()| items(call.parameters.shift_remove("batch")));
    let items = match items {
        Ok(items) => items,
        Err(error) => return Reply::error(&error, &shared.ids),
    };
    shared.counters.batch_items.fetch_add(u64::try_from(items.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
    let calls: Vec<Result<Call, GraphError>> =
        items.into_iter().map(|item| read_item(shared, item, &call)).collect();
    if calls.iter().flatten().any(resets_before) {
        return Reply::reset();
    }
    if has_same_recipient(calls.iter().flatten()) {
        count(&shared.counters.same_recipient_batches);
    }
    let mut entries = String::from("[");
    let mut usages = Vec::new();
    let mut disturbance = Disturbance::default();
    for (index, item) in calls.into_iter().enumerate() {
        let version = item.as_ref().map_or(call.version, |item| item.version);
        let mut reply = match item {
            Ok(item) => graph::execute(shared, script, item),
            Err(error) => Reply::error(&error, &shared.ids),
        };
        if index > 0 {
            entries.push(',');
        }
        reply.write_entry(&mut entries, with_headers, version);
        usages.append(&mut reply.usages);
        disturbance = disturbance.and(reply.disturbance);
    }
    entries.push(']');
    Reply { usages, disturbance, ..Reply::json(entries) }
}

/// The items of `batch`, which JSON bodies carry as an array or, like forms, as JSON text.
fn items(batch: Option<Value>) -> Result<Vec<Value>, GraphError> {
    let batch = match batch {
        Some(Value::String(text)) => serde_json::from_str(&text).ok(),
        batch => batch,
    };
    let Some(Value::Array(items)) = batch else {
        return Err(GraphError::parameter("param batch must be an array."));
    };
    if items.is_empty() {
        return Err(GraphError::parameter("param batch must be non-empty."));
    }
    if items.len() > MAX_ITEMS {
        let text = format!("Too many requests in batch message. Maximum batch size is {MAX_ITEMS}");
        return Err(GraphError::known(100, None).bare_text(text).kind("GraphBatchException"));
    }
    Ok(items)
}

const ITEM_MEMBERS: [&str; 7] =
    ["method", "relative_url", "body", "name", "headers", "depends_on", "omit_response_on_success"];

fn read_item(shared: &Shared, item: Value, batch: &Call) -> Result<Call, GraphError> {
    let Value::Object(item) = item else {
        return Err(GraphError::parameter("Items of a batch must be objects"));
    };
    if let Some(unknown) = item.keys().find(|key| !ITEM_MEMBERS.contains(&key.as_str())) {
        return Err(GraphError::parameter(&format!(
            "Invalid parameter: \"{unknown}\" is not known in a batch item"
        )));
    }
    let method = match text(&item, "method")? {
        Some(method) => Method::from_bytes(method.as_bytes())
            .map_err(|_error| GraphError::parameter("Param method must be an HTTP method"))?,
        None => return Err(GraphError::parameter("The parameter method is required")),
    };
    let Some(url) = text(&item, "relative_url")? else {
        return Err(GraphError::parameter("The parameter relative_url is required"));
    };
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let target = Target::parse(path)?;
    let mut query = decode::form(query.as_bytes())?;
    let mut parameters = decode::form(text(&item, "body")?.unwrap_or_default().as_bytes())?;
    let credential = Credential::take(None, &mut query, &mut parameters, Some(&batch.credential))?;
    query.extend(parameters);
    Ok(Call {
        method,
        node: target.node,
        version: version(shared, target.version, batch),
        parameters: query,
        credential,
        in_batch: true,
    })
}

/// An item is served by its own version if it names one, else by the batch's.
fn version(shared: &Shared, own: Option<GraphVersion>, batch: &Call) -> GraphVersion {
    match own {
        Some(version) => graph::serving(shared, Some(version)),
        None => batch.version,
    }
}

fn text<'a>(item: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, GraphError> {
    match item.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(GraphError::parameter(&format!("Param {key} must be a string")))
        }
    }
}

/// Whether two sends of a batch go to one recipient of one page. Graph takes them, but in no order.
fn has_same_recipient<'a>(calls: impl Iterator<Item = &'a Call>) -> bool {
    let mut seen = HashSet::new();
    calls
        .filter_map(|call| match &call.node {
            Node::Messages(page) => Some((page, rules::recipient_hint(&call.parameters)?)),
            Node::Root | Node::Page(_) | Node::Uploads(_) => None,
        })
        .any(|recipient| !seen.insert(recipient))
}

fn resets_before(call: &Call) -> bool {
    let is_send = matches!(call.node, Node::Messages(_));
    let fault = rules::recipient_hint(&call.parameters).and_then(Fault::of_recipient);
    is_send && fault == Some(Fault::ResetBefore)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::options::Options;

    fn batch(items: &[Value]) -> (Shared, Reply) {
        let shared = Shared::new(Options::default());
        let mut parameters = Map::new();
        parameters.insert("batch".to_owned(), json!(items));
        let mut token = Map::new();
        token.insert("access_token".to_owned(), json!("t-1001"));
        let call = Call {
            method: Method::POST,
            node: Node::Root,
            version: "v25.0".parse().unwrap(),
            parameters,
            credential: Credential::take(None, &mut Map::new(), &mut token, None).unwrap(),
            in_batch: false,
        };
        let reply = answer(&shared, &Script::default(), call);
        (shared, reply)
    }

    fn send(recipient: &str) -> Value {
        let body =
            format!("recipient=%7B%22id%22%3A%22{recipient}%22%7D&message=%7B%22text%22%3A%22Hi%22%7D");
        json!({"method": "POST", "relative_url": "me/messages", "body": body})
    }

    fn entries(reply: Reply) -> Vec<Value> {
        serde_json::from_slice(&reply.content.into_bytes()).unwrap()
    }

    #[test]
    fn entries_answer_in_the_order_of_requests() {
        let (shared, reply) = batch(&[
            send("1"),
            send("fail-551"),
            json!({"method": "POST", "relative_url": "me/messages", "body": {"recipient": {}}}),
            json!({"method": "POST", "relative_url": "v25.0/me/feed"}),
            json!({"method": "GET", "relative_url": "v25.0/me?access_token=expired-1"}),
            send("null-in-batch"),
            send("html-502"),
            json!({
                "method": "POST",
                "relative_url": "/1002/messages?access_token=t",
                "body": "sender_action=typing_on&recipient=%7B%22id%22%3A%221%22%7D"
            }),
        ]);
        let entries = entries(reply);
        let codes: Vec<Value> = entries.iter().map(|entry| entry["code"].clone()).collect();
        assert_eq!(json!(codes), json!([200, 400, 400, 400, 400, null, 502, 200]));
        assert!(entries[4]["body"].as_str().unwrap().contains("463"));
        assert_eq!(entries[7]["body"], r#"{"recipient_id":"1"}"#);
        assert_eq!(shared.kept().len(), 4);
        assert_eq!(shared.kept()[0].page_id, "1001");
    }

    #[test]
    fn a_wrong_batch_gets_one_error() {
        let (_shared, reply) = batch(&vec![send("1"); 51]);
        assert_eq!(reply.status, 400);
        assert!(serde_json::from_slice::<Value>(&reply.content.into_bytes()).unwrap()["error"].is_object());
        let (_shared, reply) = batch(&[]);
        assert_eq!(reply.status, 400);
    }

    #[test]
    fn same_recipients_are_noticed() {
        let same = |items: &[Value]| batch(items).0.counters.same_recipient_batches.load(Ordering::Relaxed);
        assert_eq!(same(&[send("1"), send("2"), send("1")]), 1);
        assert_eq!(same(&[send("1"), send("2")]), 0);
    }

    #[test]
    fn reset_before_delivers_nothing_of_the_batch() {
        let (shared, reply) = batch(&[send("1"), send("reset-before.7")]);
        assert!(reply.disturbance.cut.is_some());
        assert!(shared.kept().is_empty());
    }
}
