//! The end of a bulk, and what it says to people: what became of the rows, and how to go on.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use messenger_connector_client::{MessengerError, v1};

use super::plan::Plan;
use super::progress::Progress;
use crate::cli::failure;

/// How a bulk ended.
#[derive(Debug)]
pub(in crate::cli) enum End {
    /// The service did not take the start: nothing was sent.
    Refused(MessengerError),
    /// Every row that was taken has its result.
    Complete,
    /// The last stream ended before that, with this error.
    Broken(MessengerError),
}

/// What became of a bulk, beside its counts.
#[derive(Debug)]
pub(in crate::cli) struct Report {
    /// Name of the bulk as the service told it; empty if it was refused.
    pub(in crate::cli) bulk_id: String,
    /// How it ended.
    pub(in crate::cli) end: End,
    /// Why the audience could not be read to its end.
    pub(in crate::cli) audience_error: Option<anyhow::Error>,
}

/// A bulk that has ended, however it did.
#[derive(Debug)]
pub(in crate::cli) struct Finished {
    pub(in crate::cli) report: Report,
    pub(in crate::cli) progress: Progress,
    pub(in crate::cli) elapsed: Duration,
}

impl Finished {
    /// True if every row of the audience was sent.
    pub(in crate::cli) fn is_success(&self) -> bool {
        matches!(self.report.end, End::Complete)
            && self.report.audience_error.is_none()
            && !self.progress.is_stopping
            && self.progress.is_all_sent()
    }

    /// What became of the rows.
    pub(in crate::cli) fn text(&self, results: &Path) -> String {
        let Self { report, progress, elapsed } = self;
        let results = results.display();
        let mut text = String::new();
        if let End::Refused(error) = &report.end {
            return format!(
                "the service did not take the bulk, nothing was sent\n{}\n",
                failure::describe(error)
            );
        }
        // Writing to a string cannot fail.
        if let Some(error) = &report.audience_error {
            let _ = writeln!(text, "the audience could not be read to its end: {error:#}");
        }
        if let End::Broken(error) = &report.end {
            let _ = writeln!(text, "the stream ended early: {}", failure::first_line(error));
        }
        let seconds = elapsed.as_secs_f64();
        let per_second = progress.settled() as f64 / seconds.max(0.001);
        let _ = writeln!(
            text,
            "{} of {} rows in {seconds:.1} s ({per_second:.0}/s): {}",
            progress.settled(),
            progress.total.unwrap_or(progress.rows),
            progress.counts_text()
        );
        let _ = writeln!(text, "bulk: {}, results: {results}", report.bulk_id);
        text
    }

    /// Which rows are not done, and how to go on; empty if all are. `service` is the option that names the service.
    pub(super) fn advice(&self, plan: &Plan, service: &str) -> String {
        if matches!(self.report.end, End::Refused(_)) {
            return String::new();
        }
        let v1::BulkCounts { sent, unknown, not_sent, replayed, .. } = self.progress.counts;
        let (in_flight, left, bulk_id) =
            (self.progress.in_flight(), self.left(), quoted(&self.report.bulk_id));
        let results = plan.results.path.display();
        let mut text = String::new();
        // Writing to a string cannot fail.
        if in_flight > 0 {
            let _ = writeln!(
                text,
                "{in_flight} rows have no result and may have been sent: NO_RESULT in {results} names them"
            );
        }
        let _ = match left {
            Some(0) => Ok(()),
            Some(left) => {
                writeln!(text, "{left} rows were not taken: they are not in {results} and were not sent")
            }
            None => writeln!(text, "rows that are not in {results} were not sent"),
        };
        if in_flight > 0 || not_sent > 0 || left != Some(0) {
            let _ = writeln!(
                text,
                "to go on: the same command with --bulk-id {bulk_id} --overwrite; what is on record is not sent again"
            );
        }
        if plan.is_named_by_content && replayed > 0 && replayed == sent {
            let _ = writeln!(
                text,
                "nothing was sent anew: they had this message from the same FILE before; to send it to them again, name \
                 another bulk with --bulk-id"
            );
        }
        if unknown > 0 {
            let page = match plan.start.page_id.as_str() {
                "" => String::new(),
                page_id => format!(" --page-id {}", quoted(page_id)),
            };
            let _ = writeln!(
                text,
                "to list the {unknown} unknown: messenger-connector bulk results {bulk_id} --state unknown{page}{service}"
            );
        }
        text
    }

    /// Rows that were never taken; `None` if nobody knows how many.
    fn left(&self) -> Option<u64> {
        let ended_early = self.progress.is_stopping
            || self.report.audience_error.is_some()
            || !matches!(self.report.end, End::Complete);
        match self.progress.total {
            Some(total) => Some(total.saturating_sub(self.progress.rows)),
            None if ended_early => None,
            None => Some(0),
        }
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_.:/@%+,".contains(character);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, expected) in [
            ("bulk-17_a.b:c", "bulk-17_a.b:c"),
            ("spring sale", "'spring sale'"),
            ("it's $5", "'it'\\''s $5'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
