//! Templates through the API: what is rendered, what is literal, and what a mistake is answered with.

use messenger_connector::api::pb;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::json;

use crate::harness::{self, Stack, frame, item, items_frame, send_error, start_frame, text_request, update};

fn value(json: serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(value).collect() })
        }
        serde_json::Value::Object(_) => Kind::StructValue(variables(json)),
    };
    Value { kind: Some(kind) }
}

fn variables(json: serde_json::Value) -> Struct {
    let serde_json::Value::Object(entries) = json else { panic!("{json} is no object") };
    Struct { fields: entries.into_iter().map(|(key, entry)| (key, value(entry))).collect() }
}

/// The body that a request would be sent with, or its violations.
async fn preview(
    stack: &Stack,
    request: pb::SendTextMessageRequest,
) -> Result<serde_json::Value, Vec<String>> {
    let request = pb::SendTextMessageRequest { validate_only: true, ..request };
    match stack.client.clone().send_text_message(request).await.map(tonic::Response::into_inner) {
        Ok(pb::SendTextMessageResponse {
            result: Some(pb::send_text_message_response::Result::Preview(preview)),
        }) => Ok(serde_json::from_str(&preview.body_json).unwrap()),
        Ok(other) => panic!("{other:?}"),
        Err(status) => {
            let violations = send_error(&status).violations.into_iter();
            Err(violations
                .map(|violation| format!("{}: {}", violation.field, violation.description))
                .collect())
        }
    }
}

#[tokio::test]
async fn texts_are_templates_exactly_when_there_are_variables() {
    let stack = harness::start().await;
    let mut request = text_request("7", "Hi {{name}}, {{n}} new on {{day}}{{missing}}");
    let quick_reply = pb::QuickReply {
        content_type: pb::quick_reply::ContentType::Text.into(),
        title: "{{name}}?".into(),
        payload: "p-{{n}}".into(),
        image_url: String::new(),
    };
    request.text.as_mut().unwrap().extras = Some(pb::MessageExtras {
        quick_replies: vec![quick_reply],
        metadata: "order {{n}}".into(),
        ..Default::default()
    });
    let literal = preview(&stack, request.clone()).await.unwrap();
    assert_eq!(literal["message"]["text"], "Hi {{name}}, {{n}} new on {{day}}{{missing}}");
    let day = json!({"$date": 1_749_081_326_718_i64});
    request.template_variables = Some(variables(json!({"name": "\"Ann\" <3", "n": 3, "day": day})));
    let rendered = preview(&stack, request).await.unwrap();
    assert_eq!(
        rendered["message"],
        json!({
            "text": "Hi \"Ann\" <3, 3 new on 2025-06-04T23:55:26.718Z",
            "quick_replies": [{"content_type": "text", "title": "\"Ann\" <3?", "payload": "p-3"}],
            "metadata": "order 3"
        })
    );
}

#[tokio::test]
async fn limits_hold_for_what_is_sent_and_mistakes_name_their_place() {
    let stack = harness::start().await;
    let templated = |text: &str, data: serde_json::Value| pb::SendTextMessageRequest {
        template_variables: Some(variables(data)),
        ..text_request("7", text)
    };
    let long = "x".repeat(2001);
    let table = [
        (
            templated("{{#list}}{{.}}{{/list}}", json!({"list": [long]})),
            "text.text: must not be longer than 2000 characters, has 2001",
        ),
        (templated("{{missing}}", json!({})), "text.text: must not be empty"),
        (templated("a\n  {{#b}}", json!({})), "text.text: is not a template: line 2, column 3: expected"),
        (templated("x", json!({"cart.item": ["a"], "cart.price": [1, 2]})), "template_variables: "),
    ];
    for (request, expected) in table {
        let violations = preview(&stack, request).await.unwrap_err();
        assert!(
            violations.len() == 1 && violations[0].starts_with(expected),
            "{violations:?}\nnot\n{expected}"
        );
    }
    let mut strict = templated("{{name}} {{missing}}", json!({"name": "x"}));
    strict.options = Some(pb::SendOptions { strict_variables: true, ..update() });
    let violations = preview(&stack, strict).await.unwrap_err();
    assert!(violations[0].contains("`missing`"), "{violations:?}");
}

