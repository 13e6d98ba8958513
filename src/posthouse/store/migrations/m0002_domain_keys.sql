-- DKIM keys of our domains. The private key is sealed by the node key, which is not in here.
CREATE TABLE domain_key (
    id          INTEGER PRIMARY KEY,
    domain_id   INTEGER NOT NULL REFERENCES domain(id),
    selector    TEXT NOT NULL,
    algorithm   TEXT NOT NULL,                  -- "rsa-sha256" or "ed25519-sha256"
    private     BLOB,                           -- sealed PKCS #8; null once revoked or lost
    public      BLOB NOT NULL,                  -- what p= holds, before base64
    state       INTEGER NOT NULL,               -- accounts.domain_keys.KeyState
    created_at  BIGINT NOT NULL,
    shown_at    BIGINT,                         -- since when the DNS shows it, while it waits
    ready_at    BIGINT,                         -- when caches without it have run out
    signs_at    BIGINT,                         -- since when it signs
    retired_at  BIGINT,                         -- since when it signs no more
    revoked_at  BIGINT,                         -- when the DNS was seen to have let go of it
    UNIQUE (domain_id, selector)
);
