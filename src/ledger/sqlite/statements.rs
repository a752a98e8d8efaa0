//! The SQL that SQLite gets. A group of rows comes as JSON from `super::json`.

/// `item`s by the text of their ids, each of which shares a `head` (page, bulk, runs) with others; which parameter they are in comes first.
/// The `jsonb` functions spare SQLite turning the inner JSON into text and back.
macro_rules! over_ids {
    ($rows:literal, $statement:literal) => {
        concat!(
            "WITH head AS MATERIALIZED (
                SELECT value->'$[0]'->>0 AS page_id, value->'$[0]'->>1 AS bulk_id,
                    unhex(value->'$[0]'->>2) AS runs, jsonb_extract(value, '$[1]') AS items
                FROM jsonb_each(",
            $rows,
            ")) ",
            $statement
        )
    };
}

/// A whole transaction, as one query: between two queries, the thread that SQLite has would wait for other threads of
/// this process. It returns how many claims were inserted.
///
/// 1. What is recorded: rows `state, time`, claim → outcome.
/// 2. What is released: claims.
/// 3. What is claimed: rows `page_id, bulk_id, runs`, id → fingerprint as 32 hexadecimal digits, and an ordinal.
/// 4. The number of the first claim, and 5. the claims' time.
/// 6. This process's number as an owner: if it is another's by now, there is an error that says so in no good words.
///
/// `OR FAIL` spares SQLite keeping what a statement has changed: if one fails, the transaction is rolled back anyway. The
/// plain `JOIN` lets it look up the rows of what is recorded; a `CROSS JOIN` would have it scan the table.
pub(super) const WRITE: &str = concat!(
    "BEGIN IMMEDIATE;
    SELECT json('taken by ' || owner) FROM ledger_meta WHERE owner <> $6;
    WITH head AS MATERIALIZED (
        SELECT value->'$[0]'->>0 AS state, value->'$[0]'->>1 AS time, jsonb_extract(value, '$[1]') AS items
        FROM jsonb_each($1))
    UPDATE OR FAIL ledger_message SET state = head.state, update_time = head.time, outcome = item.value
    FROM head JOIN json_each(head.items) AS item
    WHERE ledger_message.claim = CAST(item.key AS INTEGER) AND ledger_message.state IN (0, 4);
    DELETE FROM ledger_message WHERE claim IN (SELECT value FROM json_each($2)) AND state = 0;
    UPDATE ledger_message SET state = 3, runs = substr(runs, 1, length(runs) - 8)
    WHERE claim IN (SELECT value FROM json_each($2)) AND state = 4;",
    over_ids!(
        "$3",
        "INSERT OR FAIL INTO ledger_message
            (claim, page_id, bulk_id, id, fingerprint, state, claim_time, update_time, runs)
        SELECT $4 + substr(item.value, 33), page_id, bulk_id, item.key, unhex(substr(item.value, 1, 32)), 0, $5, $5, runs
        FROM head CROSS JOIN json_each(head.items) AS item
        WHERE true
        ON CONFLICT (page_id, bulk_id, id) DO NOTHING;"
    ),
    "SELECT changes();
    COMMIT"
);

/// Rows `page_id, bulk_id, runs`, id → ordinal.
pub(super) const FIND: &str = over_ids!(
    "$1",
    "SELECT item.value, message.state, message.claim, fingerprint, update_time, outcome, message.runs
    FROM head CROSS JOIN json_each(head.items) AS item CROSS JOIN ledger_message AS message
    WHERE message.page_id = head.page_id AND message.bulk_id = head.bulk_id AND message.id = item.key"
);

/// Rows `page_id, bulk_id, runs`, id → ordinal; the number of the first claim, the claims' time, this process as an owner.
/// The rows exist.
pub(super) const RECLAIM: &str = over_ids!(
    "$1",
    "INSERT INTO ledger_message (claim, page_id, bulk_id, id, fingerprint, state, claim_time, update_time, runs)
    SELECT $2 + item.value, page_id, bulk_id, item.key, x'', 4, $3, $3, runs
    FROM head CROSS JOIN json_each(head.items) AS item
    WHERE (SELECT owner FROM ledger_meta) = $4
    ON CONFLICT (page_id, bulk_id, id) DO UPDATE SET claim = excluded.claim, state = excluded.state,
        claim_time = excluded.claim_time, update_time = excluded.update_time, runs = excluded.runs"
);

/// `page_id, bulk_id`, this process's first claim.
pub(super) const BULK: &str = "
    SELECT CASE WHEN state NOT IN (0, 4) THEN state WHEN claim >= $3 THEN 0 ELSE 3 END AS state_now,
        count(*), min(claim_time), max(update_time)
    FROM ledger_message WHERE page_id = $1 AND bulk_id = $2 GROUP BY state_now";

/// `page_id, bulk_id`, this process's first claim, id to start after, state or null, limit.
pub(super) const RESULTS: &str = "
    SELECT id, CASE WHEN state IN (0, 4) THEN 3 ELSE state END AS state_now, update_time, outcome
    FROM ledger_message
    WHERE page_id = $1 AND bulk_id = $2 AND id > $4 AND NOT (state IN (0, 4) AND claim >= $3)
        AND ($5 IS NULL OR state_now = $5)
    ORDER BY id LIMIT $6";

/// Milliseconds, time now, this process as an owner. Returns the uptime in all.
pub(super) const ADD_UPTIME: &str = "
    UPDATE ledger_meta SET uptime_ms = uptime_ms + $1, time_ms = $2 WHERE owner = $3 RETURNING uptime_ms";

/// The uptime of the last mark.
pub(super) const LAST_MARK: &str = "SELECT coalesce(max(uptime_ms), 0) FROM ledger_mark";

/// Uptime, claim.
pub(super) const SET_MARK: &str = "INSERT INTO ledger_mark (uptime_ms, claim) VALUES ($1, $2)";

/// Uptime. Claims before the one that this returns were made before it.
pub(super) const CLAIM_AT: &str = "SELECT coalesce(max(claim), 0) FROM ledger_mark WHERE uptime_ms <= $1";

/// Uptime. The last mark before it stays.
pub(super) const SWEEP_MARKS: &str = "
    DELETE FROM ledger_mark WHERE uptime_ms < (SELECT max(uptime_ms) FROM ledger_mark WHERE uptime_ms <= $1)";

/// Claims to start after and to end before, limit. The last of so many rows, and how many there are.
pub(super) const SWEEP_TO: &str = "
    SELECT max(claim), count(*)
    FROM (SELECT claim FROM ledger_message WHERE claim > $1 AND claim < $2 ORDER BY claim LIMIT $3)";

/// Claims to start after and to end with; this process's first claim, and this process as an owner.
pub(super) const SWEEP: &str = "
    DELETE FROM ledger_message
    WHERE claim > $1 AND claim <= $2 AND NOT (state IN (0, 4) AND claim >= $3)
        AND (SELECT owner FROM ledger_meta) = $4";

/// Page, bulk, id to start after, limit.
pub(super) const EXPORT: &str = "
    SELECT page_id, bulk_id, id, fingerprint, state, claim_time, update_time, outcome, runs FROM ledger_message
    WHERE (page_id, bulk_id, id) > ($1, $2, $3) ORDER BY page_id, bulk_id, id LIMIT $4";

/// Claim, and what [`EXPORT`] returns.
pub(super) const IMPORT: &str = "
    INSERT INTO ledger_message
        (claim, page_id, bulk_id, id, fingerprint, state, claim_time, update_time, outcome, runs)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";

/// Pages from and to, limit, this process's first claim. What is in progress stays, and so does what both pages have.
pub(super) const RENAME_PAGE: &str = "
    UPDATE ledger_message SET page_id = $2 WHERE claim IN (
        SELECT claim FROM ledger_message AS message
        WHERE page_id = $1 AND NOT (state IN (0, 4) AND claim >= $4) AND NOT EXISTS (
            SELECT 1 FROM ledger_message AS other
            WHERE other.page_id = $2 AND other.bulk_id = message.bulk_id AND other.id = message.id)
        LIMIT $3)";