#[tokio::test]
async fn a_value_cannot_change_the_structure_of_a_template_payload() {
    let stack = harness::start().await;
    let content = |content| Some(pb::TemplateMessage { content: Some(content), extras: None });
    let by_text = content(pb::template_message::Content::PayloadJson(
        r#"{"template_type":"button","text":"{{v}}","buttons":[{"type":"postback","title":"{{#s}}{{.}}{{/s}}","payload":"p"}]}"#.into(),
    ));
    let by_structure = content(pb::template_message::Content::Payload(variables(json!({
        "template_type": "button", "text": "{{v}}",
        "buttons": [{"type": "postback", "title": "{{join s on=\"\"}}", "payload": "p"}],
    }))));
    let hostile = r#"","evil":"1\"#;
    for template in [by_text, by_structure] {
        let request = pb::SendTemplateMessageRequest {
            recipient: Some(harness::psid("7")),
            options: Some(update()),
            template,
            template_variables: Some(variables(json!({"v": hostile, "s": ["a", "b"]}))),
            ..Default::default()
        };
        stack.client.clone().send_template_message(request).await.unwrap();
    }
    let payload = json!({
        "template_type": "button", "text": hostile,
        "buttons": [{"type": "postback", "title": "ab", "payload": "p"}],
    });
    for body in stack.bodies().await {
        assert_eq!(body["message"]["attachment"]["payload"], payload);
    }
}

#[tokio::test]
async fn each_item_of_a_bulk_renders_the_starts_action_with_its_own_variables() {
    let stack = harness::start().await;
    let with =
        |item_id: &str, data| pb::BulkItem { variables: Some(variables(data)), ..item(item_id, item_id) };
    let items = vec![
        with("ann", json!({"name": "Ann"})),
        with("bob", json!({"name": "Bob"})),
        with("none", json!({})),
        item("bare", "bare"),
        with("bad", json!({"name": ["a"], "x.a": [1], "x.b": []})),
    ];
    let answer = stack.bulk(vec![start_frame("Hi{{#name}} {{.}}{{/name}}!"), items_frame(items)]).await;
    assert_eq!(answer.summary.unwrap(), pb::BulkCounts { sent: 4, rejected: 1, ..Default::default() });
    let mut texts: Vec<_> = stack
        .bodies()
        .await
        .iter()
        .map(|body| body["message"]["text"].as_str().unwrap().to_owned())
        .collect();
    texts.sort();
    assert_eq!(texts, ["Hi Ann!", "Hi Bob!", "Hi!", "Hi!"]);

    let end = stack.bulk(vec![start_frame("Hi {{name")]).await.end.unwrap();
    let violation = &send_error(&end).violations[0];
    assert_eq!(violation.field, "start.action.text.text");
    assert!(violation.description.starts_with("is not a template: line 1, column "), "{violation:?}");
}

#[tokio::test]
async fn array_variables_become_quick_replies() {
    let stack = harness::start().await;
    let mapping = pb::QuickReplyMapping {
        content_type_variable: "types".into(),
        title_variable: "titles".into(),
        payload_variable: "payloads".into(),
        image_url_variable: String::new(),
    };
    let start = frame(pb::BulkStart {
        action: Some(harness::text_action("Pick")),
        options: Some(update()),
        quick_reply_mapping: Some(mapping),
        ..Default::default()
    });
    let with =
        |item_id: &str, data| pb::BulkItem { variables: Some(variables(data)), ..item(item_id, item_id) };
    let items = vec![
        with("two", json!({"types": ["text", "user_email"], "titles": ["A", ""], "payloads": ["a", ""]})),
        with("none", json!({"other": 1})),
        with("short", json!({"types": ["text", "text"], "titles": ["A"], "payloads": ["a", "b"]})),
        with("scalar", json!({"types": "text"})),
    ];
    let answer = stack.bulk(vec![start, items_frame(items)]).await;
    assert_eq!(answer.summary.unwrap(), pb::BulkCounts { sent: 2, rejected: 2, ..Default::default() });
    let bodies = stack.bodies().await;
    let two = bodies.iter().find(|body| body["recipient"]["id"] == "two").unwrap();
    assert_eq!(
        two["message"]["quick_replies"],
        json!([{"content_type": "text", "title": "A", "payload": "a"}, {"content_type": "user_email"}])
    );
}
