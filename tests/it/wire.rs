//! Request bodies that others have written down: each one that the API can express comes out the same.

use messenger_connector::api::pb;
use serde_json::{Map, Value, json};

use crate::harness::{self, Client, send_error};

/// A case: where it is from, and the body.
struct Case {
    source: String,
    body: Value,
}

fn cases(text: &str) -> Vec<Case> {
    let case = |line: &str| {
        let mut case: Value = serde_json::from_str(line).unwrap();
        let body = match case.get_mut("body") {
            Some(body) => body.take(),
            None => case["request"].take(),
        };
        Case { source: case["source"].as_str().unwrap().to_owned(), body }
    };
    text.lines().map(case).collect()
}

/// What the API needs beyond the case: Graph's samples often leave these out.
fn completed(body: &Value) -> Option<Map<String, Value>> {
    let mut body = body.as_object()?.clone();
    body.remove("access_token");
    body.entry("recipient").or_insert_with(|| json!({"id": "1"}));
    if body.contains_key("message") {
        body.entry("messaging_type").or_insert_with(|| json!("UPDATE"));
    }
    Some(body)
}

/// True if `object` has no key but these.
fn only(object: &Map<String, Value>, keys: &[&str]) -> bool {
    object.keys().all(|key| keys.contains(&key.as_str()))
}

