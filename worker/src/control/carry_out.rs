//! Carrying out commands.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use leveret_common::{
    control::{
        Answer, Command, Outcome, Pause, Refusal, RefusalKind, Reply, RunningTask, Target, WorkerStats, is_expired,
    },
    link::Heard,
    topology::QueueName,
};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::{Controlled, LogControl, Revoked, Which, announcer::Announcer};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the reply to a stop may hold it up.
const LAST_REPLY: Duration = Duration::from_secs(1);
/// Tasks that a list names.
const LISTED: usize = 1_000;
/// Replies that may be on their way.
pub(super) const REPLIES: usize = 64;

/// What it takes to carry out commands.
pub(super) struct Executor<C> {
    pub(super) announcer: Arc<Announcer<C>>,
    pub(super) log: Option<LogControl>,
    pub(super) replies: Arc<Semaphore>,
}

impl<C: Controlled> Executor<C> {
    /// Hears a message: carries out the command in it, and answers.
    pub(super) async fn hear(&self, message: Heard) {
        let who = &self.announcer.who;
        // Whoever may publish to the default exchange could reach this queue by its name. Only those who may write to the
        // exchange of control may steer.
        if message.exchange != self.announcer.names.control() {
            return warn!(exchange = message.exchange, "ignored a command that came by another way than control");
        }
        // A worker may be named `#`, which is a pattern to the broker.
        if !self.is_addressed(&message.routing_key) {
            return;
        }
        let command = if is_expired(&message.properties, self.announcer.clock.now()) {
            Err(Refusal::new(RefusalKind::Expired, "its time was over before it was read: send it again"))
        } else {
            Command::read(&message.body)
        };
        let outcome = match &command {
            Ok(command) => {
                let by = message.properties.app_id().as_ref().map_or("unknown", |by| by.as_str());
                let user = message.properties.user_id().as_ref().map_or("unknown", |user| user.as_str());
                if !command.only_asks() {
                    info!(command = command.name(), by, user, to = message.routing_key, "told by remote control");
                }
                let doing = AssertUnwindSafe(self.carry_out(command)).catch_unwind();
                match tokio::time::timeout(PATIENCE, doing).await {
                    Ok(Ok(done)) => done,
                    Ok(Err(_)) => Err(failed("it ended in a panic, see the worker's log")),
                    Err(_) => Err(failed("it was not done within 5 s")),
                }
            }
            Err(refusal) => Err(refusal.clone()),
        };
        if let Err(refusal) = &outcome {
            warn!(to = message.routing_key, "refused a command: {refusal}");
        }
        let stops = matches!(command, Ok(Command::Stop {})) && outcome.is_ok();
        let outcome = outcome.map_or_else(Outcome::Refused, Outcome::Answer);
        let reply = Reply { worker: who.name.clone(), instance: who.instance, outcome };
        self.reply(&message, &reply, stops).await;
        if stops {
            self.announcer.controlled.stop();
        }
        self.announcer.news.notify_one();
    }

    fn is_addressed(&self, key: &str) -> bool {
        let who = &self.announcer.who;
        let of_queue = |queue| QueueName::new(queue).is_ok_and(|queue| self.announcer.pauses.knows(&queue));
        key == Target::All.routing_key()
            || key == Target::Worker(who.name.clone()).routing_key()
            || key == Target::Instance(who.instance).routing_key()
            || key.strip_prefix("queue.").is_some_and(of_queue)
    }

