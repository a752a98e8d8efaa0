//! What the tests of the templates are written with, and the types without a file of their own.

use serde_json::{Value, json};

use super::super::tests::{accepted, refused};

/// A send of a template with this payload.
pub(super) fn template(payload: Value) -> Value {
    json!({"recipient": {"id": "1"}, "message": {"attachment": {"type": "template", "payload": payload}}})
}

/// A send of `payload` with `changes` made to it; `null` removes.
pub(super) fn changed(payload: &Value, changes: &Value) -> Value {
    let mut payload = payload.clone();
    for (key, value) in changes.as_object().unwrap() {
        payload[key] = value.clone();
    }
    template(payload)
}

#[test]
fn other_types() {
    accepted(&template(json!({"template_type": "one_time_notif_req", "title": "Tell me", "payload": "P"})));
    accepted(&template(
        json!({"template_type": "airline_checkin", "intro_message": "Check in", "checkin_url": "x"}),
    ));
    accepted(&template(json!({"template_type": "instant_form", "form_id": "1"})));
    refused(
        &template(json!({"template_type": "one_time_notif_req", "title": "a".repeat(66), "payload": "P"})),
        100,
        None,
        "65",
    );
    refused(&template(json!({"template_type": "list", "elements": []})), 100, None, "no longer exists");
    refused(&template(json!({"elements": []})), 100, None, "name_placeholder[template_type] is required");
}
