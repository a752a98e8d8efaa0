//! Sends a text to every row of a CSV file with the columns recipient and first_name, through the service at
//! 127.0.0.1:50051. Run again, it sends to no one twice.
//!
//!     cargo run --example audience audience.csv

use std::collections::BTreeMap;
use std::error::Error;

use messenger_connector_client::{MessengerClient, Options, stream, v1, variables};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: audience FILE.csv")?;
    let mut rows = csv::Reader::from_path(path)?.into_deserialize::<(String, String)>();
    let mut bad_row = None;
    // Read row by row: the file may be larger than memory.
    let items = std::iter::from_fn(|| match rows.next()? {
        Ok((recipient, first_name)) => Some(v1::BulkItem {
            item_id: recipient.clone(),
            recipient: Some(v1::Recipient::id(recipient)),
            variables: Some(variables([("first_name", first_name)])),
            ..Default::default()
        }),
        Err(error) => {
            bad_row = Some(error);
            None
        }
    });

    let start = v1::BulkStart {
        bulk_id: "spring-sale".to_owned(),
        action: Some(v1::TextMessage::from("Hello {{first_name}}, the sale has begun.").into()),
        options: Some(v1::MessagingType::Update.into()),
        ..Default::default()
    };
    let client = MessengerClient::connect("127.0.0.1:50051", Options::default())?;
    let mut counts = BTreeMap::new();
    let mut results = client.send_bulk(start, stream::iter(items));
    while let Some(result) = results.next().await {
        let result = result?;
        *counts.entry(result.state().as_str_name()).or_insert(0) += 1;
        if let Some(error) = result.error() {
            println!("{}: {}: {}", result.item_id, error.reason().as_str_name(), error.message);
        }
    }
    drop(results);
    println!("{counts:?}");
    bad_row.map_or(Ok(()), |error| Err(error.into()))
}