fn string(object: &Map<String, Value>, key: &str) -> Option<String> {
    match object.get(key) {
        None => Some(String::new()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => None,
    }
}

fn recipient(recipient: &Map<String, Value>) -> Option<pb::Recipient> {
    use pb::recipient::Identifier;

    let (key, value) = recipient.iter().next()?;
    let identifier = match (key.as_str(), value.as_str()?.to_owned()) {
        ("id", id) => Identifier::Id(id),
        ("user_ref", user_ref) => Identifier::UserRef(user_ref),
        ("comment_id", id) => Identifier::CommentId(id),
        ("post_id", id) => Identifier::PostId(id),
        ("phone_number", phone_number) => {
            let empty = Map::new();
            let name = recipient.get("name").map_or(Some(&empty), Value::as_object)?;
            let (first_name, last_name) = (string(name, "first_name")?, string(name, "last_name")?);
            Identifier::Phone(pb::PhoneRecipient { phone_number, first_name, last_name })
        }
        _ => return None,
    };
    let is_expressible = recipient.len() == 1 || (recipient.len() == 2 && recipient.contains_key("name"));
    is_expressible.then_some(pb::Recipient { identifier: Some(identifier) })
}

fn options(body: &Map<String, Value>) -> Option<pb::SendOptions> {
    let value = |key: &str, prefix: &str| string(body, key).map(|name| format!("{prefix}_{name}"));
    let messaging_type = match body.get("messaging_type") {
        None => pb::MessagingType::Unspecified,
        Some(_) => pb::MessagingType::from_str_name(&value("messaging_type", "MESSAGING_TYPE")?)?,
    };
    let notification_type = match body.get("notification_type") {
        None => pb::NotificationType::Unspecified,
        Some(_) => pb::NotificationType::from_str_name(&value("notification_type", "NOTIFICATION_TYPE")?)?,
    };
    Some(pb::SendOptions {
        messaging_type: messaging_type.into(),
        notification_type: notification_type.into(),
        tag_name: string(body, "tag")?,
        persona_id: string(body, "persona_id")?,
        ..Default::default()
    })
}

fn quick_reply(quick_reply: &Value) -> Option<pb::QuickReply> {
    let object = quick_reply.as_object()?;
    let name = format!("CONTENT_TYPE_{}", object.get("content_type")?.as_str()?.to_uppercase());
    only(object, &["content_type", "title", "payload", "image_url"]).then_some(())?;
    Some(pb::QuickReply {
        content_type: pb::quick_reply::ContentType::from_str_name(&name)?.into(),
        title: string(object, "title")?,
        payload: string(object, "payload")?,
        image_url: string(object, "image_url")?,
    })
}

fn attachment(attachment: &Map<String, Value>, extras: pb::MessageExtras) -> Option<pb::action::Kind> {
    use pb::action::Kind;
    use pb::media_message::{Source, Type};

    let payload = attachment.get("payload")?.as_object()?;
    let media_type = match attachment.get("type")?.as_str()? {
        "template" => {
            let content =
                pb::template_message::Content::PayloadJson(Value::Object(payload.clone()).to_string());
            return Some(Kind::Template(pb::TemplateMessage {
                content: Some(content),
                extras: Some(extras),
            }));
        }
        name => Type::from_str_name(&format!("TYPE_{}", name.to_uppercase()))?,
    };
    only(payload, &["url", "attachment_id", "is_reusable"]).then_some(())?;
    let source = match (payload.get("url"), payload.get("attachment_id")) {
        (Some(url), None) => Source::Url(url.as_str()?.to_owned()),
        (None, Some(id)) => Source::AttachmentId(id.as_str()?.to_owned()),
        _ => return None,
    };
    let is_reusable = payload.get("is_reusable").map_or(Some(None), |value| value.as_bool().map(Some))?;
    let r#type = media_type.into();
    Some(Kind::Media(pb::MediaMessage { r#type, source: Some(source), is_reusable, extras: Some(extras) }))
}

/// The action of a body, or `None` if the API has no way to say it.
fn action(body: &Map<String, Value>) -> Option<pb::action::Kind> {
    use pb::action::Kind;

    if let Some(name) = body.get("sender_action") {
        let name = format!("TYPE_{}", name.as_str()?.to_uppercase());
        let r#type = pb::sender_action::Type::from_str_name(&name)?.into();
        return Some(Kind::SenderAction(pb::SenderAction { r#type }));
    }
    let message = body.get("message")?.as_object()?;
    only(message, &["text", "attachment", "template", "quick_replies", "metadata"]).then_some(())?;
    let quick_replies = message
        .get("quick_replies")
        .map_or(Some(Vec::new()), |list| list.as_array()?.iter().map(quick_reply).collect())?;
    let reply_to =
        body.get("reply_to").map_or(Some(String::new()), |reply_to| string(reply_to.as_object()?, "mid"))?;
    let extras = pb::MessageExtras {
        quick_replies,
        metadata: string(message, "metadata")?,
        reply_to_message_id: reply_to,
        ..Default::default()
    };
    match (message.get("text"), message.get("attachment"), message.get("template")) {
        (Some(Value::String(text)), None, None) => {
            Some(Kind::Text(pb::TextMessage { text: text.clone(), extras: Some(extras) }))
        }
        (None, Some(Value::Object(object)), None) => attachment(object, extras),
        (None, None, Some(Value::Object(template))) => {
            let mut payload = template.clone();
            payload.insert("template_type".to_owned(), json!("utility"));
            let content = pb::template_message::Content::PayloadJson(Value::Object(payload).to_string());
            Some(Kind::Template(pb::TemplateMessage { content: Some(content), extras: Some(extras) }))
        }
        _ => None,
    }
}

/// The preview of a body that the API can express, or why it is refused.
async fn preview(client: &mut Client, body: &Map<String, Value>) -> Option<Result<Value, Vec<String>>> {
    use pb::action::Kind;

    let keys = [
        "recipient",
        "messaging_type",
        "tag",
        "notification_type",
        "persona_id",
        "reply_to",
        "message",
        "sender_action",
    ];
    only(body, &keys).then_some(())?;
    let (recipient, options) = (Some(recipient(body.get("recipient")?.as_object()?)?), Some(options(body)?));
    macro_rules! call {
        ($rpc:ident, $request:ident, $field:ident, $value:expr, $response:ident) => {{
            let request = pb::$request {
                recipient,
                options,
                $field: Some($value),
                validate_only: true,
                ..Default::default()
            };
            client.$rpc(request).await.map(|response| match response.into_inner().result {
                Some(pb::$response::Result::Preview(preview)) => preview.body_json,
                other => panic!("{other:?}"),
            })
        }};
    }
    let answer = match action(body)? {
        Kind::Text(text) => {
            call!(send_text_message, SendTextMessageRequest, text, text, send_text_message_response)
        }
        Kind::Media(media) => {
            call!(send_media_message, SendMediaMessageRequest, media, media, send_media_message_response)
        }
        Kind::SenderAction(action) => {
            call!(
                send_sender_action,
                SendSenderActionRequest,
                sender_action,
                action,
                send_sender_action_response
            )
        }
        Kind::Template(template) => {
            call!(
                send_template_message,
                SendTemplateMessageRequest,
                template,
                template,
                send_template_message_response
            )
        }
    };
    Some(match answer {
        Ok(body) => Ok(serde_json::from_str(&body).unwrap()),
        Err(status) => {
            Err(send_error(&status).violations.into_iter().map(|violation| violation.field).collect())
        }
    })
}

/// Checks the cases; answers how many came out the same, and what was refused: bodies that Graph refuses too, or
/// that hold a placeholder for an address.
async fn check(text: &str) -> (usize, Vec<Value>) {
    let stack = harness::start().await;
    let mut client = stack.client.clone();
    let (mut same, mut refused) = (0, Vec::new());
    for case in cases(text) {
        let Some(body) = completed(&case.body) else { continue };
        match preview(&mut client, &body).await {
            None => {}
            Some(Ok(preview)) => {
                assert_eq!(preview, Value::Object(body), "{}", case.source);
                same += 1;
            }
            Some(Err(fields)) => refused.push(json!({"fields": fields, "body": body})),
        }
    }
    (same, refused)
}

#[tokio::test]
async fn bodies_written_by_others_come_out_the_same() {
    let (same, refused) = check(include_str!("../data/wire_cases.jsonl")).await;
    assert_eq!((same, refused.len()), (38, 13), "{refused:#?}");
}

/// For a set of cases that is not part of the project: `WIRE_CASES=FILE cargo test -- --ignored wire_cases`.
#[tokio::test]
#[ignore = "needs a file of cases in WIRE_CASES"]
#[allow(clippy::disallowed_methods)] // the file is named by whoever runs the test
async fn wire_cases_from_a_file() {
    let path = std::env::var("WIRE_CASES").expect("WIRE_CASES names a file");
    let (same, refused) = check(&std::fs::read_to_string(path).unwrap()).await;
    println!("{same} bodies are the same; refused: {refused:#?}");
}
