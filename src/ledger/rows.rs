//! What the rows mean that both databases return about a bulk.

use super::outcome;
use super::record::{BulkRecord, Key, ResultsPage, State, from_ms};
use super::store::state;
use super::transfer::Record;

/// State as it is now, rows, first claim, last change.
pub(super) type Counts = (i64, i64, i64, i64);

/// Id, state as it is now, time of the last change, outcome.
pub(super) type ResultRow = (String, i64, i64, Option<String>);

/// The record of a bulk; `None` if nothing of it is on record.
pub(super) fn bulk_record(counts: &[Counts]) -> Option<BulkRecord> {
    let count = |wanted: i64| {
        let rows =
            counts.iter().filter(|(state, ..)| *state == wanted).map(|(_, rows, ..)| *rows).sum::<i64>();
        u64::try_from(rows).unwrap_or_default()
    };
    Some(BulkRecord {
        sent: count(state::SENT),
        failed: count(state::FAILED),
        unknown: count(state::UNKNOWN),
        in_flight: count(state::CLAIMED),
        create_time: from_ms(counts.iter().map(|(_, _, first, _)| *first).min()?),
        update_time: from_ms(counts.iter().map(|(_, _, _, last)| *last).max()?),
    })
}

/// A page of results; `rows` has one more than `limit` if there are more.
pub(super) fn results_page(rows: Vec<ResultRow>, limit: u32) -> ResultsPage {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > limit;
    let rows = rows.into_iter().take(limit);
    let results = rows.map(|(id, state, time_ms, json)| {
        (id, outcome::read(State::of_number(state), time_ms, json.as_deref()))
    });
    ResultsPage { results: results.collect(), has_more }
}

/// Page, bulk, id, fingerprint, state, time of the claim, time of the last change, outcome, runs.
pub(super) type RecordRow = (String, String, String, Vec<u8>, i64, i64, i64, Option<String>, Option<Vec<u8>>);

/// A row as it is copied.
pub(super) fn record(row: RecordRow) -> Record {
    let (page_id, bulk_id, id, fingerprint, state, claim_time, update_time, outcome, runs) = row;
    let key = Key { page_id: page_id.into(), bulk_id: bulk_id.into(), id: id.into() };
    Record { key, fingerprint, state, claim_time, update_time, outcome, runs }.settled()
}

/// Page, bulk and id to start after; all of them come after nothing.
pub(super) fn parts(after: Option<&Key>) -> [&str; 3] {
    after.map_or([""; 3], |key| [&key.page_id, &key.bulk_id, &key.id])
}
