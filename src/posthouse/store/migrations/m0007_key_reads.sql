-- What a correspondent's program says that it decrypts (RFC 8551 §2.5.2), as their signed mail said last.
ALTER TABLE mail_key ADD COLUMN reads TEXT NOT NULL DEFAULT ''; -- names of ciphers, best first, with spaces between
ALTER TABLE mail_key ADD COLUMN reads_at BIGINT; -- when the signature says it was made; null: nothing was said
