-- One row, about the ledger as a whole.
CREATE TABLE ledger_meta (
    owner     INTEGER NOT NULL, -- how often the file was opened; only the process that opened it last may write
    path      TEXT,             -- the name that it is open under; null after it was closed
    uptime_ms INTEGER NOT NULL, -- how long it has been open in all, as steady clocks tell
    time_ms   INTEGER NOT NULL, -- Unix milliseconds when that was last written
    origin    TEXT              -- host and port of the Graph that the records are of
);
INSERT INTO ledger_meta VALUES (0, NULL, 0, 0, NULL);

-- Which claims are how old, whatever the clock of the machine said: from claim on, they were made after so much uptime.
CREATE TABLE ledger_mark (
    uptime_ms INTEGER NOT NULL,
    claim     INTEGER NOT NULL
);
INSERT INTO ledger_mark SELECT 0, coalesce(max(claim), 0) + 1 FROM ledger_message;
