//! Why a message is sent: `messaging_type`, `tag`, `notification_type`.

use serde_json::{Map, Value};

use super::field::{Field, Verdict};
use super::message::Template;
use crate::sandbox::graph_error::GraphError;

/// Tags that Graph refuses, of 2026-04-27 and of 2020-03-04; with them goes error 100.
const RETIRED_TAGS: [&str; 19] = [
    "CONFIRMED_EVENT_UPDATE",
    "ACCOUNT_UPDATE",
    "POST_PURCHASE_UPDATE",
    "SHIPPING_UPDATE",
    "RESERVATION_UPDATE",
    "ISSUE_RESOLUTION",
    "APPOINTMENT_UPDATE",
    "GAME_EVENT",
    "TRANSPORTATION_UPDATE",
    "FEATURE_FUNCTIONALITY_UPDATE",
    "TICKET_UPDATE",
    "PAYMENT_UPDATE",
    "PERSONAL_FINANCE_UPDATE",
    "APPLICATION_UPDATE",
    "PAIRING_UPDATE",
    "BUSINESS_PRODUCTIVITY",
    "COMMUNITY_ALERT",
    "CONFIRMED_EVENT_REMINDER",
    "NON_PROMOTIONAL_SUBSCRIPTION",
];

/// `messaging_type` may be absent: the reference requires it, yet live calls without it succeed.
pub(super) fn check(parameters: &Map<String, Value>, template: &Template) -> Verdict {
    if let Some(notification) = Field::top(parameters, "notification_type") {
        notification.one_of(&["REGULAR", "SILENT_PUSH", "NO_PUSH"])?;
    }
    let messaging_type = match Field::top(parameters, "messaging_type") {
        Some(field) => Some(field.one_of(&["RESPONSE", "UPDATE", "MESSAGE_TAG", "UTILITY"])?),
        None => None,
    };
    match Field::top(parameters, "tag") {
        Some(tag) if matches!(messaging_type, None | Some("MESSAGE_TAG")) => check_tag(&tag, template)?,
        Some(tag) => return Err(tag.error("requires messaging_type MESSAGE_TAG")),
        None if messaging_type == Some("MESSAGE_TAG") => {
            return Err(GraphError::parameter(
                "The parameter tag is required for messaging_type MESSAGE_TAG",
            ));
        }
        None => {}
    }
    match (template, messaging_type) {
        (Template::Utility, None | Some("UTILITY")) => Ok(()),
        (Template::Utility, Some(_)) => {
            Err(GraphError::parameter("Param message[template] requires messaging_type UTILITY"))
        }
        (Template::None | Template::Attached(_), Some("UTILITY")) => {
            Err(GraphError::parameter("messaging_type UTILITY requires param message[template]"))
        }
        (Template::None | Template::Attached(_), _) => Ok(()),
    }
}

fn check_tag(tag: &Field<'_>, template: &Template) -> Verdict {
    match tag.string()? {
        "HUMAN_AGENT" => Ok(()),
        "CUSTOMER_FEEDBACK" => match template {
            Template::Attached(template_type) if template_type == "customer_feedback" => Ok(()),
            Template::Attached(_) | Template::Utility | Template::None => {
                Err(tag.error("CUSTOMER_FEEDBACK requires the customer_feedback template"))
            }
        },
        retired if RETIRED_TAGS.contains(&retired) => Err(GraphError::known(100, None)),
        _ => Err(GraphError::parameter("Invalid tag.")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{accepted, refused, text_with};

    #[test]
    fn purposes() {
        for (key, value) in [
            ("messaging_type", json!("RESPONSE")),
            ("messaging_type", json!("UPDATE")),
            ("notification_type", json!("SILENT_PUSH")),
            ("persona_id", json!("7")),
            ("reply_to", json!({"mid": "m_1"})),
            ("tag", json!("HUMAN_AGENT")),
        ] {
            accepted(&text_with(key, value));
        }
        for (key, value, text) in [
            ("messaging_type", json!("MESSAGE_TAG"), "The parameter tag is required"),
            ("messaging_type", json!("response"), "must be one of {RESPONSE, UPDATE, MESSAGE_TAG, UTILITY}"),
            ("messaging_type", json!("UTILITY"), "requires param message[template]"),
            ("notification_type", json!("LOUD"), "notification_type must be one of"),
            ("persona_id", json!(7), "persona_id must be a non-empty"),
            ("reply_to", json!({"message_id": "m_1"}), "Invalid keys"),
            ("reply_to", json!({}), "The parameter reply_to[mid] is required"),
            ("tag", json!("CONFIRMED_EVENT_UPDATE"), "(#100) Invalid parameter"),
            ("tag", json!("SHIPPING_UPDATE"), "(#100) Invalid parameter"),
            ("tag", json!("BIRTHDAY"), "(#100) Invalid tag."),
            ("tag", json!("CUSTOMER_FEEDBACK"), "requires the customer_feedback template"),
            ("payload", json!({}), "only for the sender actions"),
            ("messages", json!({}), "\"messages\" is not known"),
        ] {
            refused(&text_with(key, value), 100, None, text);
        }
        let tagged = |messaging_type: &str| {
            let mut parameters = text_with("tag", json!("HUMAN_AGENT"));
            parameters["messaging_type"] = json!(messaging_type);
            parameters
        };
        accepted(&tagged("MESSAGE_TAG"));
        refused(&tagged("UPDATE"), 100, None, "requires messaging_type MESSAGE_TAG");
    }
}
