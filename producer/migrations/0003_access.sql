-- Who may do what. Of a token only the SHA-256 is kept.
CREATE TABLE leveret_centre_tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    -- One namespace, or '*' for all and for what belongs to none.
    namespace TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    -- Written at most once a minute.
    last_used_at BIGINT
);

-- Every change that somebody made over REST.
CREATE TABLE leveret_centre_audit (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    token_id TEXT NOT NULL,
    token_name TEXT NOT NULL,
    request_id TEXT NOT NULL,
    namespace TEXT,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    -- What it was and what it became, in short; NULL where there is nothing.
    before TEXT,
    after TEXT
);

CREATE INDEX leveret_centre_audit_at ON leveret_centre_audit (at);

-- Answers to requests with an Idempotency-Key; `status` is NULL while the first is being worked on.
CREATE TABLE leveret_centre_answers (
    token_id TEXT NOT NULL,
    key TEXT NOT NULL,
    -- SHA-256 of method, path, query and body.
    fingerprint TEXT NOT NULL,
    status BIGINT,
    headers TEXT,
    body BYTEA,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (token_id, key)
);

CREATE INDEX leveret_centre_answers_at ON leveret_centre_answers (created_at);

CREATE TABLE leveret_centre_calendars (
    name TEXT PRIMARY KEY,
    -- Raised with each change: the ETag.
    revision BIGINT NOT NULL,
    days TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

-- Kinds of tasks that were registered; workers announce theirs besides.
CREATE TABLE leveret_centre_kinds (
    name TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    queue TEXT,
    description TEXT,
    arguments TEXT,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
)
