//! The SQL that Postgres gets. Rows come as arrays, in the order of their keys, and are locked in that order: one statement
//! after the other, each a transaction of its own, so that replicas that write the same keys wait for each other instead of
//! deadlocking. Joins are made by looking up one key after the other (see `connect`), which keeps that order.

/// Owner.
pub(super) const IS_OWNER: &str =
    "SELECT EXISTS (SELECT FROM ledger_owner WHERE id = $1 AND expires_at > clock_timestamp())";

/// Owner, seconds.
pub(super) const RENEW: &str = "
    UPDATE ledger_owner SET expires_at = clock_timestamp() + make_interval(secs => $2), renewals = renewals + 1
    WHERE id = $1 AND expires_at > clock_timestamp() RETURNING renewals";

/// Owner. How often its lease was renewed.
pub(super) const RENEWALS: &str = "SELECT renewals FROM ledger_owner WHERE id = $1";

/// Owner. From now on, new owners have higher numbers.
pub(super) const SKIP_OWNERS: &str = "
    SELECT setval(pg_get_serial_sequence('ledger_owner', 'id'), greatest($1, nextval(pg_get_serial_sequence('ledger_owner', 'id'))))";

/// Owner. A change for the sake of its commit, which brings all earlier commits to disk.
pub(super) const FLUSH: &str = "UPDATE ledger_owner SET renewals = renewals WHERE id = $1";

/// Seconds.
pub(super) const NEW_OWNER: &str = "
    INSERT INTO ledger_owner (expires_at) VALUES (clock_timestamp() + make_interval(secs => $1)) RETURNING id";

/// Owner.
pub(super) const END_OWNER: &str = "DELETE FROM ledger_owner WHERE id = $1";

/// An owner without a row counts as expired.
pub(super) const SWEEP_OWNERS: &str = "
    DELETE FROM ledger_owner WHERE id IN (
        SELECT id FROM ledger_owner WHERE expires_at < clock_timestamp() FOR UPDATE SKIP LOCKED)";

/// Pages, bulks, ids, fingerprints; the number of the first claim; runs, or none at all if no claim has one; ordinals; the
/// owner, without whose lease nothing is claimed.
pub(super) const CLAIM: &str = "
    INSERT INTO ledger_message (page_id, bulk_id, id, fingerprint, state, claim, claim_time, update_time, runs)
    SELECT page_id, bulk_id, item.id, fingerprint, 0, $5 + ordinal, time.ms, time.ms, runs
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $6::bytea[], $7::bigint[])
            AS item (page_id, bulk_id, id, fingerprint, runs, ordinal),
        (SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS ms) AS time
    WHERE EXISTS (SELECT FROM ledger_owner WHERE ledger_owner.id = $8 AND expires_at > clock_timestamp())
    ORDER BY page_id COLLATE \"C\", bulk_id COLLATE \"C\", item.id COLLATE \"C\", ordinal
    ON CONFLICT DO NOTHING";

/// Pages, bulks, ids.
pub(super) const FIND: &str = "
    SELECT item.ordinal - 1, message.state::bigint, message.claim,
        message.claim >> 38 IN (SELECT id FROM ledger_owner WHERE expires_at > clock_timestamp()),
        message.fingerprint, message.update_time, message.outcome::text, message.runs
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS item (page_id, bulk_id, id, ordinal)
    JOIN ledger_message AS message
        ON message.page_id = item.page_id AND message.bulk_id = item.bulk_id AND message.id = item.id";

/// Pages, bulks, ids, ordinals, the claims to take over from; the number of the first claim; runs.
pub(super) const RECLAIM: &str = "
    UPDATE ledger_message AS message SET state = 4, claim = $6 + item.ordinal, claim_time = time.ms,
        update_time = time.ms, runs = item.runs
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $7::bytea[])
            AS item (page_id, bulk_id, id, ordinal, claim, runs),
        (SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS ms) AS time
    WHERE message.page_id = item.page_id AND message.bulk_id = item.bulk_id AND message.id = item.id
        AND message.claim = item.claim AND message.state IN (0, 3, 4)
    RETURNING item.ordinal";

