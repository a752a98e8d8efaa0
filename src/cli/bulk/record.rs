//! `bulk results` and `bulk status`: what the service has on record of a bulk.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use super::options::{BulkOptions, ResultsOptions, StatusOptions};
use super::results::Fields;
use crate::cli::{failure, print};
use messenger_connector_client::v1;

/// Results asked for at a time: as many as the service gives.
const PAGE_SIZE: i32 = 1000;
/// Columns of the list.
const COLUMNS: [&str; 9] = [
    "item_id",
    "state",
    "message_id",
    "attempts",
    "reason",
    "graph_code",
    "graph_subcode",
    "retryable",
    "error",
];

/// Lists recorded results, a page at a time.
///
/// # Errors
/// If the service cannot be reached, or the list cannot be written.
pub(super) async fn results(options: ResultsOptions) -> anyhow::Result<ExitCode> {
    let ResultsOptions { bulk: BulkOptions { bulk_id, page_id, connect }, state, output, json } = options;
    let client = connect.client()?;
    let mut request = v1::ListBulkResultsRequest {
        page_id: page_id.unwrap_or_default(),
        bulk_id,
        state: state.map(|state| v1::ItemState::from(state).into()).unwrap_or_default(),
        page_size: PAGE_SIZE,
        page_token: String::new(),
    };
    let mut list = None;
    loop {
        let page = match client.list_bulk_results(request.clone()).await {
            Ok(page) => page,
            Err(error) => return Ok(failure::tell(&error, json)),
        };
        // A question that is refused leaves no file.
        let list = match &mut list {
            Some(list) => list,
            None => list.insert(List::open(output.as_deref(), json)?),
        };
        list.write(&page.results).context("cannot write the list")?;
        if page.next_page_token.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        request.page_token = page.next_page_token;
    }
}

/// Prints the counts and times of a bulk.
///
/// # Errors
/// If the service cannot be reached, or standard output cannot be written.
pub(super) async fn status(options: StatusOptions) -> anyhow::Result<ExitCode> {
    let StatusOptions { bulk: BulkOptions { bulk_id, page_id, connect }, json } = options;
    let request = v1::GetBulkRequest { page_id: page_id.unwrap_or_default(), bulk_id };
    let bulk = match connect.client()?.get_bulk(request).await {
        Ok(bulk) => bulk,
        Err(error) => return Ok(failure::tell(&error, json)),
    };
    let v1::BulkCounts { sent, failed, unknown, .. } = bulk.counts.unwrap_or_default();
    let time = |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    let (create_time, update_time) = (time(bulk.create_time), time(bulk.update_time));
    let v1::Bulk { bulk_id, page_id, in_flight, .. } = bulk;
    if json {
        let status = json!({
            "bulk_id": bulk_id, "page_id": page_id, "sent": sent, "failed": failed, "unknown": unknown,
            "in_flight": in_flight, "create_time": create_time, "update_time": update_time,
        });
        print(&format!("{status:#}\n"))?;
    } else {
        print(&format!(
            "bulk_id: {bulk_id}\npage_id: {page_id}\nsent: {sent}\nfailed: {failed}\nunknown: {unknown}\n\
             in_flight: {in_flight}\ncreate_time: {create_time}\nupdate_time: {update_time}\n"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the list goes, and as what.
enum List {
    Csv(Box<csv::Writer<Box<dyn Write>>>),
    Json(BufWriter<Box<dyn Write>>),
}

impl List {
    fn open(path: Option<&Path>, json: bool) -> anyhow::Result<Self> {
        let output: Box<dyn Write> = match path {
            None => Box::new(std::io::stdout()),
            Some(path) => {
                let file = OpenOptions::new().write(true).create_new(true).open(path);
                Box::new(file.with_context(|| format!("cannot make a new file {}", path.display()))?)
            }
        };
        if json {
            return Ok(Self::Json(BufWriter::new(output)));
        }
        let mut writer = csv::Writer::from_writer(output);
        writer.write_record(COLUMNS)?;
        Ok(Self::Csv(Box::new(writer)))
    }

    /// Writes a page and hands it to the operating system.
    fn write(&mut self, results: &[v1::ItemResult]) -> anyhow::Result<()> {
        match self {
            Self::Csv(writer) => {
                for result in results {
                    let fields = Fields::of(result);
                    writer.write_record([
                        &result.item_id,
                        fields.state,
                        fields.message_id,
                        &fields.attempts,
                        &fields.reason,
                        &fields.graph_code,
                        &fields.graph_subcode,
                        fields.retryable,
                        &fields.error,
                    ])?;
                }
                writer.flush()?;
            }
            Self::Json(writer) => {
                for result in results {
                    writeln!(writer, "{}", as_json(result))?;
                }
                writer.flush()?;
            }
        }
        Ok(())
    }
}

/// The columns as keys; null is what the result does not have.
fn as_json(result: &v1::ItemResult) -> serde_json::Value {
    use v1::item_result::Outcome;

    let (receipt, error) = match &result.outcome {
        Some(Outcome::Receipt(receipt)) => (Some(receipt), None),
        Some(Outcome::Error(error)) => (None, Some(error)),
        None => (None, None),
    };
    let fields = Fields::of(result);
    let graph = error.and_then(|error| error.graph.as_ref());
    json!({
        "item_id": result.item_id,
        "state": fields.state,
        "message_id": receipt.map(|receipt| &receipt.message_id),
        "attempts": receipt.map(|receipt| receipt.attempts),
        "reason": error.map(|_| fields.reason),
        "graph_code": graph.map(|graph| graph.code),
        "graph_subcode": graph.map(|graph| graph.subcode),
        "retryable": error.map(|error| error.retryable),
        "error": error.map(|_| fields.error),
    })
}
