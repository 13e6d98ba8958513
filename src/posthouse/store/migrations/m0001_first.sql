-- Times are microseconds since 1970, UTC. Octets are kept as they came. States and flags are
-- integers named in the code beside the functions that use them.

CREATE TABLE domain (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,           -- A-labels, lower case
    catch_all   TEXT,                           -- address that takes what nobody else does
    created_at  BIGINT NOT NULL
);

CREATE TABLE account (
    id              INTEGER PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,       -- what one logs in with: the primary address, folded
    password        TEXT,                       -- PHC string, argon2id; null: no password works
    credential_version INTEGER NOT NULL DEFAULT 1,
    is_disabled     INTEGER NOT NULL DEFAULT 0,
    quota_octets    BIGINT,                     -- null: no quota
    used_octets     BIGINT NOT NULL DEFAULT 0,
    used_messages   BIGINT NOT NULL DEFAULT 0,
    modseq          BIGINT NOT NULL DEFAULT 1,  -- the last one given, for all mailboxes together
    next_uidvalidity BIGINT NOT NULL DEFAULT 1,
    created_at      BIGINT NOT NULL
);

-- An address that is an account's own: it receives at it and may send as it.
CREATE TABLE address (
    id          INTEGER PRIMARY KEY,
    domain_id   INTEGER NOT NULL REFERENCES domain(id),
    local_part  TEXT NOT NULL,                  -- folded: NFC, case-folded
    account_id  INTEGER NOT NULL REFERENCES account(id),
    UNIQUE (domain_id, local_part)
);
CREATE INDEX address_account ON address (account_id);

CREATE TABLE alias (
    id          INTEGER PRIMARY KEY,
    domain_id   INTEGER NOT NULL REFERENCES domain(id),
    local_part  TEXT NOT NULL,                  -- folded
    target      TEXT NOT NULL,                  -- an address, here or elsewhere
    UNIQUE (domain_id, local_part, target)
);

CREATE TABLE blob (
    id          INTEGER PRIMARY KEY,
    refs        INTEGER NOT NULL,               -- owners: emails and messages still on their way
    size        BIGINT NOT NULL,
    sha256      BLOB NOT NULL,
    segment     INTEGER,                        -- null: the octets are in this row
    position    BIGINT,
    octets      BLOB
);
CREATE INDEX blob_unowned ON blob (id) WHERE refs <= 0;
CREATE INDEX blob_segment ON blob (segment) WHERE segment IS NOT NULL;

CREATE TABLE mailbox (
    id          INTEGER PRIMARY KEY,
    account_id  INTEGER NOT NULL REFERENCES account(id),
    name        TEXT NOT NULL,                  -- "/" divides levels; INBOX in capitals
    special_use TEXT,                           -- "\Sent" and so on, RFC 6154
    uidvalidity BIGINT NOT NULL,
    uidnext     BIGINT NOT NULL DEFAULT 1,
    modseq      BIGINT NOT NULL DEFAULT 1,      -- the highest of its entries and tombstones
    messages    INTEGER NOT NULL DEFAULT 0,
    unseen      INTEGER NOT NULL DEFAULT 0,
    octets      BIGINT NOT NULL DEFAULT 0,
    recent_uid  BIGINT NOT NULL DEFAULT 1,      -- entries from here on are \Recent to the next session
    keywords    TEXT NOT NULL DEFAULT '',       -- every keyword ever used here, divided by blanks
    created_at  BIGINT NOT NULL,
    UNIQUE (account_id, name)
);

CREATE TABLE subscription (
    account_id  INTEGER NOT NULL REFERENCES account(id),
    name        TEXT NOT NULL,
    PRIMARY KEY (account_id, name)
) WITHOUT ROWID;

CREATE TABLE email (
    id          INTEGER PRIMARY KEY,
    account_id  INTEGER NOT NULL,
    blob_id     INTEGER NOT NULL,
    entries     INTEGER NOT NULL,               -- mailbox entries that show it; at 0 it is removed
    received_at BIGINT NOT NULL,
    size        BIGINT NOT NULL,                -- of prefix and blob together
    sent_day    INTEGER,                        -- the date its Date field names, days since 1970
    internaldate TEXT NOT NULL,                 -- these three as IMAP FETCH shows them, made once
    envelope    BLOB NOT NULL,
    bodystructure BLOB NOT NULL,
    preview     TEXT NOT NULL,
    prefix      BLOB NOT NULL                   -- our trace fields, in front of the blob's octets
);