/// Pages, bulks, ids, claims, states, times or null for now, outcomes.
pub(super) const RECORD: &str = "
    UPDATE ledger_message AS message
    SET state = item.state::smallint, outcome = item.outcome::json,
        update_time = coalesce(item.time, (extract(epoch FROM statement_timestamp()) * 1000)::bigint)
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])
        AS item (page_id, bulk_id, id, claim, state, time, outcome)
    WHERE message.page_id = item.page_id AND message.bulk_id = item.bulk_id AND message.id = item.id
        AND message.claim = item.claim AND message.state IN (0, 4)";

/// Pages, bulks, ids, claims, states, times or null for now, outcomes, fingerprints. What [`RECORD`] has recorded stays so.
pub(super) const RECORD_LOST: &str = "
    INSERT INTO ledger_message (page_id, bulk_id, id, fingerprint, state, claim, claim_time, update_time, outcome)
    SELECT page_id, bulk_id, id, fingerprint, state, claim, now.ms, coalesce(time, now.ms), outcome::json
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::bytea[])
            AS item (page_id, bulk_id, id, claim, state, time, outcome, fingerprint),
        (SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS ms) AS now
    ORDER BY page_id COLLATE \"C\", bulk_id COLLATE \"C\", id COLLATE \"C\"
    ON CONFLICT DO NOTHING";

/// Pages, bulks, ids, claims.
pub(super) const RELEASE_CLAIMED: &str = "
    DELETE FROM ledger_message AS message
    USING unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS item (page_id, bulk_id, id, claim)
    WHERE message.page_id = item.page_id AND message.bulk_id = item.bulk_id AND message.id = item.id
        AND message.claim = item.claim AND message.state = 0";

/// Parameters as in [`RELEASE_CLAIMED`].
pub(super) const RELEASE_RECLAIMED: &str = "
    UPDATE ledger_message AS message SET state = 3, runs = substr(runs, 1, octet_length(runs) - 8)
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS item (page_id, bulk_id, id, claim)
    WHERE message.page_id = item.page_id AND message.bulk_id = item.bulk_id AND message.id = item.id
        AND message.claim = item.claim AND message.state = 4";

/// Pages, bulks, ids, claims. Waits for a transaction that is inserting one of them; what it inserts itself is released
/// like what that one did.
pub(super) const AWAIT_INSERTS: &str = "
    INSERT INTO ledger_message (page_id, bulk_id, id, fingerprint, state, claim, claim_time, update_time)
    SELECT page_id, bulk_id, id, '', 0, claim, 0, 0
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS item (page_id, bulk_id, id, claim)
    ORDER BY page_id COLLATE \"C\", bulk_id COLLATE \"C\", id COLLATE \"C\"
    ON CONFLICT DO NOTHING";

/// Pages, bulks, ids. Waits for a transaction that is taking over one of them.
pub(super) const AWAIT_UPDATES: &str = "
    SELECT FROM unnest($1::text[], $2::text[], $3::text[]) AS item (page_id, bulk_id, id)
    JOIN ledger_message AS message
        ON message.page_id = item.page_id AND message.bulk_id = item.bulk_id AND message.id = item.id
    ORDER BY message.page_id, message.bulk_id, message.id
    FOR UPDATE OF message";

/// Page, bulk.
pub(super) const BULK: &str = "
    WITH alive AS MATERIALIZED (SELECT id FROM ledger_owner WHERE expires_at > clock_timestamp())
    SELECT CASE WHEN state NOT IN (0, 4) THEN state WHEN claim >> 38 IN (SELECT id FROM alive) THEN 0 ELSE 3
            END::bigint AS state_now,
        count(*), min(claim_time), max(update_time)
    FROM ledger_message WHERE page_id = $1 AND bulk_id = $2 GROUP BY state_now";

/// Page, bulk, id to start after, state or null, limit.
pub(super) const RESULTS: &str = "
    WITH alive AS MATERIALIZED (SELECT id FROM ledger_owner WHERE expires_at > clock_timestamp())
    SELECT id, state_now, update_time, outcome FROM (
        SELECT id, (CASE WHEN state IN (0, 4) THEN 3 ELSE state END)::bigint AS state_now, update_time,
            outcome::text AS outcome
        FROM ledger_message
        WHERE page_id = $1 AND bulk_id = $2 AND id > $3
            AND NOT (state IN (0, 4) AND claim >> 38 IN (SELECT id FROM alive))) AS message
    WHERE $4::bigint IS NULL OR state_now = $4
    ORDER BY id LIMIT $5";

