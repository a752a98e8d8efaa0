//! Graph API: the only room that knows Meta's HTTP and JSON.
//!
//! [`client`] makes calls, [`request`] writes bodies, [`batch`] packs many messages into one call, [`response`]
//! reads answers and holds the code table, `lenient` reads one value of them,
//! `receipt` compares them with what was asked, [`usage`] reads the usage headers.

pub mod address;
pub mod batch;
pub mod client;
mod connector;
mod idle;
mod lenient;
mod pool;
mod receipt;
pub mod request;
pub mod response;
pub mod usage;

/// A text for somebody.
#[cfg(test)]
fn sample_message(recipient: crate::message::Recipient) -> crate::message::Message {
    use crate::message::{Action, Extras, Message, Options, Text};

    let text = Text::new("hi".into(), &"text", &mut crate::error::Violations::default()).unwrap();
    let action = Action::Text { text, extras: Extras::default() };
    Message { recipient, options: Options::default().into(), action: action.into() }
}
