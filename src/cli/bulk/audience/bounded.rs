//! A reader that ends a row without end, such as one with a quote that is never closed.

use std::io::{self, Read};

/// Bytes that may be read until a row ends.
const ROW_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Input that gives up if no row ends within `ROW_BYTES_MAX`.
pub(in crate::cli::bulk) struct Bounded {
    input: Box<dyn Read + Send>,
    since_row: usize,
}

impl Bounded {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self { input, since_row: 0 }
    }

    /// A row has ended.
    pub(super) fn end_row(&mut self) {
        self.since_row = 0;
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since_row > ROW_BYTES_MAX {
            return Err(io::Error::other("a row is longer than 8 MiB: is there a quote that is not closed?"));
        }
        let count = self.input.read(buffer)?;
        self.since_row += count;
        Ok(count)
    }
}
