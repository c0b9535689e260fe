//! What workers tell of tasks.

use std::collections::BTreeMap;

use leveret_common::{
    clock::UnixMillis,
    event::{EventBatch, Happening, TaskEvent},
    registry::Instance,
    task::TaskId,
};

use super::{Task, life::Life, write::News};
use crate::centre::{
    database::DatabaseError,
    store::{RunEnd, RunEnded, Store, shards},
};

/// What has come of taking note.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// The tasks of which something new was learnt, as in a list.
    pub changed: Vec<Task>,
}

/// An event, and who told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The worker's name.
    pub worker: String,
    /// Its instance.
    pub instance: Instance,
    /// What happened.
    pub event: TaskEvent,
}

impl Told {
    /// The events of a message.
    pub fn of(batch: EventBatch) -> impl Iterator<Item = Self> {
        let EventBatch { worker, instance, events } = batch;
        events.into_iter().map(move |event| Self { worker: worker.clone(), instance, event })
    }

    /// What it means for a tick, if it means an end.
    fn run_ended(&self) -> Option<RunEnded> {
        let end = match &self.event.what {
            Happening::Done { .. } => RunEnd::Done,
            Happening::Dead { error, .. } => RunEnd::Dead(error.clone()),
            // Neither a success nor a failure.
            Happening::Cancelled { .. } | Happening::Discarded { .. } => RunEnd::Cancelled,
            _ => return None,
        };
        Some(RunEnded { task_id: self.event.id.clone(), end, at: self.event.at })
    }

    /// A sign of life of a task that may be a tick's.
    fn run_heard(&self) -> Option<(TaskId, UnixMillis)> {
        let lives = matches!(
            self.event.what,
            Happening::Started { .. } | Happening::Progress(_) | Happening::Failed { .. } | Happening::Snoozed { .. }
        );
        lives.then(|| (self.event.id.clone(), self.event.at))
    }
}

impl Store {
    /// Takes in what workers tell, all of it in one transaction, and tells the ticks whose tasks have ended. The order of
    /// events, by one call or several, at one centre or several, changes nothing of what comes of them; nor does
    /// repetition.
    ///
    /// # Errors
    /// [`DatabaseError`]; nothing is taken in then.
    pub async fn apply<'a>(&self, events: impl IntoIterator<Item = &'a Told>) -> Result<Applied, DatabaseError> {
        // No database takes a zero in a text, and another id would be another task.
        let readable = events.into_iter().filter(|told| !told.event.id.as_str().contains('\0'));
        let events: Vec<_> = readable.collect();
        if events.is_empty() {
            return Ok(Applied::default());
        }
        let lives = events.iter().map(|told| Life::told(&told.worker, told.instance, &told.event));
        let news = News::of(lives, self.clock.now())?;
        let runs: Vec<_> = events.iter().filter_map(|told| told.run_ended()).collect();
        let heard: Vec<_> = events.iter().filter_map(|told| told.run_heard()).collect();
        let mut transaction = self.database.begin().await?;
        let ids: Vec<_> = events.iter().map(|told| told.event.id.as_str()).collect();
        shards::lock_of_tasks(self, &mut transaction, &ids).await?;
        let changed = self.write_tasks(&mut transaction, news).await?;
        self.runs_heard(&mut transaction, &heard).await?;
        if !runs.is_empty() {
            self.runs_ended(&mut transaction, &runs).await?;
        }
        transaction.commit().await?;
        if !runs.is_empty() {
            // What waited for them is due now.
            self.wake();
        }
        Ok(Applied { changed })
    }

    /// Whether an event of a task could be written at all. Nothing of it remains.
    pub(crate) async fn takes_events(&self) -> bool {
        let event = TaskEvent {
            id: TaskId::new(),
            task: "probe".to_owned(),
            queue: "probe".to_owned(),
            attempt: 1,
            at: self.clock.now(),
            trace_id: None,
            replays: 0,
            schedule: None,
            scheduled_at: None,
            labels: BTreeMap::new(),
            what: Happening::Started { waited_ms: None },
        };
        let life = Life::told("probe", Instance::new(), &event);
        let Ok(news) = News::of(std::iter::once(life), self.clock.now()) else { return false };
        let Ok(mut transaction) = self.database.begin().await else { return false };
        self.write_tasks(&mut transaction, news).await.is_ok()
    }
}
