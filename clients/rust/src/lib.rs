//! Sends Facebook Messenger messages through a messenger-connector service, and tells what became of every one.
//!
//! ```no_run
//! use messenger_connector_client::{MessengerClient, MessengerError, Options, v1};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), MessengerError> {
//!     let client = MessengerClient::connect("127.0.0.1:50051", Options::default())?;
//!     let request = v1::SendTextMessageRequest {
//!         recipient: Some(v1::Recipient::id("1254477777772919")),
//!         options: Some(v1::MessagingType::Response.into()),
//!         text: Some("Your order has shipped.".into()),
//!         ..Default::default()
//!     };
//!     match client.send_text_message(request).await {
//!         Ok(response) => println!("{:?}", response.receipt()),
//!         Err(error) if error.reason == v1::ErrorReason::OutsideWindow => println!("too late"),
//!         Err(error) => return Err(error),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! An audience of any length goes through [`MessengerClient::send_bulk`].
//!
//! [`v1`] is the contract, with its manual in the comments; it is generated. Short ways to write its types, such as
//! [`v1::Recipient::id`], are written by hand, like all the rest.

mod backoff;
mod bulk;
mod client;
mod connection;
mod conversions;
mod error;
mod health;

pub use bulk::{BulkEvent, BulkResults, Fate};
pub use client::MessengerClient;
pub use connection::{Options, Tls};
pub use conversions::variables;
pub use error::MessengerError;
/// Sources of bulks, such as [`stream::iter`].
pub use futures_util::stream;
/// The types of Google's that the contract uses.
pub use prost_types;
/// gRPC's status codes.
pub use tonic::Code;

/// The contract, `messenger.v1`.
#[allow(missing_docs, reason = "generated; what the contract comments on has its comment")]
pub mod v1 {
    include!("gen/messenger.v1.rs");
}
