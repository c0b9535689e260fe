-- Tasks by the worker that ran them last, the newest first. Without it, those of a worker that ran few of them are found by
-- looking at all.
CREATE INDEX leveret_centre_tasks_worker ON leveret_centre_tasks (worker, created_at, id) WHERE worker IS NOT NULL
