//! Cancelling tasks, running them again, putting them off.

use std::time::Duration;

use axum::{Json, extract::State};
use leveret_common::{
    clock::UnixMillis,
    control::{Answer, ControlError, Outcome, Target},
    dead_letters::{DeadLetters, DeadLettersError, Selection},
    duration,
    task::TaskId,
    topology::QueueName,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{publish::read_id, read::known};
use crate::centre::{
    api::{
        Api, At, Authorised, Body, Broker, Caller, MaybeBody, Operator, Problem, ProblemKind, audit::act,
        moment::Moment,
    },
    store::{
        AuditEntry, DelayedTask,
        tasks::{RecordedState, Task, TaskRecord, TaskState, labels},
    },
    watch,
};

/// Why it is cancelled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "the order was withdrawn"}))]
pub(super) struct CancelReason {
    /// Why, for people.
    #[schema(max_length = 1000)]
    reason: Option<String>,
}

/// What a cancel came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cancelled {
    /// The task.
    id: String,
    /// `held`: it was not published yet, and will not be. `running`: its attempt was told to stop. `waiting`: a worker ends
    /// it before its handler is called, or once it has begun.
    #[schema(example = "held")]
    was: &'static str,
}

/// Cancels a task
///
/// One that the centre holds is not published; one that runs is told to stop. One that waits, in its queue or for another
/// attempt, ends as cancelled when its turn comes, whichever worker it is that takes it; until then
/// `cancel_requested_at` says so. One that has ended is not changed: 409.
#[utoipa::path(post, path = "/tasks/{id}/cancel", tag = "tasks",
    params(("id" = String, Path, description = "Its id.", min_length = 1, max_length = 255)),
    request_body = Option<CancelReason>,
    responses((status = 200, description = "It is cancelled, or told to stop.", body = Cancelled)),
    extensions(("x-role" = json!("operator"))))]
pub(super) async fn cancel(
    caller: Authorised<Operator>,
    State(api): State<Api>,
    At(id): At<String>,
    MaybeBody(reason): MaybeBody<Option<CancelReason>>,
) -> Result<Json<Cancelled>, Problem> {
    let id = read_id(&id)?;
    let reason = reason.and_then(|reason| reason.reason).filter(|reason| !reason.is_empty());
    if reason.as_ref().is_some_and(|reason| reason.chars().count() > 1_000) {
        return Err(Problem::invalid_part("/reason", "it has over 1,000 characters"));
    }
    let line = |was: &str, namespace: &str| {
        change(&api, &caller, "task.cancel", &id, namespace, json!({"was": was, "reason": reason}))
    };
    if let Some(delayed) = held(&api, &caller, &id).await?
        && api.store.cancel_delayed(&id, Some(&line("held", &delayed.namespace))).await?
    {
        let now = api.store.clock().now();
        let record = TaskRecord { reason: reason.clone(), ..record(&delayed, RecordedState::Cancelled, now) };
        api.announce(api.store.record_published(&[record]).await?).await;
        return Ok(Json(Cancelled { id: id.to_string(), was: "held" }));
    }
    let task = known(&api, &caller, id.as_str()).await?;
    still_open(&task)?;
    let broker = api.need_broker()?;
    let was = if task.state == TaskState::Running { "running" } else { "waiting" };
    let change = line(was, &task.namespace);
    let applied = api.store.request_cancel(&task, reason.as_deref(), Some(&change)).await?;
    let ended = applied.changed.first().map(still_open).transpose();
    api.announce(applied).await;
    // It may have ended in between.
    ended?;
    let told = tell(broker, &task, reason.clone(), api.settings.patience).await;
    // Even where no worker could be told, it is asked for, and workers are told of it later.
    let was = if told? > 0 { "running" } else { "waiting" };
    Ok(Json(Cancelled { id: id.to_string(), was }))
}

fn still_open(task: &Task) -> Result<(), Problem> {
    if task.state.is_ended() {
        return Err(Problem::new(ProblemKind::Conflict, format!("the task has ended: it is {}", task.state)));
    }
    Ok(())
}

/// Tells the workers of a task's queue to end it, and not to begin it. How many attempts were told to stop.
async fn tell(broker: &Broker, task: &Task, reason: Option<String>, patience: Duration) -> Result<usize, ControlError> {
    let command = watch::cancel(vec![task.id.clone()], task.replays, reason);
    let target = QueueName::new(&task.queue).map_or(Target::All, Target::Queue);
    let mut replies = match broker.control.begin(&target, &command, patience).await {
        Err(ControlError::Nobody { .. } | ControlError::NoExchange { .. }) => return Ok(0),
        replies => replies?,
    };
    let known = broker.registry.workers().addressed(&target);
    if !known.is_empty() {
        replies = replies.until(known);
    }
    let mut told = 0;
    while let Some(reply) = replies.next().await {
        if let Outcome::Answer(Answer::Cancelled { tasks }) = reply.outcome {
            told += tasks;
        }
    }
    Ok(told)
}

/// A task that runs again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Again {
    /// The task.
    id: String,
    /// The queue that it went back to.
    queue: String,
}

/// Runs a dead task again
///
/// It goes from the dead letters back to its queue, where its attempts count anew. Others than dead ones cannot be run
/// again: 409.
#[utoipa::path(post, path = "/tasks/{id}/retry", tag = "tasks",
    params(("id" = String, Path, description = "Its id.", min_length = 1, max_length = 255)),
    responses((status = 200, description = "It is in its queue again.", body = Again)),
    extensions(("x-role" = json!("operator"))))]
