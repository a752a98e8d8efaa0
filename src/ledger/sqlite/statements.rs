//! The SQL that SQLite gets. A group of rows comes as JSON from `super::json`, by whose keys the table is sought: upserts
//! and `IN` with all three key columns do so, whereas an `UPDATE … FROM json_each` scans the table.

/// A statement over `item`s, each of which shares a `head` with others. The `jsonb` functions spare SQLite turning
/// the inner JSON into text and back.
macro_rules! over_rows {
    ($statement:literal) => {
        concat!(
            "WITH head AS MATERIALIZED (
                SELECT value->'$[0]'->>0 AS page_id, value->'$[0]'->>1 AS bulk_id, value->'$[0]'->>2 AS claim,
                    value->'$[0]'->>3 AS state, value->'$[0]'->>4 AS time, jsonb_extract(value, '$[1]') AS items
                FROM jsonb_each(?1)) ",
            $statement
        )
    };
}

/// Rows `page_id, bulk_id` → fingerprint; the claim's number, its time.
pub(super) const CLAIM: &str = over_rows!(
    "INSERT OR FAIL INTO ledger_message (page_id, bulk_id, id, fingerprint, state, claim, claim_time, update_time)
    SELECT page_id, bulk_id, item.key, unhex(item.value), 0, ?2, ?3, ?3
    FROM head CROSS JOIN json_each(head.items) AS item
    WHERE true
    ON CONFLICT DO NOTHING"
);

/// Rows `page_id, bulk_id` → ordinal.
pub(super) const FIND: &str = over_rows!(
    "SELECT item.value, message.state, message.claim, fingerprint, update_time, outcome
    FROM head CROSS JOIN json_each(head.items) AS item CROSS JOIN ledger_message AS message
    WHERE message.page_id = head.page_id AND message.bulk_id = head.bulk_id AND message.id = item.key"
);

/// Rows `page_id, bulk_id` → ordinal; the claim's number, its time. The rows exist.
pub(super) const RECLAIM: &str = over_rows!(
    "INSERT OR FAIL INTO ledger_message (page_id, bulk_id, id, fingerprint, state, claim, claim_time, update_time)
    SELECT page_id, bulk_id, item.key, x'', 4, ?2, ?3, ?3
    FROM head CROSS JOIN json_each(head.items) AS item
    WHERE true
    ON CONFLICT DO UPDATE SET state = excluded.state, claim = excluded.claim, claim_time = excluded.claim_time,
        update_time = excluded.update_time"
);

/// Rows `page_id, bulk_id, claim, state, time` → outcome. The rows exist: nothing removes one that is claimed.
pub(super) const RECORD: &str = over_rows!(
    "INSERT OR FAIL INTO ledger_message
        (page_id, bulk_id, id, fingerprint, state, claim, claim_time, update_time, outcome)
    SELECT page_id, bulk_id, item.key, x'', head.state, head.claim, head.time, head.time, item.value
    FROM head CROSS JOIN json_each(head.items) AS item
    WHERE true
    ON CONFLICT DO UPDATE SET state = excluded.state, update_time = excluded.update_time, outcome = excluded.outcome
    WHERE ledger_message.claim = excluded.claim AND ledger_message.state IN (0, 4)"
);

/// Rows `page_id, bulk_id, claim` → anything.
pub(super) const RELEASE_CLAIMED: &str = over_rows!(
    "DELETE FROM ledger_message WHERE (page_id, bulk_id, id) IN (
        SELECT message.page_id, message.bulk_id, message.id
        FROM head CROSS JOIN json_each(head.items) AS item CROSS JOIN ledger_message AS message
        WHERE message.page_id = head.page_id AND message.bulk_id = head.bulk_id AND message.id = item.key
            AND message.claim = head.claim AND message.state = 0)"
);

/// Rows as in [`RELEASE_CLAIMED`].
pub(super) const RELEASE_RECLAIMED: &str = over_rows!(
    "UPDATE ledger_message SET state = 3 WHERE (page_id, bulk_id, id) IN (
        SELECT message.page_id, message.bulk_id, message.id
        FROM head CROSS JOIN json_each(head.items) AS item CROSS JOIN ledger_message AS message
        WHERE message.page_id = head.page_id AND message.bulk_id = head.bulk_id AND message.id = item.key
            AND message.claim = head.claim AND message.state = 4)"
);

/// `page_id, bulk_id`, the owner's first claim.
pub(super) const BULK: &str = "
    SELECT CASE WHEN state NOT IN (0, 4) THEN state WHEN claim >= ?3 THEN 0 ELSE 3 END AS state_now,
        count(*), min(claim_time), max(update_time)
    FROM ledger_message WHERE page_id = ?1 AND bulk_id = ?2 GROUP BY state_now";

/// `page_id, bulk_id`, the owner's first claim, id to start after, state or null, limit.
pub(super) const RESULTS: &str = "
    SELECT id, CASE WHEN state IN (0, 4) THEN 3 ELSE state END AS state_now, update_time, outcome
    FROM ledger_message
    WHERE page_id = ?1 AND bulk_id = ?2 AND id > ?4 AND NOT (state IN (0, 4) AND claim >= ?3)
        AND (?5 IS NULL OR state_now = ?5)
    ORDER BY id LIMIT ?6";

/// The last of the rows, as many as the limit says, that come after `page_id, bulk_id, id`; none if there are fewer.
pub(super) const SWEEP_TO: &str = "
    SELECT page_id, bulk_id, id FROM ledger_message WHERE (page_id, bulk_id, id) > (?1, ?2, ?3)
    ORDER BY page_id, bulk_id, id LIMIT 1 OFFSET ?4 - 1";

/// `page_id, bulk_id, id` to start after, and to end with or nulls; time, the owner's first claim.
pub(super) const SWEEP: &str = "
    DELETE FROM ledger_message
    WHERE (page_id, bulk_id, id) > (?1, ?2, ?3) AND (?4 IS NULL OR (page_id, bulk_id, id) <= (?4, ?5, ?6))
        AND claim_time < ?7 AND NOT (state IN (0, 4) AND claim >= ?8)";
