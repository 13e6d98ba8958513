-- Messages that were turned down after their content was looked at, for `explain`: nothing of them
-- was kept but why. Written a moment later and bounded; no promise hangs on it.
CREATE TABLE refusal (
    id          INTEGER PRIMARY KEY,
    queue_id    TEXT NOT NULL,                  -- the name the reply and the log give
    at          BIGINT NOT NULL,
    reverse_path TEXT,                          -- null is <>
    size        BIGINT NOT NULL,
    reply       TEXT NOT NULL,
    decision    BLOB NOT NULL                   -- the decision record, JSON
);
CREATE INDEX refusal_queue_id ON refusal (queue_id);
