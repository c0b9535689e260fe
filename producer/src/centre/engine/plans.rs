//! Definitions that were read, so that they need not be read each time.

use std::{collections::HashMap, sync::Arc};

use tracing::error;

use crate::{
    centre::{
        database::DatabaseError,
        store::{Store, turns::DueSchedule},
    },
    plan::{Plan, ScheduleName},
};

/// Plans that are kept. Beyond, those that were not used lately go.
const MOST: usize = 20_000;

/// The plans of schedules that are due often.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    kept: HashMap<ScheduleName, Kept>,
    turn: u64,
}

#[derive(Debug)]
struct Kept {
    revision: i64,
    /// `None` when the definition cannot work any more: a calendar is gone, for one.
    plan: Option<Arc<Plan>>,
    used: u64,
}

impl Plans {
    /// Reads the definitions of these schedules that are not known at their revision.
    pub(crate) async fn load(&mut self, store: &Store, due: &[DueSchedule]) -> Result<(), DatabaseError> {
        self.turn += 1;
        let turn = self.turn;
        let mut unknown = Vec::new();
        for schedule in due {
            match self.kept.get_mut(&schedule.name) {
                Some(kept) if kept.revision == schedule.revision => kept.used = turn,
                _ => unknown.push(&schedule.name),
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let read = store.definitions(unknown.into_iter()).await?;
        let calendars = store.calendars_of(read.iter().map(|(_, _, definition)| definition)).await?;
        for (name, revision, definition) in read {
            let plan = match Plan::new(name.clone(), definition, &calendars) {
                Ok(plan) => Some(Arc::new(plan)),
                Err(error) => {
                    error!(schedule = %name, %error, "a schedule cannot run any more: save it again");
                    None
                }
            };
            self.kept.insert(name, Kept { revision, plan, used: turn });
        }
        if self.kept.len() > MOST {
            let mut used: Vec<_> = self.kept.values().map(|kept| kept.used).collect();
            used.sort_unstable();
            let half = used[used.len() / 2];
            self.kept.retain(|_, kept| kept.used > half || kept.used == turn);
        }
        Ok(())
    }

    /// The plan of a schedule at its revision, if it was [loaded](Self::load).
    pub(crate) fn get(&self, schedule: &DueSchedule) -> Option<Arc<Plan>> {
        self.kept.get(&schedule.name).filter(|kept| kept.revision == schedule.revision)?.plan.clone()
    }

    /// Forgets all: calendars have changed, perhaps.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
    }
}