CREATE TABLE entry (
    mailbox_id  INTEGER NOT NULL,
    uid         BIGINT NOT NULL,
    email_id    INTEGER NOT NULL,
    flags       INTEGER NOT NULL,               -- bits: Seen 1, Answered 2, Flagged 4, Deleted 8, Draft 16
    keywords    TEXT NOT NULL DEFAULT '',       -- as the mailbox spells them, divided by blanks
    modseq      BIGINT NOT NULL,
    saved_at    BIGINT NOT NULL,
    PRIMARY KEY (mailbox_id, uid)
) WITHOUT ROWID;
-- With all that readers of news want, or SQLite prefers to go through the mailbox by UID; a change of
-- flags changes the MODSEQ too, so the wider index costs no write more.
CREATE INDEX entry_modseq ON entry (mailbox_id, modseq, flags, keywords);

CREATE TABLE tombstone (
    mailbox_id  INTEGER NOT NULL,
    modseq      BIGINT NOT NULL,
    uid         BIGINT NOT NULL,
    PRIMARY KEY (mailbox_id, modseq, uid)
) WITHOUT ROWID;

-- An accepted message: its envelope, and why everything about it was decided as it was.
CREATE TABLE message (
    id          INTEGER PRIMARY KEY,
    queue_id    TEXT NOT NULL UNIQUE,
    reverse_path TEXT,                          -- null is <>
    blob_id     INTEGER,                        -- null once no recipient needs the octets
    prefix      BLOB NOT NULL,                  -- trace fields that go in front when it is relayed
    size        BIGINT NOT NULL,
    body        TEXT NOT NULL,                  -- BODY=
    is_smtputf8 INTEGER NOT NULL,
    ret         TEXT,
    envelope_id TEXT,
    origin      TEXT NOT NULL,                  -- mx, submission, lmtp, dsn
    account_id  INTEGER,                        -- who submitted it
    is_junk     INTEGER NOT NULL,               -- never answered with a notice
    accepted_at BIGINT NOT NULL,
    pending     INTEGER NOT NULL,               -- recipients that have no end yet
    decision    BLOB NOT NULL                   -- the decision record, JSON
);
CREATE INDEX message_open ON message (accepted_at) WHERE pending > 0;

CREATE TABLE recipient (
    id          INTEGER PRIMARY KEY,
    message_id  INTEGER NOT NULL REFERENCES message(id),
    address     TEXT NOT NULL,                  -- forward-path it goes to now
    domain      TEXT NOT NULL,                  -- routing key: of the address
    route       TEXT,                           -- set by `queue reroute`: "host:port"
    original_recipient TEXT,                    -- ORCPT= decoded
    notify      INTEGER,                        -- bits; null: not given
    state       INTEGER NOT NULL,
    step        INTEGER NOT NULL,               -- transitions so far; while leased the fencing token
    due_at      BIGINT,                         -- when queued
    expires_at  BIGINT NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    leased_by   TEXT,                           -- node and worker
    leased_until BIGINT,
    delay_notified_at BIGINT,
    last_reply  TEXT                            -- the other side's words, or ours about it
);
CREATE INDEX recipient_message ON recipient (message_id);
CREATE INDEX recipient_due ON recipient (domain, due_at, expires_at) WHERE state = 1;
CREATE INDEX recipient_leased ON recipient (leased_until) WHERE state = 2;
CREATE INDEX recipient_held ON recipient (id) WHERE state = 3;

-- Every transition of a recipient, appended in the transaction that makes it. `step` counts them
-- from 1, so the row with recipient.step is the last one.
CREATE TABLE ledger (
    recipient_id INTEGER NOT NULL,
    step        INTEGER NOT NULL,
    at          BIGINT NOT NULL,
    from_state  INTEGER NOT NULL,
    to_state    INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (recipient_id, step)
) WITHOUT ROWID;

-- One try to hand recipients of a message to a host, with the dialogue's replies.
CREATE TABLE attempt (
    id          INTEGER PRIMARY KEY,
    message_id  INTEGER NOT NULL,
    at          BIGINT NOT NULL,
    record      BLOB NOT NULL                   -- JSON
);
CREATE INDEX attempt_message ON attempt (message_id);

CREATE TABLE counter (
    name        TEXT PRIMARY KEY,
    value       BIGINT NOT NULL
) WITHOUT ROWID;
