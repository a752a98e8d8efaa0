//! `send`: one message.

mod message;
mod options;

use std::process::ExitCode;

use serde_json::json;

pub use options::Options;

use super::unary::{self, Answer};
use super::{failure, print};
use messenger_connector_client::v1;

/// What `send --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  messenger-connector send text 'Your table is ready' --to 1254477777772919 --messaging-type update

  echo 'Hello {{name}}' | messenger-connector send text - --var name=Ann --to 1254477777772919 \\
      --messaging-type response --quick-reply 'Yes=YES' --quick-reply 'No=NO'

  messenger-connector send media --type image --url https://example.com/cat.png --to 1254477777772919 \\
      --messaging-type response

  messenger-connector send action typing-on --to 1254477777772919

  messenger-connector send template --payload-file receipt.json --vars-file order.json \\
      --to 1254477777772919 --messaging-type update --validate-only

The exit code is 0 if the message was sent (or is valid, with --validate-only), 1 if not, 2 for a wrong option.";

/// Sends the message and prints what became of it.
///
/// # Errors
/// If an option or a file that it names is wrong, or the service cannot be reached.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let (common, message) = options.into_message()?;
    let client = common.connect.client()?;
    let text = match unary::send(&client, message).await {
        Ok(Answer::Receipt(receipt)) => {
            if receipt.replayed && !common.json {
                eprintln!(
                    "sent before with this request_id: nothing was sent now, the receipt is the recorded one"
                );
            }
            if common.json { format!("{:#}\n", receipt_json(&receipt)) } else { receipt_text(&receipt) }
        }
        Ok(Answer::Preview(preview)) if common.json => format!("{:#}\n", preview_json(&preview)),
        Ok(Answer::Preview(preview)) => unary::preview_text(&preview),
        Err(error) => return Ok(failure::tell(&error, common.json)),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The receipt as `key: value` lines; what Graph did not give is left out.
fn receipt_text(receipt: &v1::Receipt) -> String {
    let sent_time = receipt.sent_time.map(|time| time.to_string()).unwrap_or_default();
    let (replayed, attempts) = (receipt.replayed.to_string(), receipt.attempts.to_string());
    [
        ("message_id", &receipt.message_id),
        ("recipient_id", &receipt.recipient_id),
        ("attachment_id", &receipt.attachment_id),
        ("sent_time", &sent_time),
        ("attempts", &attempts),
        ("replayed", &replayed),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(key, value)| format!("{key}: {value}\n"))
    .collect()
}

fn receipt_json(receipt: &v1::Receipt) -> serde_json::Value {
    json!({
        "message_id": receipt.message_id,
        "recipient_id": receipt.recipient_id,
        "attachment_id": receipt.attachment_id,
        "sent_time": receipt.sent_time.map(|time| time.to_string()),
        "attempts": receipt.attempts,
        "replayed": receipt.replayed,
    })
}

fn preview_json(preview: &v1::Preview) -> serde_json::Value {
    let body = serde_json::from_str::<serde_json::Value>(&preview.body_json);
    json!({"url": preview.url, "body": body.unwrap_or_else(|_| preview.body_json.clone().into())})
}
