-- Marks of work that must take effect once. What ends before now counts for nothing, and is removed by and by.
CREATE TABLE leveret_once (
    key TEXT COLLATE "C" PRIMARY KEY,
    task_id TEXT NOT NULL,
    holder TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'waiting', 'done')),
    ends_at BIGINT NOT NULL -- Unix time in milliseconds
);
CREATE INDEX leveret_once_ends_at ON leveret_once (ends_at);
