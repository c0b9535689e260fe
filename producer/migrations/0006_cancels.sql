-- When it was asked that a task that has not ended be cancelled, and why. Both are NULL once it has ended or was brought
-- back from the dead letters: they follow from `history`.
ALTER TABLE leveret_centre_tasks ADD COLUMN cancel_requested_at BIGINT;
ALTER TABLE leveret_centre_tasks ADD COLUMN cancel_reason TEXT;

CREATE INDEX leveret_centre_tasks_cancels ON leveret_centre_tasks (queue, cancel_requested_at, id)
    WHERE cancel_requested_at IS NOT NULL
