-- The runs of a bulk that may have sent the message and send again what is unknown, the latest at the end: of each the
-- first 8 bytes of the SHA-256 of its run_id. Null if there are none.
ALTER TABLE ledger_message ADD COLUMN runs BYTEA;
