-- What a centre does for a person and takes a while, such as the replay of dead letters. `state` is 'running', 'done',
-- 'failed', 'cancelled' or 'interrupted'.
CREATE TABLE leveret_centre_operations (
    -- A UUID v7: later ones are greater.
    id TEXT PRIMARY KEY,
    -- 'replay' or 'purge'.
    kind TEXT NOT NULL,
    -- The work queue, or NULL for the messages that no queue took.
    queue TEXT,
    -- What was asked for, as JSON.
    request TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Dead letters that were moved or removed; those that were looked at; and how many there are to look at.
    done BIGINT NOT NULL DEFAULT 0,
    seen BIGINT NOT NULL DEFAULT 0,
    total BIGINT,
    error TEXT,
    -- Whether someone has asked for it to be called off.
    cancelling BIGINT NOT NULL DEFAULT 0,
    started_by TEXT,
    -- The centre that works on it, and when it last said so. What is silent for long goes to another.
    centre TEXT NOT NULL,
    beat_at BIGINT NOT NULL,
    -- How many centres have died over it.
    deaths BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    ended_at BIGINT
);

CREATE INDEX leveret_centre_operations_open ON leveret_centre_operations (state, beat_at)
