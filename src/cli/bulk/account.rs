//! Accounts for every row over all streams of a bulk: takes it from the audience, keeps it until its result is final,
//! and writes its one line into the results file.

use tokio::sync::{mpsc, watch};

use super::audience::Row;
use super::progress::Progress;
use super::results::Results;
use super::unsettled::{Fate, Unsettled};
use crate::api::pb;

/// Rows as they are read; an error is the last one.
pub(super) type RowReceiver = mpsc::Receiver<anyhow::Result<Row>>;

#[derive(Debug)]
pub(super) struct Account<'a> {
    pub(super) rows: RowReceiver,
    /// No more rows will be taken.
    pub(super) has_ended: bool,
    pub(super) unsettled: Unsettled,
    /// Rows whose result is final.
    pub(super) settled: u64,
    results: Results,
    progress: &'a watch::Sender<Progress>,
    pub(super) audience_error: Option<anyhow::Error>,
}

impl<'a> Account<'a> {
    pub(super) fn new(rows: RowReceiver, results: Results, progress: &'a watch::Sender<Progress>) -> Self {
        Self {
            rows,
            has_ended: false,
            unsettled: Unsettled::default(),
            settled: 0,
            results,
            progress,
            audience_error: None,
        }
    }

    /// True if every row of the audience has its line.
    pub(super) fn is_complete(&self) -> bool {
        self.has_ended && self.unsettled.len() == 0
    }

    /// Takes no more rows.
    pub(super) fn stop(&mut self) {
        self.has_ended = true;
        self.rows.close();
        self.progress.send_modify(|progress| progress.is_stopping = true);
    }

    /// Takes rows; none means that the audience has ended. A bad row is settled at once. Returns the lines of the
    /// others.
    pub(super) fn take(
        &mut self,
        rows: impl ExactSizeIterator<Item = anyhow::Result<Row>>,
    ) -> anyhow::Result<Vec<u64>> {
        let (mut count, mut lines, mut bad_rows) = (0, Vec::with_capacity(rows.len()), Vec::new());
        self.has_ended = rows.len() == 0;
        for row in rows {
            let Row { line, item } = match row {
                Ok(row) => row,
                Err(error) => {
                    self.audience_error = Some(error);
                    self.has_ended = true;
                    break;
                }
            };
            count += 1;
            match item {
                Ok(item) => {
                    self.unsettled.add(line, item);
                    lines.push(line);
                }
                Err(problem) => {
                    self.results.invalid_row(line, &problem)?;
                    bad_rows.push((line, problem));
                }
            }
        }
        self.settled += bad_rows.len() as u64;
        self.progress.send_modify(|progress| {
            progress.rows += count;
            for (line, problem) in &bad_rows {
                progress.note_bad_row(*line, problem);
            }
        });
        Ok(lines)
    }

    /// Writes a final result. False if no row waits for it: that would be the service's bug, and the row that it
    /// means gets its own.
    pub(super) fn settle(&mut self, result: &pb::ItemResult) -> anyhow::Result<bool> {
        let Some(line) = self.unsettled.settle(&result.item_id) else { return Ok(false) };
        self.write(line, result)?;
        Ok(true)
    }

    /// Hands what was written to the operating system.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.results.flush()
    }

    /// Writes the rows that were taken and will get no result, so that nobody takes them for settled.
    pub(super) fn close(&mut self) -> anyhow::Result<()> {
        for (line, fate) in self.unsettled.give_up() {
            match fate {
                Fate::NotSent(result) => self.write(line, &result)?,
                Fate::InDoubt(item_id) => self.results.no_result(line, &item_id)?,
            }
        }
        self.flush()
    }

    fn write(&mut self, line: u64, result: &pb::ItemResult) -> anyhow::Result<()> {
        self.results.result(line, result)?;
        self.settled += 1;
        self.progress.send_modify(|progress| progress.note_result(result));
        Ok(())
    }
}
