-- S/MIME certificates and OpenPGP keys: our users' and domains' own, and those of whom they write to.
CREATE TABLE mail_key (
    id          INTEGER PRIMARY KEY,
    scheme      TEXT NOT NULL,                  -- "smime" or "openpgp"
    fingerprint TEXT NOT NULL,                  -- mimesec.findings.Signature.key
    account_id  INTEGER REFERENCES account(id), -- whose own it is
    domain_id   INTEGER REFERENCES domain(id),  -- or the gateway key of a whole domain; else a stranger's
    source      TEXT NOT NULL,                  -- accounts.mail_keys.Source
    is_trusted  INTEGER NOT NULL DEFAULT 0,     -- a person or the domain vouches for it, for its addresses here
    is_published INTEGER NOT NULL DEFAULT 0,    -- others may look it up here (WKD)
    public      BLOB NOT NULL,                  -- OpenPGP: the certificate; S/MIME: PEM, its issuers behind it
    private     BLOB,                           -- sealed; null where it is not ours to have
    revocation  BLOB,                           -- sealed: OpenPGP's revocation certificate, made beforehand
    created_at  BIGINT NOT NULL,                -- of this row
    expires_at  BIGINT,                         -- null: never
    revoked_at  BIGINT,
    seen_at     BIGINT NOT NULL,                -- when it was last found, learnt or used
    warned_at   BIGINT                          -- when its owner was last told that it will expire
);
CREATE UNIQUE INDEX mail_key_own ON mail_key (scheme, fingerprint);
CREATE INDEX mail_key_account ON mail_key (account_id);
CREATE INDEX mail_key_expiry ON mail_key (expires_at);

CREATE TABLE mail_key_address (
    key_id      INTEGER NOT NULL REFERENCES mail_key(id) ON DELETE CASCADE,
    address     TEXT NOT NULL,                  -- local-part folded, domain as A-labels
    PRIMARY KEY (address, key_id)
) WITHOUT ROWID;
CREATE INDEX mail_key_address_key ON mail_key_address (key_id);

-- What is protected, in words: "never", "when possible", "always or refuse". One row for an account
-- or a domain; what an account does not say its domain says.
CREATE TABLE mail_policy (
    id          INTEGER PRIMARY KEY,
    account_id  INTEGER UNIQUE REFERENCES account(id),
    domain_id   INTEGER UNIQUE REFERENCES domain(id),
    scheme      TEXT,                           -- the one to prefer; null: whichever has keys
    sign        TEXT,                           -- what our users send; null: not said
    encrypt     TEXT,
    open        TEXT,                           -- what arrives for them: verify, and decrypt with keys kept here
    at_rest     TEXT,                           -- encrypt what is stored to the owner's key
    at_rest_append TEXT                         -- what IMAP APPENDs, too
);

-- Keys that were looked for and not found, so that they are not looked for with every message.
CREATE TABLE mail_key_miss (
    address     TEXT PRIMARY KEY,
    until       BIGINT NOT NULL
) WITHOUT ROWID;

-- A submission that is sent again because its answer was lost is found by the name its sender gave.
CREATE INDEX message_envelope ON message (envelope_id) WHERE envelope_id IS NOT NULL;
