//! `sender_action`: with a recipient and nothing else, or a payload for reactions.

use serde_json::{Map, Value};

use super::field::{Field, Verdict};

pub(super) fn check(action: &Field<'_>, parameters: &Map<String, Value>) -> Verdict {
    for key in ["messaging_type", "tag", "notification_type", "reply_to"] {
        if let Some(other) = Field::top(parameters, key) {
            return Err(other.error("cannot be combined with sender_action"));
        }
    }
    if let Some(persona) = Field::top(parameters, "persona_id") {
        persona.text()?;
    }
    let word = action.one_of(&["typing_on", "typing_off", "mark_seen", "react", "unreact"])?;
    let payload = Field::top(parameters, "payload");
    match (word, payload) {
        ("react", Some(payload)) => {
            payload.members(&["message_id", "reaction"])?;
            payload.required("reaction")?.text()?;
            payload.required("message_id")?.text().map(drop)
        }
        ("unreact", Some(payload)) => {
            payload.members(&["message_id"])?;
            payload.required("message_id")?.text().map(drop)
        }
        ("react" | "unreact", None) => Err(action.error("requires the parameter payload")),
        (_, Some(payload)) => Err(payload.error("is only for the sender actions react and unreact")),
        (_, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{accepted, refused};

    #[test]
    fn sender_actions() {
        let action = |word: &str| json!({"recipient": {"id": "1"}, "sender_action": word});
        let with = |word: &str, key: &str, value: Value| {
            let mut parameters = action(word);
            parameters[key] = value;
            parameters
        };
        for word in ["typing_on", "typing_off", "mark_seen"] {
            accepted(&action(word));
        }
        accepted(&with("react", "payload", json!({"message_id": "m_1", "reaction": "\u{1F44D}"})));
        accepted(&with("unreact", "payload", json!({"message_id": "m_1"})));
        for (parameters, text) in [
            (action("TYPING_ON"), "sender_action must be one of"),
            (action("react"), "requires the parameter payload"),
            (with("react", "payload", json!({"message_id": "m_1"})), "payload[reaction] is required"),
            (with("unreact", "payload", json!({"message_id": "m_1", "reaction": "x"})), "Invalid keys"),
            (with("typing_on", "payload", json!({"message_id": "m_1"})), "only for the sender actions"),
            (with("typing_on", "messaging_type", json!("RESPONSE")), "cannot be combined with sender_action"),
            (with("typing_on", "notification_type", json!("REGULAR")), "cannot be combined"),
        ] {
            refused(&parameters, 100, None, text);
        }
    }
}
