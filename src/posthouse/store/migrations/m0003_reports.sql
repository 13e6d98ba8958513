-- DMARC and TLS reports: what we owe to others, and what others told us.

-- Results of received mail, summed for the aggregate report of one policy domain and interval.
CREATE TABLE dmarc_result (
    id          INTEGER PRIMARY KEY,
    domain      TEXT NOT NULL,                  -- policy domain
    begin_at    BIGINT NOT NULL,                -- of the interval
    digest      BLOB NOT NULL,                  -- of policy and facts: equal ones are summed
    policy      BLOB NOT NULL,                  -- JSON: the policy as published
    facts       BLOB NOT NULL,                  -- JSON: source, disposition, results, identifiers
    total       BIGINT NOT NULL,                -- messages
    seen_at     BIGINT NOT NULL,                -- when it was added to last: the last policy is told
    UNIQUE (domain, begin_at, digest)
);

-- Results of our TLS sessions with others, summed for the report of one domain and day.
CREATE TABLE tls_result (
    id          INTEGER PRIMARY KEY,
    domain      TEXT NOT NULL,
    begin_at    BIGINT NOT NULL,
    digest      BLOB NOT NULL,
    policy      BLOB NOT NULL,                  -- JSON: type, strings, MX hosts
    facts       BLOB NOT NULL,                  -- JSON: result type, addresses; success is one too
    total       BIGINT NOT NULL,                -- sessions
    seen_at     BIGINT NOT NULL,
    UNIQUE (domain, begin_at, digest)
);

-- Reports that went out, so that none goes twice. The row is written in the commit that accepts the
-- mail and takes the results away.
CREATE TABLE report_sent (
    id          INTEGER PRIMARY KEY,
    kind        TEXT NOT NULL,                  -- "dmarc" or "tls"
    domain      TEXT NOT NULL,
    begin_at    BIGINT NOT NULL,
    end_at      BIGINT NOT NULL,
    sent_at     BIGINT NOT NULL,
    total       BIGINT NOT NULL,                -- messages or sessions told of
    organization TEXT NOT NULL,                 -- that the domain belongs to
    is_sent     INTEGER NOT NULL,
    outcome     TEXT NOT NULL,                  -- where it went, or why it did not
    UNIQUE (kind, domain, begin_at)
);
CREATE INDEX report_sent_organization ON report_sent (organization, begin_at) WHERE is_sent = 1;

-- Mail to report addresses, waiting to be read. Its reference to the blob is taken in the commit
-- that accepts the mail.
CREATE TABLE report_inbox (
    id          INTEGER PRIMARY KEY,
    blob_id     INTEGER NOT NULL,
    queue_id    TEXT NOT NULL,
    address     TEXT NOT NULL,                  -- that it was sent to
    received_at BIGINT NOT NULL
);

-- Reports that came.
CREATE TABLE report_in (
    id          INTEGER PRIMARY KEY,
    kind        TEXT NOT NULL,                  -- "dmarc", "tls", "failure" or "unread"
    domain      TEXT NOT NULL,                  -- that it is about
    reporter    TEXT NOT NULL,                  -- as the report names its organization
    report_id   TEXT NOT NULL,
    sender      TEXT NOT NULL,                  -- domain that the mail proved to be from; "" for none
    is_authenticated INTEGER NOT NULL,
    begin_at    BIGINT NOT NULL,
    end_at      BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    total       BIGINT NOT NULL,                -- messages or sessions told of
    blob_id     INTEGER,                        -- of an unread one: the mail, a reference is held
    queue_id    TEXT NOT NULL,                  -- of the mail it came in; "" for a file
    report      BLOB NOT NULL,                  -- JSON, deflated: reporting's own form, bounded
    UNIQUE (kind, domain, reporter, report_id, sender)
);
CREATE INDEX report_in_queue_id ON report_in (queue_id);
CREATE INDEX report_in_domain ON report_in (domain, end_at);
-- Those that anybody may have sent: they go first where there are too many.
CREATE INDEX report_in_unproven ON report_in (id) WHERE is_authenticated = 0 OR kind = 'unread';
