-- What became of every message that has an id. It holds outcomes, not content: no text, no recipient, no token.

CREATE TABLE ledger_message (
    page_id     TEXT    NOT NULL,
    bulk_id     TEXT    NOT NULL, -- empty for unary messages
    id          TEXT    NOT NULL, -- item_id or request_id
    fingerprint BLOB    NOT NULL, -- hash of the request, 16 bytes
    state       INTEGER NOT NULL, -- 0 claimed, 1 sent, 2 failed, 3 unknown, 4 claimed again after unknown
    claim       INTEGER NOT NULL, -- who claimed it last: owner * 2^38 + number of the write
    claim_time  INTEGER NOT NULL, -- Unix milliseconds
    update_time INTEGER NOT NULL, -- Unix milliseconds
    outcome     TEXT,             -- JSON
    PRIMARY KEY (page_id, bulk_id, id)
) WITHOUT ROWID;

-- For retention.
CREATE INDEX ledger_message_claim_time ON ledger_message (claim_time);

-- One row: the process that has the file open. A claim of an earlier owner (states 0 and 4) is read as unknown.
CREATE TABLE ledger_owner (
    id     INTEGER NOT NULL,
    filler BLOB -- written and removed to find out whether the disk takes writes again
);

INSERT INTO ledger_owner (id) VALUES (0);
