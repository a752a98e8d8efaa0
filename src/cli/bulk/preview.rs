//! `bulk --preview N`: the Graph calls of the first rows, made by the service itself; nothing is sent.

use std::process::ExitCode;
use std::time::Duration;

use messenger_connector_client::MessengerClient;
use messenger_connector_client::v1::action::Kind;

use super::plan::Plan;
use crate::cli::unary::{self, Answer, UnaryMessage};
use crate::cli::{failure, print};

/// How long one preview may take.
const PREVIEW_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints the calls of the first `count` rows.
///
/// # Errors
/// If the audience cannot be read.
pub(super) async fn run(
    client: &MessengerClient,
    plan: &Plan,
    kind: &Kind,
    count: usize,
) -> anyhow::Result<ExitCode> {
    let mut is_good = true;
    for row in plan.audience.open()?.take(count) {
        let row = row?;
        let shown = match row.item {
            Err(problem) => Err(problem),
            Ok(item) => {
                let message = UnaryMessage {
                    request_id: String::new(),
                    page_id: plan.start.page_id.clone(),
                    recipient: item.recipient.unwrap_or_default(),
                    options: plan.start.options.clone().unwrap_or_default(),
                    kind: kind.clone(),
                    template_variables: item.variables,
                    validate_only: true,
                    timeout: PREVIEW_TIMEOUT,
                };
                match unary::send(client, message).await {
                    Ok(Answer::Preview(preview)) => Ok(unary::preview_text(&preview)),
                    Ok(Answer::Receipt(_)) => Err("the service has no preview for this message".to_owned()),
                    Err(error) => Err(failure::describe(&error)),
                }
            }
        };
        match shown {
            Ok(text) => print(&format!("line {}: {text}\n", row.line))?,
            Err(problem) => {
                is_good = false;
                eprintln!("line {}: {problem}", row.line);
            }
        }
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
