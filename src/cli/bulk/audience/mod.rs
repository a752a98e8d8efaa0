//! An audience: a file of rows, each a recipient and the variables of its message.

mod bounded;
mod csv_rows;
mod line_counter;
mod ndjson_rows;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use prost_types::Struct;

use bounded::Bounded;
use csv_rows::CsvRows;
use ndjson_rows::NdjsonRows;

use crate::cli::kinds::RecipientKind;
use messenger_connector_client::v1;

/// Column of the item ids, unless it is named otherwise.
const ITEM_ID_COLUMN_DEFAULT: &str = "item_id";

/// How an audience is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Comma-separated values; the first line names the columns
    Csv,
    /// A JSON object per line
    #[value(alias = "jsonl")]
    Ndjson,
}

impl Format {
    /// The format that the file's name tells.
    ///
    /// # Errors
    /// If it tells none.
    pub(super) fn of(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "csv" => Ok(Self::Csv),
            "ndjson" | "jsonl" => Ok(Self::Ndjson),
            _ => bail!("the format of {} is not known: say --format csv or ndjson", path.display()),
        }
    }
}

/// Where the rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// Which columns are what; all others are variables.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) recipient: String,
    pub(super) recipient_kind: RecipientKind,
    /// `None`: `item_id` if there is such a column, else rows are named after their lines.
    pub(super) item_id: Option<String>,
}

/// An audience file, not opened yet.
#[derive(Clone, Debug)]
pub(super) struct Audience {
    pub(super) source: Source,
    pub(super) format: Format,
    pub(super) columns: Columns,
}

/// A row, and the line that it begins on, from 1.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) line: u64,
    /// The item, or what is wrong with the row.
    pub(super) item: Result<v1::BulkItem, String>,
}

/// The rows of an open audience. An error is the end: the file cannot be read on.
pub(super) enum Rows {
    Csv(CsvRows),
    Ndjson(NdjsonRows),
}

impl Audience {
    /// Opens the audience and reads the names of its columns.
    ///
    /// # Errors
    /// If it cannot be read, or its columns cannot be used.
    pub(super) fn open(&self) -> anyhow::Result<Rows> {
        let input: Box<dyn Read + Send> = match &self.source {
            Source::File(path) => {
                let place = || format!("cannot read {}", path.display());
                let file = File::open(path).with_context(place)?;
                if file.metadata().with_context(place)?.is_dir() {
                    bail!("{}: it is a directory", place());
                }
                Box::new(file)
            }
            Source::Stdin => Box::new(std::io::stdin()),
        };
        self.read(input)
    }

    fn read(&self, input: Box<dyn Read + Send>) -> anyhow::Result<Rows> {
        let (input, columns) = (Bounded::new(input), self.columns.clone());
        Ok(match self.format {
            Format::Csv => Rows::Csv(CsvRows::new(input, columns)?),
            Format::Ndjson => Rows::Ndjson(NdjsonRows::new(input, columns)),
        })
    }

    /// How many rows a file has, bad ones included; `None` for standard input, which can be read once only.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn count(&self) -> anyhow::Result<Option<u64>> {
        match self.source {
            Source::Stdin => Ok(None),
            Source::File(_) => match self.open()? {
                Rows::Csv(rows) => rows.count_rows().map(Some),
                Rows::Ndjson(rows) => rows.count_rows().map(Some),
            },
        }
    }
}

impl Iterator for Rows {
    type Item = anyhow::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Csv(rows) => rows.next(),
            Self::Ndjson(rows) => rows.next(),
        }
    }
}

/// What a row says, before it is checked.
#[derive(Debug)]
struct RawItem {
    /// `None` if the row has none and may have none.
    item_id: Option<String>,
    recipient: String,
    variables: Option<Struct>,
}

impl Columns {
    /// The item of a row, or what is wrong with it.
    fn item(&self, line: u64, raw: RawItem) -> Result<v1::BulkItem, String> {
        if raw.recipient.trim().is_empty() {
            return Err(format!("{} is empty", self.recipient));
        }
        let item_id = match raw.item_id {
            None => format!("line-{line}"),
            Some(id) if id.trim().is_empty() => return Err(format!("{} is empty", self.item_id_column())),
            Some(id) => id.trim().to_owned(),
        };
        Ok(v1::BulkItem {
            item_id,
            recipient: Some(self.recipient_kind.recipient(raw.recipient.trim().to_owned())),
            variables: raw.variables,
            ..v1::BulkItem::default()
        })
    }

    fn item_id_column(&self) -> &str {
        self.item_id.as_deref().unwrap_or(ITEM_ID_COLUMN_DEFAULT)
    }
}
