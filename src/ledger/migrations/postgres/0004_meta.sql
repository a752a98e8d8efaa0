-- One row, about the ledger as a whole.
CREATE TABLE ledger_meta (
    is_only   BOOLEAN PRIMARY KEY DEFAULT true CHECK (is_only),
    uptime_ms BIGINT NOT NULL, -- how long some service has had it open in all, as steady clocks tell
    time_ms   BIGINT NOT NULL, -- Unix milliseconds, by the database's clock, when that was last written
    origin    TEXT             -- host and port of the Graph that the records are of
);
INSERT INTO ledger_meta (uptime_ms, time_ms) VALUES (0, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);

-- What the database's clock said after so much uptime: how old a claim is, whatever that clock has said since.
CREATE TABLE ledger_mark (
    uptime_ms BIGINT NOT NULL,
    time_ms   BIGINT NOT NULL
);
INSERT INTO ledger_mark SELECT uptime_ms, time_ms FROM ledger_meta;

-- How often a lease was renewed: a process that finds fewer than it knows of is on a database that has gone back.
ALTER TABLE ledger_owner ADD COLUMN renewals BIGINT NOT NULL DEFAULT 0;

-- One row: when shares were begun to be given. A crash of the database empties it, with the shares: whoever had one may
-- still use it for as long as its lease, so nobody gets one until then.
CREATE UNLOGGED TABLE page_share_start (
    is_only    BOOLEAN PRIMARY KEY DEFAULT true CHECK (is_only),
    started_at TIMESTAMPTZ NOT NULL
);
INSERT INTO page_share_start (started_at) VALUES ('-infinity');
