-- What is known of each task. `history` has all that was learnt, in a form in which order and repetition do not matter;
-- the other columns follow from it and are there to be searched.
CREATE TABLE leveret_centre_tasks (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    -- 'scheduled', 'published', 'running', 'retrying', 'done', 'dead', 'cancelled', 'discarded'.
    state TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    -- How often it was brought back from the dead.
    replays BIGINT NOT NULL,
    worker TEXT,
    instance TEXT,
    schedule TEXT,
    scheduled_at BIGINT,
    labels TEXT NOT NULL,
    trace_id TEXT,
    created_at BIGINT NOT NULL,
    due_at BIGINT,
    started_at BIGINT,
    ended_at BIGINT,
    -- When this row last changed, by the centre's clock; all other times are those of whoever told them.
    changed_at BIGINT NOT NULL,
    waited_ms BIGINT,
    ran_ms BIGINT,
    progress TEXT,
    result TEXT,
    result_bytes BIGINT,
    reason TEXT,
    error_kind TEXT,
    error TEXT,
    history TEXT NOT NULL
);

CREATE INDEX leveret_centre_tasks_created ON leveret_centre_tasks (created_at, id);
CREATE INDEX leveret_centre_tasks_state ON leveret_centre_tasks (state, created_at, id);
CREATE INDEX leveret_centre_tasks_task ON leveret_centre_tasks (task, created_at, id);
CREATE INDEX leveret_centre_tasks_queue ON leveret_centre_tasks (queue, created_at, id);
CREATE INDEX leveret_centre_tasks_schedule ON leveret_centre_tasks (schedule, created_at, id) WHERE schedule IS NOT NULL;
CREATE INDEX leveret_centre_tasks_changed ON leveret_centre_tasks (changed_at, id, ended_at);

-- The workers that were heard of in the last day, so that one that died while no centre ran is known to be lost.
CREATE TABLE leveret_centre_workers (
    instance TEXT PRIMARY KEY,
    worker TEXT NOT NULL,
    -- 'live', 'lost' or 'offline'.
    presence TEXT NOT NULL,
    started_at BIGINT,
    heard_at BIGINT NOT NULL,
    -- The last beat, and what it has announced, as JSON.
    beat TEXT NOT NULL,
    about TEXT
);

CREATE INDEX leveret_centre_workers_heard ON leveret_centre_workers (presence, heard_at);

-- What one centre does for all, by name: the holder until `ends_at`, then whoever is first.
CREATE TABLE leveret_centre_duties (
    duty TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    ends_at BIGINT NOT NULL
)
