-- What a correspondent's program says that it decrypts (RFC 8551 §2.5.2), as their signed mail said
-- last, and from when what their mail says of a key is (Autocrypt's, too).
ALTER TABLE mail_key ADD COLUMN reads TEXT NOT NULL DEFAULT ''; -- names of ciphers, best first, with spaces between
ALTER TABLE mail_key ADD COLUMN said_at BIGINT; -- of the signature or message; null: nothing was said
