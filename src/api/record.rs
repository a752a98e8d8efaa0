//! What is on record of a bulk: its counts, and its results page by page.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::auth::Principal;
use super::{convert, pb, status};
use crate::error::{Reason, SendError, Violations};
use crate::ledger::{Ledger, LedgerError, ResultsQuery, State};
use crate::limits::{RESULTS_PAGE_DEFAULT, RESULTS_PAGE_MAX};
use crate::pages::Pages;

/// Counts of one bulk.
///
/// # Errors
/// If the page or the bulk is not known or not the caller's, or the ledger is away.
pub(super) async fn bulk(
    principal: &Principal,
    pages: &Pages,
    ledger: &Ledger,
    request: pb::GetBulkRequest,
) -> Result<pb::Bulk, SendError> {
    let page = principal.page(pages, &request.page_id)?;
    if request.bulk_id.is_empty() {
        return Err(SendError::violation("bulk_id", "is required"));
    }
    let record = ledger.bulk(&page.id, &request.bulk_id).await.map_err(unavailable)?;
    let record = record.ok_or_else(|| {
        SendError::new(Reason::BulkNotFound, "nothing is on record of a bulk with this bulk_id on this page")
    })?;
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Ok(pb::Bulk {
        bulk_id: request.bulk_id,
        page_id: page.id.clone(),
        counts: Some(pb::BulkCounts {
            sent: count(record.sent),
            failed: count(record.failed),
            unknown: count(record.unknown),
            ..pb::BulkCounts::default()
        }),
        in_flight: count(record.in_flight),
        create_time: Some(convert::timestamp(record.create_time)),
        update_time: Some(convert::timestamp(record.update_time)),
    })
}

/// A page of results.
///
/// # Errors
/// If the page is not known or not the caller's, a field is wrong, or the ledger is away.
pub(super) async fn results(
    principal: &Principal,
    pages: &Pages,
    ledger: &Ledger,
    request: pb::ListBulkResultsRequest,
) -> Result<pb::ListBulkResultsResponse, SendError> {
    let page = principal.page(pages, &request.page_id)?;
    let query = query(request, &page.id)?;
    let found = ledger.results(&query).await.map_err(unavailable)?;
    let last = found.results.last().filter(|_| found.has_more);
    let next_page_token = last.map(|(item_id, _)| URL_SAFE_NO_PAD.encode(item_id)).unwrap_or_default();
    let results = found.results.into_iter().map(|(item_id, outcome)| status::item_result(item_id, outcome));
    Ok(pb::ListBulkResultsResponse { results: results.collect(), next_page_token })
}

fn query(request: pb::ListBulkResultsRequest, page_id: &str) -> Result<ResultsQuery, SendError> {
    let mut violations = Violations::default();
    if request.bulk_id.is_empty() {
        violations.add("bulk_id", "is required");
    }
    let state = match pb::ItemState::try_from(request.state) {
        Ok(pb::ItemState::Unspecified) => None,
        Ok(pb::ItemState::Sent) => Some(State::Sent),
        Ok(pb::ItemState::Failed) => Some(State::Failed),
        Ok(pb::ItemState::Unknown) => Some(State::Unknown),
        Ok(pb::ItemState::Rejected | pb::ItemState::NotSent) | Err(_) => {
            violations.add("state", "must be SENT, FAILED or UNKNOWN: other items leave no record");
            None
        }
    };
    let limit = match u32::try_from(request.page_size) {
        Ok(0) => RESULTS_PAGE_DEFAULT,
        Ok(page_size) => page_size.min(RESULTS_PAGE_MAX),
        Err(_) => {
            violations.add("page_size", "must not be negative");
            RESULTS_PAGE_DEFAULT
        }
    };
    let after = URL_SAFE_NO_PAD.decode(&request.page_token).ok().and_then(|id| String::from_utf8(id).ok());
    let after = after.unwrap_or_else(|| {
        violations.add("page_token", "must be the next_page_token of an earlier answer, or empty");
        String::new()
    });
    if violations.is_empty() {
        Ok(ResultsQuery { page_id: page_id.to_owned(), bulk_id: request.bulk_id, state, after, limit })
    } else {
        Err(violations.into_error())
    }
}

fn unavailable(error: LedgerError) -> SendError {
    SendError::new(Reason::LedgerUnavailable, error.to_string())
}
