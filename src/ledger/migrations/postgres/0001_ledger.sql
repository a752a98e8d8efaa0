-- What became of every message that has an id. It holds outcomes, not content: no text, no recipient, no token.

CREATE TABLE ledger_message (
    page_id     TEXT COLLATE "C" NOT NULL,
    bulk_id     TEXT COLLATE "C" NOT NULL, -- empty for unary messages
    id          TEXT COLLATE "C" NOT NULL, -- item_id or request_id
    fingerprint BYTEA    NOT NULL, -- hash of the request, 16 bytes
    state       SMALLINT NOT NULL, -- 0 claimed, 1 sent, 2 failed, 3 unknown, 4 claimed again after unknown
    claim       BIGINT   NOT NULL, -- who claimed it last: owner * 2^38 + number of the write
    claim_time  BIGINT   NOT NULL, -- Unix milliseconds
    update_time BIGINT   NOT NULL, -- Unix milliseconds
    outcome     JSON,
    PRIMARY KEY (page_id, bulk_id, id)
) WITH (fillfactor = 45); -- a row doubles when it is settled, and so stays on its page

-- For retention.
CREATE INDEX ledger_message_claim_time ON ledger_message (claim_time);

-- The processes that claim messages, each with a lease. A claim (states 0 and 4) whose owner is missing here or
-- has let its lease expire is read as unknown.
CREATE TABLE ledger_owner (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    expires_at TIMESTAMPTZ NOT NULL
);