pub(super) async fn retry(
    caller: Authorised<Operator>,
    State(api): State<Api>,
    At(id): At<String>,
) -> Result<Json<Again>, Problem> {
    let task = known(&api, &caller, &id).await?;
    let conflict = |text: String| Problem::new(ProblemKind::Conflict, text);
    if task.state != TaskState::Dead {
        return Err(conflict(format!("the task is {}, not dead", task.state)));
    }
    let queue = QueueName::new(&task.queue).map_err(|error| conflict(format!("it has no queue to go to: {error}")))?;
    let link = api.need_broker()?.control.link().clone();
    let letters = DeadLetters::of(link, queue).map_err(dead)?;
    let selection = Selection::all().id(task.id.as_str()).limit(1);
    let line = change(&api, &caller, "task.retry", &task.id, &task.namespace, json!({"queue": task.queue}));
    act(&api, line, async {
        let tally = letters.replay(&selection, None, &CancellationToken::new(), |_| {}).await.map_err(dead)?;
        if tally.settled == 0 {
            return Err(conflict(format!("it is not among the dead letters of queue {:?} any more", task.queue)));
        }
        Ok(())
    })
    .await?;
    Ok(Json(Again { id: task.id.to_string(), queue: task.queue }))
}

fn dead(error: DeadLettersError) -> Problem {
    match error {
        DeadLettersError::NoQueue { .. } | DeadLettersError::Different { .. } => {
            Problem::new(ProblemKind::Conflict, error.to_string())
        }
        DeadLettersError::Name(error) => error.into(),
        error => Problem::unavailable(error.to_string()),
    }
}

/// Another time for a task.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"at": "2027-01-01T09:00:00Z"}))]
pub(super) struct NewTime {
    /// At this moment. One that has passed is now.
    at: Option<Moment>,
    /// In so long. One of the two.
    #[serde(default, with = "duration::option")]
    #[schema(value_type = Option<String>, max_length = 100, example = "15m")]
    delay: Option<Duration>,
}

/// A task that is held until another time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rescheduled {
    /// The task.
    id: String,
    /// When it is published.
    due_at: Moment,
}

/// Puts a task off to another time
///
/// Only one that the centre holds; of others it is too late: 409.
#[utoipa::path(post, path = "/tasks/{id}/reschedule", tag = "tasks",
    params(("id" = String, Path, description = "Its id.", min_length = 1, max_length = 255)),
    request_body = NewTime,
    responses((status = 200, description = "It is held until then.", body = Rescheduled)),
    extensions(("x-role" = json!("operator"))))]
pub(super) async fn reschedule(
    caller: Authorised<Operator>,
    State(api): State<Api>,
    At(id): At<String>,
    Body(time): Body<NewTime>,
) -> Result<Json<Rescheduled>, Problem> {
    let id = read_id(&id)?;
    let now = api.store.clock().now();
    let due_at = match (time.at, time.delay) {
        (Some(at), None) => at.0,
        (None, Some(delay)) if delay <= Duration::from_secs(100 * 366 * 86_400) => now + delay,
        (None, Some(_)) => return Err(Problem::invalid_part("/delay", "it is over a hundred years")),
        _ => return Err(Problem::invalid("give `at` or `delay`")),
    };
    let late = || Problem::new(ProblemKind::Conflict, "the centre does not hold this task any more: it is too late");
    let Some(delayed) = held(&api, &caller, &id).await? else {
        // Whether it is known at all is the better answer.
        known(&api, &caller, id.as_str()).await?;
        return Err(late());
    };
    let after = json!({"from": Moment(delayed.due_at), "to": Moment(due_at)});
    let line = change(&api, &caller, "task.reschedule", &id, &delayed.namespace, after);
    if !api.store.reschedule(&id, due_at, Some(&line)).await? {
        return Err(late());
    }
    let record = TaskRecord { due_at: Some(due_at), ..record(&delayed, RecordedState::Scheduled, now) };
    api.announce(api.store.record_published(&[record]).await?).await;
    Ok(Json(Rescheduled { id: id.to_string(), due_at: due_at.into() }))
}

/// A task that the centre holds, in a namespace of the caller.
async fn held(api: &Api, caller: &Caller, id: &TaskId) -> Result<Option<DelayedTask>, Problem> {
    let delayed = api.store.delayed_task(id).await?;
    Ok(delayed.filter(|delayed| caller.namespace(Some(&delayed.namespace)).is_ok()))
}

fn record(delayed: &DelayedTask, state: RecordedState, at: UnixMillis) -> TaskRecord {
    TaskRecord {
        id: delayed.task_id.clone(),
        namespace: delayed.namespace.clone(),
        task: delayed.message.task.clone(),
        queue: delayed.message.queue.clone(),
        state,
        at,
        created_at: delayed.created_at,
        due_at: Some(delayed.due_at),
        schedule: None,
        labels: labels(&delayed.message),
        trace_id: None,
        reason: None,
    }
}

fn change(
    api: &Api,
    caller: &Caller,
    action: &str,
    id: &TaskId,
    namespace: &str,
    after: serde_json::Value,
) -> AuditEntry {
    let (namespace, after) = (Some(namespace.to_owned()), Some(after));
    AuditEntry { namespace, after, ..caller.change(api.store.clock().now(), action, id.to_string()) }
}
