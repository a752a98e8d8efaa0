//! `recipient`: exactly one identifier.

use serde_json::{Map, Value};

use super::field::Field;
use crate::sandbox::graph_error::GraphError;

/// Whom a send goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipient {
    pub(crate) kind: RecipientKind,
    /// The identifier, of whichever kind.
    pub(crate) identifier: String,
}

/// The kinds of identifiers the Send API takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecipientKind {
    /// A page-scoped id.
    Id,
    UserRef,
    PhoneNumber,
    CommentId,
    PostId,
    /// The token of a one-time notification.
    OneTimeToken,
}

const KINDS: [(&str, RecipientKind); 6] = [
    ("id", RecipientKind::Id),
    ("user_ref", RecipientKind::UserRef),
    ("phone_number", RecipientKind::PhoneNumber),
    ("comment_id", RecipientKind::CommentId),
    ("post_id", RecipientKind::PostId),
    ("one_time_notif_token", RecipientKind::OneTimeToken),
];

/// Recurring notifications and legacy marketing messages; both ended on 2026-02-10.
const ENDED_TOKENS: [&str; 2] = ["notification_messages_token", "notification_message_token"];

impl Recipient {
    pub(super) fn read(parameters: &Map<String, Value>) -> Result<Self, GraphError> {
        let Some(recipient) = Field::top(parameters, "recipient") else {
            return Err(GraphError::parameter("The parameter recipient is required"));
        };
        recipient.object()?;
        if let Some(token) = ENDED_TOKENS.iter().find_map(|key| recipient.get(key)) {
            return Err(token.error("is invalid or expired"));
        }
        recipient.members(&[
            "id",
            "user_ref",
            "phone_number",
            "name",
            "comment_id",
            "post_id",
            "one_time_notif_token",
        ])?;
        let mut found = KINDS.iter().filter(|(key, _kind)| recipient.get(key).is_some());
        let Some(&(key, kind)) = found.next() else {
            return Err(recipient.error("must have an identifier, for example id"));
        };
        if found.next().is_some() {
            return Err(recipient.error("must have exactly one identifier"));
        }
        if let Some(name) = recipient.get("name") {
            check_name(&name, kind)?;
        }
        let field = recipient.required(key)?;
        match field.text() {
            Ok(identifier) => Ok(Self { kind, identifier: identifier.to_owned() }),
            Err(_) if kind == RecipientKind::Id => {
                Err(field.error("must be a valid ID string (e.g., \"123\")"))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether this is a private reply, of which Graph allows one per comment or post.
    pub(crate) fn is_private_reply(&self) -> bool {
        matches!(self.kind, RecipientKind::CommentId | RecipientKind::PostId)
    }
}

fn check_name(name: &Field<'_>, kind: RecipientKind) -> super::field::Verdict {
    if kind != RecipientKind::PhoneNumber {
        return Err(name.error("is only for phone_number"));
    }
    name.members(&["first_name", "last_name"])?;
    for key in ["first_name", "last_name"] {
        if let Some(part) = name.get(key) {
            part.string()?;
        }
    }
    Ok(())
}

/// The identifier of a send that has not been checked yet, if it can be found.
pub(crate) fn hint(parameters: &Map<String, Value>) -> Option<&str> {
    let recipient = parameters.get("recipient")?.as_object()?;
    KINDS.iter().find_map(|(key, _kind)| recipient.get(*key)?.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{accepted, refused};

    #[test]
    fn recipients() {
        let to = |recipient: Value| json!({"recipient": recipient, "message": {"text": "Hi"}});
        for recipient in [
            json!({"id": "1254477777772919"}),
            json!({"id": "1", "user_ref": null}),
            json!({"user_ref": "r"}),
            json!({"comment_id": "c"}),
            json!({"post_id": "p"}),
            json!({"one_time_notif_token": "t"}),
            json!({"phone_number": "+1(212)555-2368", "name": {"first_name": "A", "last_name": "B"}}),
        ] {
            accepted(&to(recipient));
        }
        for (recipient, text) in [
            (json!(null), "The parameter recipient is required"),
            (json!("1"), "Param recipient must be an object"),
            (json!({}), "must have an identifier"),
            (json!({"id": ""}), "Param recipient[id] must be a valid ID string (e.g., \"123\")"),
            (json!({"id": 1}), "must be a valid ID string"),
            (json!({"id": "1", "user_ref": "r"}), "exactly one identifier"),
            (json!({"id": "1", "name": {"first_name": "A"}}), "only for phone_number"),
            (json!({"phone": "1"}), "Invalid keys \"phone\" were found in param \"recipient\"."),
            (json!({"notification_messages_token": "t"}), "invalid or expired"),
        ] {
            refused(&to(recipient), 100, None, text);
        }
    }
}
