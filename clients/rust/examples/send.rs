//! Sends one text through the service at 127.0.0.1:50051.
//!
//!     cargo run --example send

use messenger_connector_client::{MessengerClient, MessengerError, Options, v1};

#[tokio::main]
async fn main() -> Result<(), MessengerError> {
    let client = MessengerClient::connect("127.0.0.1:50051", Options::default())?;
    let request = v1::SendTextMessageRequest {
        recipient: Some(v1::Recipient::id("1254477777772919")),
        options: Some(v1::MessagingType::Response.into()),
        text: Some("Your order has shipped.".into()),
        ..Default::default()
    };
    match client.send_text_message(request).await {
        Ok(response) => println!("{:#?}", response.receipt()),
        Err(error) if error.reason == v1::ErrorReason::OutsideWindow => println!("too late: {error}"),
        Err(error) => return Err(error),
    }
    Ok(())
}