/// Time, limit. Rows that another replica is sweeping are left to it.
pub(super) const SWEEP: &str = "
    WITH alive AS MATERIALIZED (SELECT id FROM ledger_owner WHERE expires_at > clock_timestamp()),
    old AS MATERIALIZED (
        SELECT page_id, bulk_id, id FROM ledger_message
        WHERE claim_time < $1 AND NOT (state IN (0, 4) AND claim >> 38 IN (SELECT id FROM alive))
        ORDER BY claim_time LIMIT $2 FOR UPDATE SKIP LOCKED)
    DELETE FROM ledger_message AS message USING old
    WHERE message.page_id = old.page_id AND message.bulk_id = old.bulk_id AND message.id = old.id";

/// The uptime and the time that were last noted, and the time now. Whoever reads them notes new ones.
pub(super) const CLOCK: &str = "
    SELECT uptime_ms, time_ms, (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM ledger_meta FOR UPDATE";

/// Uptime, time.
pub(super) const SET_CLOCK: &str = "UPDATE ledger_meta SET uptime_ms = $1, time_ms = $2";

/// The uptime of the last mark.
pub(super) const LAST_MARK: &str = "SELECT coalesce(max(uptime_ms), 0) FROM ledger_mark";

/// Uptime, time.
pub(super) const SET_MARK: &str = "INSERT INTO ledger_mark (uptime_ms, time_ms) VALUES ($1, $2)";

/// Uptime. The lowest time that the clock has said since then; null if nobody knows.
pub(super) const LOWEST_TIME: &str = "
    SELECT min(time_ms) FROM ledger_mark
    WHERE uptime_ms >= (SELECT max(uptime_ms) FROM ledger_mark WHERE uptime_ms <= $1)";

/// Uptime. The last mark before it stays.
pub(super) const SWEEP_MARKS: &str = "
    DELETE FROM ledger_mark WHERE uptime_ms < (SELECT max(uptime_ms) FROM ledger_mark WHERE uptime_ms <= $1)";

/// Owner. How many others there are.
pub(super) const OTHER_OWNERS: &str =
    "SELECT count(*) FROM ledger_owner WHERE id <> $1 AND expires_at > clock_timestamp()";

/// Page, bulk, id to start after, limit.
pub(super) const EXPORT: &str = "
    SELECT page_id, bulk_id, id, fingerprint, state::bigint, claim_time, update_time, outcome::text, runs
    FROM ledger_message
    WHERE (page_id, bulk_id, id) > ($1, $2, $3) ORDER BY page_id, bulk_id, id LIMIT $4";

/// Pages, bulks, ids, fingerprints, states, claims' times, times, outcomes, runs.
pub(super) const IMPORT: &str = "
    INSERT INTO ledger_message
        (page_id, bulk_id, id, fingerprint, state, claim, claim_time, update_time, outcome, runs)
    SELECT page_id, bulk_id, id, fingerprint, state, 0, claim_time, update_time, outcome::json, runs
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[],
            $9::bytea[])
        AS item (page_id, bulk_id, id, fingerprint, state, claim_time, update_time, outcome, runs)
    ON CONFLICT DO NOTHING";

/// Pages from and to, limit. What is in progress stays, and so does what both pages have.
pub(super) const RENAME_PAGE: &str = "
    WITH alive AS MATERIALIZED (SELECT id FROM ledger_owner WHERE expires_at > clock_timestamp()),
    old AS MATERIALIZED (
        SELECT bulk_id, id FROM ledger_message AS message
        WHERE page_id = $1 AND NOT (state IN (0, 4) AND claim >> 38 IN (SELECT id FROM alive)) AND NOT EXISTS (
            SELECT FROM ledger_message AS other
            WHERE other.page_id = $2 AND other.bulk_id = message.bulk_id AND other.id = message.id)
        ORDER BY bulk_id, id LIMIT $3 FOR UPDATE SKIP LOCKED)
    UPDATE ledger_message AS message SET page_id = $2 FROM old
    WHERE message.page_id = $1 AND message.bulk_id = old.bulk_id AND message.id = old.id";

