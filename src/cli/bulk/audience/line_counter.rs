//! Lines of CSV rows. The CSV library's own count is that of the line before, if lines end with CRLF or are blank.

use std::collections::VecDeque;
use std::io::{self, Read};

use super::Bounded;

/// Input that knows on which line a byte is.
pub(super) struct LineCounter {
    input: Bounded,
    /// Bytes read so far.
    offset: u64,
    /// Offsets of the newlines that were read and not asked about yet.
    newlines: VecDeque<u64>,
    /// Newlines before these.
    passed: u64,
}

impl LineCounter {
    pub(super) fn new(input: Bounded) -> Self {
        Self { input, offset: 0, newlines: VecDeque::new(), passed: 0 }
    }

    /// A row has ended before the byte at `end`, its terminator or the first byte of it included. Returns the
    /// row's last line.
    pub(super) fn end_row(&mut self, end: u64) -> u64 {
        self.input.end_row();
        let passed = self.newlines.partition_point(|newline| newline + 1 < end);
        self.newlines.drain(..passed);
        self.passed += passed as u64;
        self.passed + 1
    }
}

impl Read for LineCounter {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let offsets = (self.offset..).zip(buffer.iter().take(count));
        self.newlines.extend(offsets.filter(|(_, byte)| **byte == b'\n').map(|(offset, _)| offset));
        self.offset += count as u64;
        Ok(count)
    }
}
