-- What a replica was using when it last asked, what it used before, and until when that counts, in Unix milliseconds by the
-- database's clock: see `shares.rs`.
ALTER TABLE page_share ADD COLUMN in_use DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE page_share ADD COLUMN held DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE page_share ADD COLUMN held_until_ms BIGINT NOT NULL DEFAULT 0;
