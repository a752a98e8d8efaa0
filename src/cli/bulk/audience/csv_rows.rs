//! CSV: the first line names the columns. Values are strings.

use std::collections::HashSet;

use anyhow::{Context, bail, ensure};
use csv::{ByteRecord, Reader, ReaderBuilder, Trim};
use prost_types::Struct;

use super::line_counter::LineCounter;
use super::{Bounded, Columns, RawItem, Row};
use crate::cli::value;

/// The rows of a CSV audience.
pub(in crate::cli::bulk) struct CsvRows {
    reader: Reader<LineCounter>,
    columns: Columns,
    names: Vec<String>,
    recipient_index: usize,
    item_id_index: Option<usize>,
    record: ByteRecord,
    /// Line that the record begins on.
    line: u64,
}

impl CsvRows {
    /// Reads the names of the columns.
    pub(super) fn new(input: Bounded, columns: Columns) -> anyhow::Result<Self> {
        // Flexible: a row with too few or too many fields is that row's problem, not the file's.
        let mut reader =
            ReaderBuilder::new().flexible(true).trim(Trim::Headers).from_reader(LineCounter::new(input));
        let header = reader.byte_headers().context("cannot read the first line")?.clone();
        let mut names = Vec::with_capacity(header.len());
        for (number, name) in (1..).zip(&header) {
            let name = std::str::from_utf8(name)
                .with_context(|| format!("line 1, column {number}: the name is not UTF-8"))?;
            ensure!(!name.is_empty(), "line 1, column {number} has no name");
            names.push(name.to_owned());
        }
        ensure!(!names.is_empty(), "the audience is empty: its first line must name the columns");
        let mut seen = HashSet::new();
        if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
            bail!("line 1: two columns are named {name}");
        }
        let index_of = |name: &str| names.iter().position(|column| column == name);
        let missing = |name: &str, option: &str| {
            format!("line 1: no column is named {name} but {}: name it with {option}", names.join(", "))
        };
        let recipient_index = index_of(&columns.recipient)
            .with_context(|| missing(&columns.recipient, "--recipient-column"))?;
        let item_id_index = index_of(columns.item_id_column());
        if let Some(name) = &columns.item_id {
            ensure!(item_id_index.is_some(), missing(name, "--item-id-column"));
        }
        Ok(Self {
            reader,
            columns,
            names,
            recipient_index,
            item_id_index,
            record: ByteRecord::new(),
            line: 1,
        })
    }

    /// How many rows are left.
    pub(super) fn count_rows(mut self) -> anyhow::Result<u64> {
        let mut count = 0;
        while self.read_record()? {
            count += 1;
        }
        Ok(count)
    }

    fn read_record(&mut self) -> anyhow::Result<bool> {
        let is_read = self
            .reader
            .read_byte_record(&mut self.record)
            .with_context(|| format!("cannot read the audience after line {}", self.line))?;
        let end = self.reader.position().byte();
        let last_line = self.reader.get_mut().end_row(end);
        let newlines = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count();
        self.line = last_line.saturating_sub(newlines as u64);
        Ok(is_read)
    }

    fn raw_item(&self) -> Result<RawItem, String> {
        if self.record.len() != self.names.len() {
            return Err(format!("has {} fields, not {}", self.record.len(), self.names.len()));
        }
        let mut raw = RawItem { item_id: None, recipient: String::new(), variables: None };
        let mut variables = Struct::default();
        for (index, (name, field)) in self.names.iter().zip(&self.record).enumerate() {
            let text = std::str::from_utf8(field).map_err(|_| format!("{name} is not UTF-8"))?.to_owned();
            if index == self.recipient_index {
                raw.recipient = text;
            } else if Some(index) == self.item_id_index {
                raw.item_id = Some(text);
            } else {
                variables.fields.insert(name.clone(), value::string(text));
            }
        }
        raw.variables = (!variables.fields.is_empty()).then_some(variables);
        Ok(raw)
    }
}

impl Iterator for CsvRows {
    type Item = anyhow::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read_record() {
            Ok(true) => {
                let line = self.line;
                let item = self.raw_item().and_then(|raw| self.columns.item(line, raw));
                Some(Ok(Row { line, item }))
            }
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}
