//! Who follows tasks at one centre hears of what the others have written as well.

use std::{sync::Arc, time::Duration};

use leveret_common::{
    event,
    link::{Heard, Link, Listener, ListenerSettings, Publisher, spawn},
    registry::Instance,
    topology::Names,
    wire::TooLong,
};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tracing::debug;

use super::queues::Queues;
use crate::centre::store::tasks::Task;

/// The routing key at the exchange of events.
const KEY: &str = "centre.tasks";
/// Changes that a follower may be behind before it loses the oldest, and is told so.
const ROOM: usize = 4_096;
/// How long a message may wait for another centre.
const LIFETIME: Duration = Duration::from_secs(30);
/// Tasks in one message.
const BATCH: usize = 512;

/// Tells followers which tasks have changed.
#[derive(Debug)]
pub(super) struct Relay {
    changes: broadcast::Sender<Arc<Task>>,
    /// Hears of the queues of the tasks.
    queues: Arc<Queues>,
    /// To the other centres, where there may be some.
    others: Option<Others>,
}

#[derive(Debug)]
struct Others {
    centre: Instance,
    publisher: Publisher,
    names: Names,
    /// Hears what they write, for as long as it lives.
    _listener: Listener,
}

#[derive(Serialize, Deserialize)]
struct Changed {
    centre: Instance,
    tasks: Vec<Task>,
}

impl Relay {
    /// For a centre that is alone.
    pub(super) fn alone(queues: Arc<Queues>) -> Self {
        Self { changes: broadcast::channel(ROOM).0, queues, others: None }
    }

    /// For one of several.
    pub(super) fn among(
        listening: Link,
        publisher: Publisher,
        names: &Names,
        queues: Arc<Queues>,
    ) -> Result<Self, TooLong> {
        let centre = Instance::new();
        let changes = broadcast::channel(ROOM).0;
        let settings = ListenerSettings {
            queue: format!("{}.{centre}", names.centre()),
            bindings: vec![(names.events().to_owned(), KEY.to_owned())],
            prefetch: 64,
            room: 10_000,
            patience: LIFETIME,
        };
        let heard = changes.clone();
        let listener = Listener::start(listening, settings, move |message| {
            tell(&heard, centre, &message);
            std::future::ready(())
        })?;
        let others = Others { centre, publisher, names: names.clone(), _listener: listener };
        Ok(Self { changes, queues, others: Some(others) })
    }

    pub(super) fn follow(&self) -> broadcast::Receiver<Arc<Task>> {
        self.changes.subscribe()
    }

    /// Tells followers here and elsewhere. What does not get through is not told again: it is in the database.
    pub(super) async fn announce(&self, tasks: Vec<Task>) {
        tasks.iter().for_each(|task| self.queues.hear(&task.queue));
        if let Some(others) = &self.others {
            for tasks in tasks.chunks(BATCH) {
                others.tell(tasks).await;
            }
        }
        for task in tasks {
            // Nobody need be following.
            let _ = self.changes.send(Arc::new(task));
        }
    }
}

impl Others {
    async fn tell(&self, tasks: &[Task]) {
        let body = serde_json::to_vec(&Changed { centre: self.centre, tasks: tasks.to_vec() }).unwrap_or_default();
        let Ok(message) = event::message(&self.names, KEY, body, LIFETIME) else { return };
        // The confirm is not waited for: while the broker is away there is nobody to hear it.
        match tokio::time::timeout(Duration::from_secs(1), self.publisher.submit(message)).await {
            Ok(Ok(confirmed)) => drop(spawn(confirmed)),
            _ => debug!("other centres are not told which tasks have changed"),
        }
    }
}

fn tell(changes: &broadcast::Sender<Arc<Task>>, own: Instance, message: &Heard) {
    if changes.receiver_count() == 0 {
        return;
    }
    match serde_json::from_slice::<Changed>(&message.body) {
        Ok(changed) if changed.centre == own => {}
        Ok(changed) => changed.tasks.into_iter().for_each(|task| drop(changes.send(Arc::new(task)))),
        Err(error) => debug!("cannot read which tasks another centre has changed: {error}"),
    }
}
