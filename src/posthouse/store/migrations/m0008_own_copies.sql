-- What waits in the queue for one account as it keeps it, or is only told not to be taken.
ALTER TABLE message ADD COLUMN kept_for TEXT;   -- the account's name; null: the message as it came
ALTER TABLE message ADD COLUMN quoted BLOB;     -- with kept_for: what a notice about it may show
ALTER TABLE message ADD COLUMN refusal TEXT;    -- with kept_for: why the account does not take it
