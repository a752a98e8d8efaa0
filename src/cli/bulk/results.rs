//! The results file: a CSV line per row, written as the results come.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::audience::Source;
use crate::cli::failure;
use messenger_connector_client::v1;

/// State of a row that could not be understood; nothing was sent.
const STATE_INVALID_ROW: &str = "INVALID_ROW";
/// State of a row that was handed to the service, and whose result never came: it may have been sent.
const STATE_NO_RESULT: &str = "NO_RESULT";
/// Columns of the file.
const COLUMNS: [&str; 11] = [
    "line",
    "item_id",
    "state",
    "message_id",
    "attempts",
    "replayed",
    "reason",
    "graph_code",
    "graph_subcode",
    "retryable",
    "error",
];

/// Where the results go.
#[derive(Clone, Debug)]
pub(in crate::cli) struct ResultsFile {
    pub(in crate::cli) path: PathBuf,
    pub(in crate::cli) overwrite: bool,
}

impl ResultsFile {
    /// The file next to the audience, if no other is named.
    pub(super) fn path_for(source: &Source) -> PathBuf {
        match source {
            Source::File(path) => {
                let mut name = path.clone().into_os_string();
                name.push(".results.csv");
                name.into()
            }
            Source::Stdin => "bulk.results.csv".into(),
        }
    }

    /// Checks that the file may be written, before anything is sent.
    ///
    /// # Errors
    /// If it is there already, or is the audience itself.
    pub(super) fn check(&self, source: &Source) -> anyhow::Result<()> {
        let shown = self.path.display();
        if let Source::File(audience) = source
            && let (Ok(audience), Ok(results)) = (audience.canonicalize(), self.path.canonicalize())
        {
            ensure!(audience != results, "--results {shown} is the audience itself: name another file");
        }
        ensure!(
            self.overwrite || !self.path.exists(),
            "results file {shown} exists already: name another with --results, or say --overwrite; to resume a bulk \
             either will do, with the same FILE and message, or its --bulk-id: the new file gets what was sent before from \
             the record"
        );
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        ensure!(folder.is_dir(), "results file {shown}: there is no folder {}", folder.display());
        Ok(())
    }

    /// Opens the file, empty.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn create(&self) -> anyhow::Result<Results> {
        let mut open = OpenOptions::new();
        open.write(true).truncate(true).create(true).create_new(!self.overwrite);
        let place = format!("cannot write results file {}", self.path.display());
        let file = open.open(&self.path).with_context(|| place.clone())?;
        let mut results = Results { writer: csv::Writer::from_writer(file), place };
        results.write(COLUMNS)?;
        results.flush()?;
        Ok(results)
    }
}

/// An open results file.
#[derive(Debug)]
pub(super) struct Results {
    /// Buffers by itself.
    writer: csv::Writer<File>,
    place: String,
}

impl Results {
    /// Writes a result.
    pub(super) fn result(&mut self, line: u64, result: &v1::ItemResult) -> anyhow::Result<()> {
        let fields = Fields::of(result);
        self.write([
            &line.to_string(),
            &result.item_id,
            fields.state,
            fields.message_id,
            &fields.attempts,
            fields.replayed,
            &fields.reason,
            &fields.graph_code,
            &fields.graph_subcode,
            fields.retryable,
            &fields.error,
        ])
    }

    /// Writes a row that was not sent because it cannot be understood.
    pub(super) fn invalid_row(&mut self, line: u64, problem: &str) -> anyhow::Result<()> {
        self.write([&line.to_string(), "", STATE_INVALID_ROW, "", "", "", "", "", "", "", problem])
    }

    /// Writes a row that was handed to the service and has no result.
    pub(super) fn no_result(&mut self, line: u64, item_id: &str) -> anyhow::Result<()> {
        let error = "the stream ended before the result came: it may have been sent";
        self.write([&line.to_string(), item_id, STATE_NO_RESULT, "", "", "", "", "", "", "", error])
    }

    /// Hands everything to the operating system.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.writer.flush().with_context(|| self.place.clone())
    }

    fn write(&mut self, fields: [&str; COLUMNS.len()]) -> anyhow::Result<()> {
        self.writer.write_record(fields).with_context(|| self.place.clone())
    }
}

/// A result in the words of the columns; empty is what it does not have.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) state: &'static str,
    pub(super) message_id: &'a str,
    pub(super) attempts: String,
    replayed: &'static str,
    pub(super) reason: String,
    pub(super) graph_code: String,
    pub(super) graph_subcode: String,
    pub(super) retryable: &'static str,
    pub(super) error: String,
}

impl<'a> Fields<'a> {
    pub(super) fn of(result: &'a v1::ItemResult) -> Self {
        use v1::item_result::Outcome;

        let truth = |is_true: bool| if is_true { "true" } else { "false" };
        let state = result.state().as_str_name().trim_start_matches("ITEM_STATE_");
        match &result.outcome {
            Some(Outcome::Receipt(receipt)) => Self {
                state,
                message_id: &receipt.message_id,
                attempts: receipt.attempts.to_string(),
                replayed: truth(receipt.replayed),
                ..Self::default()
            },
            Some(Outcome::Error(error)) => Self {
                state,
                reason: failure::reason(error),
                graph_code: error.graph.as_ref().map(|graph| graph.code.to_string()).unwrap_or_default(),
                graph_subcode: error
                    .graph
                    .as_ref()
                    .map(|graph| graph.subcode.to_string())
                    .unwrap_or_default(),
                retryable: truth(error.retryable),
                error: error_text(error),
                ..Self::default()
            },
            None => Self { state, ..Self::default() },
        }
    }
}

/// The error's sentence, and every rule that the item breaks unless the sentence names the only one.
fn error_text(error: &v1::SendError) -> String {
    let mut text = error.message.clone();
    if error.violations.len() > 1 {
        for violation in &error.violations {
            text.push_str(&format!("; {} {}", violation.field, violation.description));
        }
    }
    if let Some(graph) = &error.graph
        && !graph.message.is_empty()
        && !text.contains(&graph.message)
    {
        text.push_str(&format!("; graph says: {}", graph.message));
    }
    text
}
