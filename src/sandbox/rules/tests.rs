//! What the tests of the rules are written with, and what belongs to no single rule.

use serde_json::{Value, json};

use super::*;

/// `None` if a send is accepted, else its error's code, subcode and envelope.
pub(super) fn verdict(parameters: &Value) -> Option<(i64, Option<i64>, String)> {
    let error = check_send(parameters.as_object().unwrap()).err()?;
    Some((error.code, error.subcode, error.envelope("")))
}

/// Checks that `parameters` are refused with this code, subcode and part of the text.
#[track_caller]
pub(super) fn refused(parameters: &Value, code: i64, subcode: Option<i64>, text: &str) {
    let Some((seen_code, seen_subcode, envelope)) = verdict(parameters) else {
        panic!("accepted: {parameters}");
    };
    assert_eq!((seen_code, seen_subcode), (code, subcode), "{envelope} for {parameters}");
    let text = serde_json::to_string(text).unwrap();
    assert!(envelope.contains(text.trim_matches('"')), "{envelope} does not say {text}");
}

#[track_caller]
pub(super) fn accepted(parameters: &Value) {
    assert_eq!(verdict(parameters), None, "{parameters}");
}

/// A send of `message`.
pub(super) fn message(message: Value) -> Value {
    json!({"recipient": {"id": "1"}, "message": message})
}

/// A send of a text with one more parameter.
pub(super) fn text_with(key: &str, value: Value) -> Value {
    let mut parameters = json!({"recipient": {"id": "1"}, "message": {"text": "Hi"}});
    parameters[key] = value;
    parameters
}

#[test]
fn media_are_reported() {
    let content = json!({"attachment": {"type": "image", "payload": {"url": "https://a.example", "is_reusable": true}}});
    let outgoing = check_send(message(content).as_object().unwrap()).unwrap();
    let urls = vec!["https://a.example".to_owned()];
    assert_eq!(outgoing.media, Media { urls, attachment_ids: Vec::new(), is_saved: true });
}

#[test]
fn uploads() {
    let upload = |message: Value| check_upload(json!({"message": message}).as_object().unwrap());
    let attachment = |kind: &str, payload: Value| json!({"attachment": {"type": kind, "payload": payload}});
    assert!(
        upload(attachment("file", json!({"url": "http://a.example/f.pdf", "is_reusable": false}))).is_ok()
    );
    for message in [
        json!({}),
        json!({"text": "a"}),
        attachment("template", json!({"url": "http://a.example/f.pdf"})),
        attachment("image", json!({"attachment_id": "9"})),
        attachment("image", json!({"url": "f.pdf"})),
    ] {
        assert_eq!(upload(message.clone()).map_err(|error| error.code), Err(100), "{message}");
    }
}
