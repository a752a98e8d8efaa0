//! Meta's rules for one send, written from the Send API reference (state of 2026-11) and nothing
//! else. A rule's error carries the code, subcode and text that recordings of Graph show, where
//! there are any. Where Meta is silent or contradicts itself the request is accepted.
//!
//! * `field`: a value and its place, with the checks all rules are made of
//! * `recipient`, `purpose`, `sender_action`: the top-level parameters
//! * `message`, `quick_reply`, `attachment`: inside `message`
//! * `template`: inside a template's payload, and utility messages

mod attachment;
mod field;
mod message;
mod purpose;
mod quick_reply;
mod recipient;
mod sender_action;
mod template;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::graph_error::GraphError;
pub(crate) use attachment::Media;
use field::Field;
use message::Message;
pub(crate) use recipient::{Recipient, RecipientKind, hint as recipient_hint};

/// A send that obeys the rules, reduced to what its delivery depends on.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) recipient: Recipient,
    /// A message has an id, a sender action has none.
    pub(crate) is_message: bool,
    pub(crate) media: Media,
}

/// The parameters of `/messages`; tokens and proofs are taken out before.
const PARAMETERS: [&str; 9] = [
    "recipient",
    "message",
    "sender_action",
    "messaging_type",
    "tag",
    "notification_type",
    "persona_id",
    "reply_to",
    "payload",
];

/// Checks the parameters of a call to `/messages`.
///
/// # Errors
///
/// The error Graph would answer; the first one found, as Graph names only one.
pub(crate) fn check_send(parameters: &Map<String, Value>) -> Result<Outgoing, GraphError> {
    only_known(parameters, &PARAMETERS)?;
    let recipient = Recipient::read(parameters)?;
    let message = Field::top(parameters, "message");
    let action = Field::top(parameters, "sender_action");
    match (message, action) {
        (Some(_), Some(_)) => Err(GraphError::known(100, Some(2018014))),
        (None, None) => Err(GraphError::known(100, Some(2018015))),
        (None, Some(action)) => {
            sender_action::check(&action, parameters)?;
            Ok(Outgoing { recipient, is_message: false, media: Media::default() })
        }
        (Some(message), None) => {
            if let Some(payload) = Field::top(parameters, "payload") {
                return Err(payload.error("is only for the sender actions react and unreact"));
            }
            let Message { media, template } = message::check(&message)?;
            purpose::check(parameters, &template)?;
            check_extras(parameters)?;
            Ok(Outgoing { recipient, is_message: true, media })
        }
    }
}

/// Checks the parameters of a call to `/message_attachments`.
///
/// # Errors
///
/// The error Graph would answer.
pub(crate) fn check_upload(parameters: &Map<String, Value>) -> Result<Media, GraphError> {
    only_known(parameters, &["message", "platform"])?;
    let Some(message) = Field::top(parameters, "message") else {
        return Err(GraphError::parameter("The parameter message is required"));
    };
    message.members(&["attachment"])?;
    attachment::check_upload(&message.required("attachment")?)
}

fn only_known(parameters: &Map<String, Value>, known: &[&str]) -> field::Verdict {
    match parameters.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => {
            Err(GraphError::parameter(&format!("Invalid parameter: \"{unknown}\" is not known")))
        }
        None => Ok(()),
    }
}

fn check_extras(parameters: &Map<String, Value>) -> field::Verdict {
    if let Some(persona) = Field::top(parameters, "persona_id") {
        persona.text()?;
    }
    if let Some(reply_to) = Field::top(parameters, "reply_to") {
        reply_to.members(&["mid"])?;
        reply_to.required("mid")?.text()?;
    }
    Ok(())
}
