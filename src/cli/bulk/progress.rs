//! How far a bulk has come: what its stream tells to whoever shows it.

use messenger_connector_client::v1;

/// Bad rows that are told one by one; the rest is counted.
pub(super) const BAD_ROWS_SHOWN_MAX: usize = 20;

/// How far a bulk has come.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Progress {
    /// Name of the bulk, once the service has told it.
    pub(in crate::cli) bulk_id: String,
    /// Rows of the audience, bad ones included, once they are counted.
    pub(in crate::cli) total: Option<u64>,
    /// Rows taken so far, bad ones included.
    pub(in crate::cli) rows: u64,
    /// Results so far.
    pub(in crate::cli) counts: v1::BulkCounts,
    /// Rows that could not be understood and were not sent.
    pub(in crate::cli) bad_rows: u64,
    /// The first of them: line and problem.
    pub(in crate::cli) bad_rows_first: Vec<(u64, String)>,
    /// No more rows are taken, because somebody asked to stop.
    pub(in crate::cli) is_stopping: bool,
    /// There is no stream at the moment, for this reason; a new one is tried for.
    pub(in crate::cli) reconnecting: Option<String>,
}

impl Progress {
    /// Rows whose fate is known.
    pub(in crate::cli) fn settled(&self) -> u64 {
        let v1::BulkCounts { sent, rejected, failed, unknown, not_sent, replayed: _ } = self.counts;
        self.bad_rows + u64::try_from(sent + rejected + failed + unknown + not_sent).unwrap_or_default()
    }

    /// Rows that are with the service.
    pub(in crate::cli) fn in_flight(&self) -> u64 {
        self.rows.saturating_sub(self.settled())
    }

    /// True if every row that was taken has been sent.
    pub(in crate::cli) fn is_all_sent(&self) -> bool {
        u64::try_from(self.counts.sent) == Ok(self.rows)
    }

    /// The counts in words. Zeros are left out, except for what was sent.
    pub(in crate::cli) fn counts_text(&self) -> String {
        let v1::BulkCounts { sent, rejected, failed, unknown, not_sent, replayed } = self.counts;
        let bad_rows = i64::try_from(self.bad_rows).unwrap_or(i64::MAX);
        let others = [
            (replayed, "of them from the record"),
            (rejected, "rejected"),
            (failed, "failed"),
            (unknown, "unknown"),
            (not_sent, "not sent"),
            (bad_rows, if bad_rows == 1 { "bad row" } else { "bad rows" }),
        ];
        let mut text = format!("{sent} sent");
        for (count, name) in others {
            if count > 0 {
                text.push_str(&format!(", {count} {name}"));
            }
        }
        text
    }

    /// Notes a row that cannot be sent.
    pub(super) fn note_bad_row(&mut self, line: u64, problem: &str) {
        self.bad_rows += 1;
        if self.bad_rows_first.len() < BAD_ROWS_SHOWN_MAX {
            self.bad_rows_first.push((line, problem.to_owned()));
        }
    }

    /// Counts a result.
    pub(super) fn note_result(&mut self, result: &v1::ItemResult) {
        let counts = &mut self.counts;
        let count = match result.state() {
            v1::ItemState::Sent => &mut counts.sent,
            v1::ItemState::Rejected => &mut counts.rejected,
            v1::ItemState::Failed => &mut counts.failed,
            // A state that this client does not know cannot be said to be sent.
            v1::ItemState::Unknown | v1::ItemState::Unspecified => &mut counts.unknown,
            v1::ItemState::NotSent => &mut counts.not_sent,
        };
        *count += 1;
        if let Some(v1::item_result::Outcome::Receipt(receipt)) = &result.outcome
            && receipt.replayed
        {
            counts.replayed += 1;
        }
    }
}
