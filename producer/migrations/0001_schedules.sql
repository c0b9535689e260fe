-- Parts of the schedules, each worked on by one centre at a time. `fence` is raised with each change of the holder and
-- is looked at in every decision, so that a holder that was thought dead changes nothing any more.
CREATE TABLE leveret_centre_shards (
    shard BIGINT PRIMARY KEY,
    holder TEXT,
    fence BIGINT NOT NULL DEFAULT 0
);

-- The centres that are alive, each beating. Once `ends_at` is over, which the database's clock says, others may take
-- its shards.
CREATE TABLE leveret_centre_centres (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    address TEXT,
    version TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    beat_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL
);

CREATE TABLE leveret_centre_schedules (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    shard BIGINT NOT NULL,
    -- Raised with each change by a person: the ETag.
    revision BIGINT NOT NULL,
    -- 'file' or 'api': what is applied from a file leaves alone what the API made.
    source TEXT NOT NULL,
    definition TEXT NOT NULL,
    -- Why it is paused; NULL when it is not.
    paused TEXT,
    -- The next tick: the time that the expression names, and when it is due with its jitter. NULL when there is none.
    next_at BIGINT,
    next_due BIGINT,
    -- Ticks so far, and how many may still be; NULL is without end.
    number BIGINT NOT NULL DEFAULT 0,
    runs_left BIGINT,
    -- Failures in a row.
    failures BIGINT NOT NULL DEFAULT 0,
    last_tick_at BIGINT,
    last_success_at BIGINT,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- The timing wheel: what is due next, and for whom.
CREATE INDEX leveret_centre_schedules_due ON leveret_centre_schedules (next_due, shard);

-- What was decided about each tick. `kind` is 'tick', 'now' or 'backfill'; `state` says how far it is.
CREATE TABLE leveret_centre_ticks (
    namespace TEXT NOT NULL,
    schedule TEXT NOT NULL,
    scheduled_at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    shard BIGINT NOT NULL,
    -- Ticks of one lane look at each other: those of a schedule, or of a group. NULL where nobody has to look.
    lane TEXT,
    priority BIGINT NOT NULL DEFAULT 0,
    -- 1 for one that waits until those that run have been told to stop.
    cancels BIGINT NOT NULL DEFAULT 0,
    number BIGINT NOT NULL,
    task_id TEXT NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Why it was skipped or missed, or how its task failed.
    reason TEXT,
    -- How many ticks this row stands for: missed ones are put together.
    count BIGINT NOT NULL DEFAULT 1,
    decided_at BIGINT NOT NULL,
    published_at BIGINT,
    ended_at BIGINT,
    -- After so long without a sign of life it counts as ended.
    lost_after BIGINT NOT NULL,
    -- When that is.
    lost_at BIGINT,
    PRIMARY KEY (namespace, schedule, scheduled_at, kind)
);

CREATE INDEX leveret_centre_ticks_task ON leveret_centre_ticks (task_id);

-- Ticks whose task has not ended: what the overlap policy looks at.
CREATE INDEX leveret_centre_ticks_open ON leveret_centre_ticks (shard, namespace, lane)
    WHERE lane IS NOT NULL AND state IN ('buffered', 'pending', 'published', 'running');

CREATE INDEX leveret_centre_ticks_buffered ON leveret_centre_ticks (shard) WHERE state = 'buffered';

CREATE INDEX leveret_centre_ticks_lost ON leveret_centre_ticks (lost_at)
    WHERE lane IS NOT NULL AND state IN ('published', 'running');

CREATE INDEX leveret_centre_ticks_age ON leveret_centre_ticks (decided_at);

-- What is to be published once it is due: ticks, and tasks that were put off. Removed when the broker has confirmed it.
CREATE TABLE leveret_centre_outbox (
    task_id TEXT PRIMARY KEY,
    shard BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    -- When it is tried next; NULL while it waits for others of its lane to end.
    try_at BIGINT,
    tries BIGINT NOT NULL DEFAULT 0,
    -- 1 once a centre may have published it: from then on it cannot be called off.
    claimed BIGINT NOT NULL DEFAULT 0,
    -- Not tried any more from then on; NULL is without end.
    give_up_at BIGINT,
    namespace TEXT NOT NULL,
    -- Of a tick: its schedule, and the rest of its key.
    schedule TEXT,
    scheduled_at BIGINT,
    kind TEXT,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    -- The message as JSON, its body in base64 where it is no text.
    message TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX leveret_centre_outbox_try ON leveret_centre_outbox (try_at, shard);

-- Tasks that were put off, in the order in which they are due.
CREATE INDEX leveret_centre_outbox_delayed ON leveret_centre_outbox (due_at, task_id) WHERE schedule IS NULL
