-- Marks of work that must take effect once. What ends before now counts for nothing, and is removed by and by.
CREATE TABLE leveret_once (
    key TEXT PRIMARY KEY,
    task_id TEXT NOT NULL,
    holder TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'waiting', 'done')),
    ends_at INTEGER NOT NULL -- Unix time in milliseconds
) STRICT, WITHOUT ROWID;
CREATE INDEX leveret_once_ends_at ON leveret_once (ends_at);
