//! What happens, at this centre and the others, for all streams of this one.
//!
//! Of tasks the watcher tells; changes of schedules are looked for in the audit log, ticks where they are kept.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use leveret_common::{
    clock::UnixMillis,
    registry::{Change, Instance, Peer},
    task::TaskId,
};
use tokio::sync::broadcast::{self, error::RecvError};
use tracing::warn;

use super::super::Api;
use crate::centre::{
    database::DatabaseError,
    store::{
        AuditEntry, AuditSearch, TickRecord,
        tasks::{Task, TaskFilter},
    },
    watch::Announcer,
};

/// How often it is looked for, while somebody listens.
const LOOK: Duration = Duration::from_millis(250);
/// How far back: clocks of centres differ, and transactions take their time.
const BACK: Duration = Duration::from_secs(3);
/// The most that one look takes.
const MOST: u32 = 1_000;

/// Something that happened.
#[derive(Clone, Debug)]
pub(in super::super) enum News {
    /// Something new was learnt of a task.
    Task(Arc<Task>),
    /// A worker came, changed or went.
    Worker(&'static str, Arc<Peer>),
    /// Somebody changed a schedule.
    Schedule(Arc<AuditEntry>),
    /// A tick was decided about.
    Tick(Arc<TickRecord>),
    /// More happened than can be told.
    Missed,
}

/// Where it is told.
#[derive(Debug)]
pub(in super::super) struct Feed(broadcast::Sender<News>);

impl Default for Feed {
    fn default() -> Self {
        Self(broadcast::Sender::new(4_096))
    }
}

impl Feed {
    pub(super) fn listen(&self) -> broadcast::Receiver<News> {
        self.0.subscribe()
    }

    /// Looks for what happens, for as long as the server runs.
    pub(in super::super) async fn run(api: Api) {
        let mut seen = Seen::default();
        let mut tasks = api.announcer.as_ref().map(Announcer::subscribe);
        let mut workers = api.broker.as_ref().map(|broker| broker.registry.changes());
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    if api.feed.0.receiver_count() == 0 {
                        seen = Seen::default();
                    } else if let Err(error) = seen.look(&api).await {
                        warn!("cannot look for what happens: {error}");
                    }
                }
                task = next(&mut tasks) => match task {
                    Ok(task) => api.feed.tell(News::Task(task)),
                    Err(RecvError::Lagged(_)) => api.feed.tell(News::Missed),
                    Err(RecvError::Closed) => tasks = None,
                },
                change = next(&mut workers) => match change {
                    Ok(change) => seen.worker(&api, change),
                    Err(RecvError::Lagged(_)) => api.feed.tell(News::Missed),
                    Err(RecvError::Closed) => workers = None,
                }
            }
        }
    }

    fn tell(&self, news: News) {
        // Nobody need be listening.
        let _ = self.0.send(news);
    }
}

async fn next<T: Clone>(receiver: &mut Option<broadcast::Receiver<T>>) -> Result<T, RecvError> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// What was told already.
#[derive(Default)]
struct Seen {
    tasks: HashMap<TaskId, UnixMillis>,
    changes: HashSet<String>,
    ticks: HashSet<TaskId>,
    workers: HashMap<Instance, String>,
    /// Up to when it was looked. The first look goes back a little as well: what happened since somebody began to listen
    /// is not to be missed.
    until: Option<UnixMillis>,
}

impl Seen {
    async fn look(&mut self, api: &Api) -> Result<(), DatabaseError> {
        let now = api.store.clock().now();
        let from = self.until.unwrap_or(now) - BACK;
        if api.announcer.is_none() {
            self.look_for_tasks(api, from).await?;
        }
        let search = AuditSearch { action: Some("schedule".to_owned()), since: Some(from), ..AuditSearch::default() };
        let mut changes = HashSet::new();
        for entry in api.store.audit_log(&search, MOST).await?.into_iter().rev() {
            let is_new = !self.changes.contains(&entry.id);
            changes.insert(entry.id.clone());
            if is_new {
                api.feed.tell(News::Schedule(Arc::new(entry)));
            }
        }
        self.changes = changes;
        self.look_for_ticks(api, from).await?;
        self.until = Some(now);
        Ok(())
    }

    async fn look_for_ticks(&mut self, api: &Api, from: UnixMillis) -> Result<(), DatabaseError> {
        let found = api.store.ticks_since(from, MOST).await?;
        let ids: HashSet<_> = found.iter().map(|tick| tick.task_id.clone()).collect();
        let mut new: Vec<_> = found.into_iter().filter(|tick| !self.ticks.contains(&tick.task_id)).collect();
        if u32::try_from(new.len()).is_ok_and(|new| new >= MOST) {
            api.feed.tell(News::Missed);
        }
        new.reverse();
        new.into_iter().for_each(|tick| api.feed.tell(News::Tick(Arc::new(tick))));
        self.ticks = ids;
        Ok(())
    }

    async fn look_for_tasks(&mut self, api: &Api, from: UnixMillis) -> Result<(), DatabaseError> {
        let filter = TaskFilter { changed_from: Some(from), ..TaskFilter::default() };
        let found = api.store.search(&filter, None, MOST).await?;
        if found.next.is_some() {
            api.feed.tell(News::Missed);
        }
        let mut tasks = HashMap::new();
        for task in found.items.into_iter().rev() {
            let is_new = self.tasks.get(&task.id).is_none_or(|at| *at < task.changed_at);
            tasks.insert(task.id.clone(), task.changed_at);
            if is_new {
                api.feed.tell(News::Task(Arc::new(task)));
            }
        }
        self.tasks = tasks;
        Ok(())
    }

    fn worker(&mut self, api: &Api, change: Change) {
        let (what, peer) = match change {
            Change::Online(peer) => ("online", peer),
            Change::Changed(peer) => ("changed", peer),
            Change::Lost(peer) => ("lost", peer),
            Change::Offline(peer) => ("offline", peer),
            _ => return,
        };
        // A beat that says nothing new is no news.
        let queues = peer.beat.queues.iter();
        let parts = queues.map(|queue| {
            let (concurrency, busy, attached) = (queue.concurrency, queue.busy, queue.attached);
            format!("{} {concurrency} {busy} {attached} {:?}", queue.queue, queue.paused)
        });
        let state = format!("{what} {} {}", peer.beat.state.as_str(), parts.collect::<Vec<_>>().join(","));
        let known = self.workers.insert(peer.beat.instance, state.clone());
        if !peer.is_live() {
            self.workers.remove(&peer.beat.instance);
        }
        if known.is_none_or(|known| known != state) {
            api.feed.tell(News::Worker(what, peer));
        }
    }
}
