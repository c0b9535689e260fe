//! Tells workers to stop runs that others wait for.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use leveret_common::{
    control::{Command, Control, ControlError, Target},
    link::Link,
    task::TaskId,
    topology::{InvalidName, QueueName},
};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::centre::store::lanes::OpenTick;

/// A run that has not ended is told again after that: it may not have begun when it was told.
const AGAIN: Duration = Duration::from_secs(3);
/// A run that waits is not begun meanwhile. Those who still have to be told are told again within that time.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How long workers have to answer, for the log.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Canceller {
    control: Control,
    told: HashMap<TaskId, Instant>,
}

impl Canceller {
    pub(crate) fn new(link: Link) -> Result<Self, InvalidName> {
        Ok(Self { control: Control::on(link)?, told: HashMap::new() })
    }

    /// Tells workers to stop these runs, in the background.
    pub(crate) fn cancel(&mut self, ticks: &[OpenTick]) {
        let now = Instant::now();
        self.told.retain(|_, told| now < *told + AGAIN);
        let mut by_queue: BTreeMap<&str, Vec<TaskId>> = BTreeMap::new();
        for tick in ticks.iter().filter(|tick| !self.told.contains_key(&tick.task_id)) {
            by_queue.entry(&tick.queue).or_default().push(tick.task_id.clone());
        }
        for (queue, ids) in by_queue {
            self.told.extend(ids.iter().map(|id| (id.clone(), now)));
            let Ok(queue) = QueueName::new(queue) else { continue };
            let control = self.control.clone();
            tokio::spawn(async move {
                let reason = Some("a later run of its schedule is due".to_owned());
                let remember_ms = u64::try_from(REMEMBERED.as_millis()).ok();
                let command = Command::Cancel { ids, reason, remember_ms, replays: None };
                match control.send(&Target::Queue(queue.clone()), &command, PATIENCE).await {
                    Ok(replies) => debug!(%queue, workers = replies.len(), "told workers to stop runs"),
                    // Nobody runs it, then: it is told again, should somebody begin.
                    Err(ControlError::Nobody { .. } | ControlError::NoExchange { .. }) => {}
                    Err(error) => warn!(%queue, %error, "workers could not be told to stop runs"),
                }
            });
        }
    }
}
