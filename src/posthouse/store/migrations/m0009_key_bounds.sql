-- Whose a key is, and which keys of others go first where there are too many: of one source those not
-- seen for longest, of those that are revoked the first ones.
CREATE INDEX mail_key_owner ON mail_key (account_id, domain_id, source, revoked_at, seen_at);
DROP INDEX mail_key_account;
CREATE INDEX mail_key_domain ON mail_key (domain_id) WHERE domain_id IS NOT NULL;

-- What divides the subaddresses among the addresses of an own key, as it was when they were looked at.
ALTER TABLE mail_key ADD COLUMN separator TEXT NOT NULL DEFAULT '+'; -- '': it has none

-- What others said of somebody's key is kept no more.
DELETE FROM mail_key_address WHERE key_id IN (SELECT id FROM mail_key WHERE source = 'gossip');
DELETE FROM mail_key WHERE source = 'gossip';
