-- MTA-STS policies of others (RFC 8461 §5), and what a message asks of TLS on its way.
CREATE TABLE mta_sts_policy (
    domain      TEXT PRIMARY KEY,
    record_id   TEXT NOT NULL,                  -- id= of the TXT record it was fetched for
    policy      BLOB NOT NULL,                  -- JSON: relay.sts_policy.StsPolicy
    fetched_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    used_at     BIGINT NOT NULL                 -- to the day: who is not written to is not refreshed
) WITHOUT ROWID;
CREATE INDEX mta_sts_refresh ON mta_sts_policy (fetched_at);

ALTER TABLE message ADD COLUMN tls_demand INTEGER NOT NULL DEFAULT 0; -- 1 REQUIRETLS, 2 TLS-Required: No
