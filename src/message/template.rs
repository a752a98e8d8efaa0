//! Template payloads: a JSON object with a `template_type`, and for the documented types their required
//! fields and counts (Meta's template pages, 2026). Lengths and values are left to Graph, which truncates some
//! and refuses others; unknown types pass through.

use std::fmt;

use serde_json::{Map, Value};

use super::json::{Json, Object};
use crate::error::Violations;
use crate::limits::{
    BUTTONS_MAX, IMAGE_GRID_IMAGES_MAX, IMAGE_GRID_IMAGES_MIN, RECEIPT_ELEMENTS_MAX, TEMPLATE_ELEMENTS_MAX,
};

/// A checked template payload.
#[derive(Clone)]
pub struct Template {
    json: String,
    kind: String,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Template {
    /// Takes the JSON text of a template payload that keeps the rules, or notes violations of `field`.
    pub fn new(json: String, field: &dyn fmt::Display, violations: &mut Violations) -> Option<Self> {
        let payload = match serde_json::from_str::<Json<'_>>(&json) {
            Ok(Json::Object(payload)) => payload,
            Ok(_) => {
                violations.add(field, r#"must be a JSON object, such as {"template_type": "button", ...}"#);
                return None;
            }
            Err(error) => {
                violations
                    .add(field, format!("is not JSON: line {}, column {}", error.line(), error.column()));
                return None;
            }
        };
        let kind = match payload.text("template_type") {
            Some(kind) if !kind.is_empty() => kind.to_owned(),
            _ => {
                violations
                    .add(format_args!("{field}.template_type"), "is required: a string such as \"generic\"");
                return None;
            }
        };
        let before = violations.len();
        check_kind(&kind, Node { map: &payload, path: field }, violations);
        if violations.len() > before {
            return None;
        }
        // A utility template is Graph's `message.template`, which has no template_type.
        let json = if kind == UTILITY { without_template_type(&json) } else { json };
        Some(Self { json, kind })
    }

    /// The payload as JSON text; for a utility template without its `template_type`.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Its `template_type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// True if it goes into `message.template` instead of `message.attachment`.
    pub fn is_utility(&self) -> bool {
        self.kind == UTILITY
    }
}

const UTILITY: &str = "utility";

fn without_template_type(json: &str) -> String {
    let mut payload: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
    payload.shift_remove("template_type");
    Value::Object(payload).to_string()
}

/// A JSON object and where it stands.
#[derive(Clone, Copy)]
struct Node<'a> {
    map: &'a Object<'a>,
    path: &'a dyn fmt::Display,
}

fn check_kind(kind: &str, payload: Node<'_>, violations: &mut Violations) {
    match kind {
        "generic" => {
            each(payload, "elements", 1, TEMPLATE_ELEMENTS_MAX, violations, |element, violations| {
                generic_element(element, violations);
            })
        }
        "button" => {
            required(payload, &["text"], violations);
            buttons(payload, 1, violations);
        }
        "media" => each(payload, "elements", 1, 1, violations, |element, violations| {
            required(element, &["media_type"], violations);
            one_of(element, "attachment_id", "url", violations);
            buttons(element, 0, violations);
        }),
        "receipt" => receipt(payload, violations),
        "product" => {
            each(payload, "elements", 1, TEMPLATE_ELEMENTS_MAX, violations, |element, violations| {
                required(element, &["id"], violations);
            })
        }
        "coupon" => {
            required(payload, &["title"], violations);
            if !is_given(payload.map.get("coupon_code")) && !is_given(payload.map.get("coupon_url")) {
                violations.add(payload.path, "needs coupon_code or coupon_url");
            }
        }
        "customer_feedback" => customer_feedback(payload, violations),
        "customer_information" => {
            object(payload, "business_privacy", violations, |privacy, violations| {
                required(privacy, &["url"], violations);
            });
        }
        "image_grid" => each(payload, "elements", 1, 1, violations, |element, violations| {
            each(
                element,
                "images",
                IMAGE_GRID_IMAGES_MIN,
                IMAGE_GRID_IMAGES_MAX,
                violations,
                |image, violations| {
                    required(image, &["url"], violations);
                },
            );
            buttons(element, 0, violations);
        }),
        UTILITY => {
            required(payload, &["name"], violations);
            object(payload, "language", violations, |language, violations| {
                required(language, &["code"], violations);
            });
        }
        "one_time_notif_req" => required(payload, &["title", "payload"], violations),
        "instant_form" => required(payload, &["form_id"], violations),
        _ => {}
    }
}

