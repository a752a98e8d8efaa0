//! NDJSON: a JSON object per line. Values keep their types; blank lines are skipped.

use std::io::{BufRead, BufReader};

use anyhow::Context;
use serde_json::{Map, Value};

use super::{Bounded, Columns, RawItem, Row};
use crate::cli::value;

/// What Windows programs put before UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The rows of an NDJSON audience.
pub(in crate::cli::bulk) struct NdjsonRows {
    input: BufReader<Bounded>,
    columns: Columns,
    buffer: Vec<u8>,
    line: u64,
    /// Whether rows without variables are rendered too: decided by the first row.
    is_templated: Option<bool>,
}

impl NdjsonRows {
    pub(super) fn new(input: Bounded, columns: Columns) -> Self {
        let input = BufReader::with_capacity(64 * 1024, input);
        Self { input, columns, buffer: Vec::new(), line: 0, is_templated: None }
    }

    /// How many rows are left.
    pub(super) fn count_rows(mut self) -> anyhow::Result<u64> {
        let mut count = 0;
        while self.read_line()? {
            count += 1;
        }
        Ok(count)
    }

    /// Reads the next line that is not blank.
    fn read_line(&mut self) -> anyhow::Result<bool> {
        loop {
            self.buffer.clear();
            let read = self
                .input
                .read_until(b'\n', &mut self.buffer)
                .with_context(|| format!("cannot read the audience after line {}", self.line))?;
            if read == 0 {
                return Ok(false);
            }
            self.input.get_mut().end_row();
            self.line += 1;
            if self.line == 1 && self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.buffer.drain(..BYTE_ORDER_MARK.len());
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn raw_item(&mut self) -> Result<RawItem, String> {
        let value = serde_json::from_slice(self.buffer.trim_ascii_end()).map_err(|error| {
            // The parser counts lines within the row, which is one line.
            let column = error.column();
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            format!("is not JSON: {text} at column {column}")
        })?;
        let Value::Object(mut object) = value else {
            return Err("is not a JSON object".to_owned());
        };
        let recipient = take_identifier(&mut object, &self.columns.recipient)?
            .ok_or_else(|| format!("{} is missing", self.columns.recipient))?;
        let item_id = take_identifier(&mut object, self.columns.item_id_column())?;
        if let (None, Some(name)) = (&item_id, &self.columns.item_id) {
            return Err(format!("{name} is missing"));
        }
        let is_templated = *self.is_templated.get_or_insert(!object.is_empty());
        let has_variables = is_templated || !object.is_empty();
        let variables = value::to_struct(object).map_err(|error| format!("a variable {error}"))?;
        Ok(RawItem { item_id, recipient, variables: has_variables.then_some(variables) })
    }
}

impl Iterator for NdjsonRows {
    type Item = anyhow::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read_line() {
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

/// Takes an identifier out of a row: a string, or an integer as its digits.
fn take_identifier(object: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match object.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) if number.is_u64() => Ok(Some(number.to_string())),
        Some(Value::Number(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            Err(format!("{name} must be a string or a whole number"))
        }
    }
}