/// Seconds. Whether nobody has a share from before a crash of the database any more; nothing if it has just crashed.
pub(super) const ARE_SHARES_SAFE: &str =
    "SELECT started_at + make_interval(secs => $1) <= clock_timestamp() FROM page_share_start";

/// From now on it is known when.
pub(super) const START_SHARES: &str =
    "INSERT INTO page_share_start (started_at) VALUES (clock_timestamp()) ON CONFLICT DO NOTHING";

/// Group. One replica at a time has the pages of a group, for the rest of the transaction.
pub(super) const LOCK_SHARES: &str = "SELECT pg_advisory_xact_lock(7020184163528210540 + $1)";

/// The database's clock, in Unix milliseconds.
pub(super) const NOW_MS: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Pages.
pub(super) const SHARES: &str = "
    SELECT page_id, kind::bigint, owner, rate, wanted, granted, in_use, held, held_until_ms,
        (extract(epoch FROM expires_at) * 1000)::bigint
    FROM page_share WHERE page_id = ANY($1)";

/// Owner, pages, kinds, rates, wanted, granted, in use, held, until when, expiry in Unix milliseconds.
pub(super) const TAKE_SHARES: &str = "
    INSERT INTO page_share
        (page_id, kind, owner, rate, wanted, granted, in_use, held, held_until_ms, expires_at)
    SELECT page_id, kind, $1, rate, wanted, granted, in_use, held, held_until_ms, to_timestamp(expires_ms / 1000.0)
    FROM unnest($2::text[], $3::bigint[], $4::float8[], $5::float8[], $6::float8[], $7::float8[], $8::float8[],
            $9::bigint[], $10::bigint[])
        AS item (page_id, kind, rate, wanted, granted, in_use, held, held_until_ms, expires_ms)
    ON CONFLICT (page_id, kind, owner) DO UPDATE
    SET rate = excluded.rate, wanted = excluded.wanted, granted = excluded.granted, in_use = excluded.in_use,
        held = excluded.held, held_until_ms = excluded.held_until_ms, expires_at = excluded.expires_at";

/// Owner, pages, states, errors, seconds from now, times, tokens.
pub(super) const TELL_STANDINGS: &str = "
    INSERT INTO page_standing (page_id, state, error, until, since, token, owner, version)
    SELECT page_id, state, error::json, clock_timestamp() + make_interval(secs => wait), since, token, $1,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM unnest($2::text[], $3::bigint[], $4::text[], $5::float8[], $6::bigint[], $7::bytea[])
        AS item (page_id, state, error, wait, since, token)
    ORDER BY page_id COLLATE \"C\"
    ON CONFLICT (page_id) DO UPDATE
    SET state = excluded.state, error = excluded.error, until = excluded.until, since = excluded.since,
        token = excluded.token, owner = excluded.owner, version = excluded.version";

/// Owner, pages, known versions. Any other version is news: after a crash or a failover it may be a lower one.
pub(super) const HEAR_STANDINGS: &str = "
    SELECT standing.page_id, standing.state::bigint, standing.error::text,
        greatest(extract(epoch FROM standing.until - clock_timestamp()), 0)::float8, standing.since, standing.token,
        standing.version
    FROM unnest($2::text[], $3::bigint[]) AS item (page_id, version)
    JOIN page_standing AS standing ON standing.page_id = item.page_id
    WHERE standing.owner <> $1 AND standing.version <> item.version";

/// Owner. What it sent last counts for a while.
pub(super) const END_SHARES: &str =
    "UPDATE page_share SET expires_at = least(expires_at, clock_timestamp()) WHERE owner = $1";

/// Shares of replicas that have gone.
pub(super) const SWEEP_SHARES: &str = "
    DELETE FROM page_share WHERE (page_id, kind, owner) IN (
        SELECT page_id, kind, owner FROM page_share WHERE expires_at < clock_timestamp() - interval '1 minute'
        FOR UPDATE SKIP LOCKED)";
