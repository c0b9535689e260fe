-- Messages to be published once the transaction that wrote them has committed. Any program may write rows.
CREATE TABLE leveret_outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    task TEXT NOT NULL,
    queue TEXT NOT NULL DEFAULT 'default',
    content_type TEXT NOT NULL DEFAULT 'application/json',
    properties TEXT, -- a JSON object: routing_suffix, content_encoding, priority, reply_to, correlation_id
    headers TEXT, -- a JSON object of texts, whole numbers and booleans
    body BLOB NOT NULL
) STRICT;

-- Messages that can never be published, and why.
CREATE TABLE leveret_outbox_parked (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    content_type TEXT NOT NULL,
    properties TEXT,
    headers TEXT,
    body BLOB NOT NULL,
    error TEXT NOT NULL,
    parked_at INTEGER NOT NULL -- Unix time in milliseconds
) STRICT;

-- The relay that publishes: one at a time.
CREATE TABLE leveret_outbox_relay (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    holder TEXT NOT NULL,
    ends_at INTEGER NOT NULL -- Unix time in milliseconds
) STRICT;
INSERT INTO leveret_outbox_relay VALUES (1, '', 0);