    async fn carry_out(&self, command: &Command) -> Result<Answer, Refusal> {
        let (announcer, controlled) = (&self.announcer, &self.announcer.controlled);
        let pauses = &announcer.pauses;
        let answer = match command {
            Command::Ping {} => Answer::Ok,
            Command::Stats {} => Answer::Stats(WorkerStats {
                state: controlled.state(),
                started_at: announcer.who.about.started_at,
                finished: controlled.finished(),
                events_dropped: controlled.events_dropped(),
                queues: announcer.queues(),
            }),
            Command::Running { queue } => self.running(queue.as_ref()),
            Command::Announce {} => Answer::Announcement(Box::new(announcer.announcement())),
            Command::Cancel { ids, reason, remember_ms, replays } => {
                let revoked = Revoked { ids: ids.clone(), replays: *replays };
                // First, so that none can begin between the two.
                if let Some(lasts) = remember_ms {
                    controlled.revoke(&revoked, reason.as_deref(), Duration::from_millis(*lasts));
                }
                Answer::Cancelled { tasks: controlled.cancel(&Which::Ids(revoked), reason.as_deref()) }
            }
            Command::CancelAll { task, reason } => {
                Answer::Cancelled { tasks: controlled.cancel(&Which::Task(task.clone()), reason.as_deref()) }
            }
            Command::Pause { queue, reason, by } => {
                self.check(queue)?;
                let pause = Pause::here(reason.clone(), by.clone(), announcer.clock.now());
                pauses.hold(queue, Some(pause)).await.map_err(failed)?;
                Answer::Ok
            }
            Command::Resume { queue } => {
                self.check(queue)?;
                let still = pauses.hold(queue, None).await.map_err(failed)?;
                still.map_or(Answer::Ok, |pause| Answer::StillPaused { pause })
            }
            Command::Look { queue, pause } => {
                self.check(queue)?;
                let still = pauses.look(queue, pause.clone()).await.map_err(failed)?;
                still.map_or(Answer::Ok, |pause| Answer::StillPaused { pause })
            }
            Command::Concurrency { queue, tasks } => {
                self.check(queue)?;
                controlled.set_concurrency(queue, *tasks).await.map_err(failed)?;
                Answer::Ok
            }
            Command::Limits {} => Answer::Limits { limits: controlled.limits() },
            Command::Limit(change) => {
                controlled.set_limit(change).await.map_err(failed)?;
                Answer::Ok
            }
            Command::Log { filter } => {
                let log = self.log.as_ref();
                let log = log.ok_or_else(|| failed("this worker's log is not Leveret's to change"))?;
                log.set(filter).map_err(failed)?;
                Answer::Ok
            }
            Command::Drain {} => {
                controlled.drain();
                Answer::Ok
            }
            // Once the answer is out.
            Command::Stop {} => Answer::Ok,
            _ => return Err(Refusal::new(RefusalKind::UnknownCommand, "this version has no such command")),
        };
        Ok(answer)
    }

    fn check(&self, queue: &QueueName) -> Result<(), Refusal> {
        if self.announcer.pauses.knows(queue) {
            return Ok(());
        }
        let text = format!("this worker does not consume from queue {:?}", queue.as_str());
        Err(Refusal::new(RefusalKind::UnknownQueue, text))
    }

    fn running(&self, queue: Option<&QueueName>) -> Answer {
        let mut tasks: Vec<RunningTask> = self.announcer.controlled.running();
        tasks.retain(|task| queue.is_none_or(|queue| task.queue == *queue));
        let total = tasks.len();
        tasks.sort_by_key(|task| task.since);
        tasks.truncate(LISTED);
        Answer::Running { tasks, total }
    }

    /// Sends the reply without waiting for it, unless it is the last.
    async fn reply(&self, request: &Heard, reply: &Reply, last: bool) {
        let Some(message) = reply.to_message(&request.properties) else {
            return;
        };
        // While the broker does not take what we publish, replies must not pile up here.
        let Ok(place) = self.replies.clone().try_acquire_owned() else {
            return warn!("a reply was dropped: the broker takes none of those before it");
        };
        let publisher = self.announcer.publisher.clone();
        let sent = leveret_common::link::spawn(async move {
            let _place = place;
            if let Err(error) = publisher.publish(message).await {
                warn!("cannot reply to a command: {error}");
            }
        });
        if last {
            let _ = tokio::time::timeout(LAST_REPLY, sent).await;
        }
    }
}

fn failed(text: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Failed, text)
}