fn generic_element(element: Node<'_>, violations: &mut Violations) {
    required(element, &["title"], violations);
    let others = ["subtitle", "image_url", "default_action", "buttons"];
    if !others.iter().any(|key| is_given(element.map.get(key))) {
        violations.add(element.path, "needs one more of subtitle, image_url, default_action, buttons");
    }
    buttons(element, 0, violations);
}

fn receipt(payload: Node<'_>, violations: &mut Violations) {
    required(payload, &["recipient_name", "order_number", "currency", "payment_method"], violations);
    object(payload, "summary", violations, |summary, violations| {
        required(summary, &["total_cost"], violations);
    });
    if payload.map.get("elements").is_some() {
        each(payload, "elements", 0, RECEIPT_ELEMENTS_MAX, violations, |element, violations| {
            required(element, &["title", "price"], violations);
        });
    }
    if payload.map.get("address").is_some() {
        object(payload, "address", violations, |address, violations| {
            required(address, &["street_1", "city", "postal_code", "state", "country"], violations);
        });
    }
    if payload.map.get("adjustments").is_some() {
        each(payload, "adjustments", 0, usize::MAX, violations, |adjustment, violations| {
            required(adjustment, &["name", "amount"], violations);
        });
    }
}

fn customer_feedback(payload: Node<'_>, violations: &mut Violations) {
    each(payload, "feedback_screens", 1, 1, violations, |screen, violations| {
        each(screen, "questions", 1, 1, violations, |question, violations| {
            required(question, &["id", "type"], violations);
        });
    });
    object(payload, "business_privacy", violations, |privacy, violations| {
        required(privacy, &["url"], violations);
    });
}

/// Buttons: `min` to 3, each with the fields its type needs. A type that is not documented passes.
fn buttons(parent: Node<'_>, min: usize, violations: &mut Violations) {
    if min == 0 && !is_given(parent.map.get("buttons")) {
        return;
    }
    each(parent, "buttons", min, BUTTONS_MAX, violations, |button, violations| {
        match button.map.text("type") {
            None => required(button, &["type"], violations),
            Some("web_url") => required(button, &["title", "url"], violations),
            Some("postback" | "phone_number") => required(button, &["title", "payload"], violations),
            Some("account_link") => required(button, &["url"], violations),
            Some("game_play" | "audio_call") => required(button, &["title"], violations),
            Some(_) => {}
        }
    });
}

/// Null, the empty string and the empty array count as absent, as Graph counts them.
fn is_given(value: Option<&Json<'_>>) -> bool {
    match value {
        None | Some(Json::Null) => false,
        Some(Json::String(text)) => !text.is_empty(),
        Some(Json::Array(items)) => !items.is_empty(),
        Some(Json::Scalar | Json::Object(_)) => true,
    }
}

fn required(node: Node<'_>, keys: &[&str], violations: &mut Violations) {
    for key in keys {
        if !is_given(node.map.get(key)) {
            violations.add(format_args!("{}.{key}", node.path), "is required");
        }
    }
}

fn one_of(node: Node<'_>, first: &str, second: &str, violations: &mut Violations) {
    if is_given(node.map.get(first)) == is_given(node.map.get(second)) {
        violations.add(node.path, format!("needs exactly one of {first} and {second}"));
    }
}

/// Checks the object under `key`, which must be there.
fn object(
    parent: Node<'_>,
    key: &str,
    violations: &mut Violations,
    check: impl FnOnce(Node<'_>, &mut Violations),
) {
    let path = format_args!("{}.{key}", parent.path);
    match parent.map.get(key) {
        Some(Json::Object(map)) => check(Node { map, path: &path }, violations),
        None | Some(Json::Null) => violations.add(path, "is required"),
        Some(_) => violations.add(path, "must be an object"),
    }
}

/// Checks the number of objects in the array under `key`, and each of them.
fn each(
    parent: Node<'_>,
    key: &str,
    min: usize,
    max: usize,
    violations: &mut Violations,
    check: impl Fn(Node<'_>, &mut Violations),
) {
    let path = format_args!("{}.{key}", parent.path);
    let items: &[Json<'_>] = match parent.map.get(key) {
        Some(Json::Array(items)) => items,
        None | Some(Json::Null) => &[],
        Some(_) => {
            violations.add(path, "must be an array");
            return;
        }
    };
    if items.len() < min || items.len() > max {
        let range = if min == max { format!("exactly {min}") } else { format!("{min} to {max}") };
        violations.add(path, format!("must have {range} entries, has {}", items.len()));
    }
    for (index, item) in items.iter().enumerate() {
        let path = format_args!("{path}[{index}]");
        if let Json::Object(map) = item {
            check(Node { map, path: &path }, violations);
        } else {
            violations.add(path, "must be an object");
        }
    }
}
