-- Kept up to date with every claim, it cost more than walking the table now and then.
DROP INDEX ledger_message_claim_time;
