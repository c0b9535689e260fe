//! Schedules that a file declares, beside those that were made over REST.

use std::collections::BTreeSet;

use super::store::{Expected, ScheduleError, ScheduleFilter, Source, Store};
use crate::plan::{Definition, ScheduleName};

/// Schedules on one page of the list that is gone through.
const PAGE: u32 = 500;
/// How often it is tried to change a schedule that another centre changes at the same moment.
const TRIES: usize = 5;

/// What became of the schedules of a file.
#[derive(Debug, Default)]
pub struct Applied {
    /// Those that are new.
    pub made: Vec<ScheduleName>,
    /// Those that are different now.
    pub changed: Vec<ScheduleName>,
    /// Those that the file names no more.
    pub removed: Vec<ScheduleName>,
    /// How many are as they were.
    pub kept: usize,
    /// Those that cannot be as the file says, and why. They are as they were.
    pub refused: Vec<(ScheduleName, Refused)>,
}

/// A schedule cannot be as the file says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// One of its name was made over REST.
    #[error("one of this name was made over REST: give the table another name, or remove that one first")]
    Taken,
    /// It cannot work.
    #[error(transparent)]
    Schedule(ScheduleError),
}

impl Store {
    /// Makes the schedules of a file what it says: those that it names are made or changed, and those that it named
    /// before are removed. What was made over REST is left alone. Each by itself, so that one that is wrong holds up none.
    ///
    /// # Errors
    /// [`ScheduleError::Database`].
    pub async fn apply_declared(&self, declared: &[(ScheduleName, Definition)]) -> Result<Applied, ScheduleError> {
        let mut applied = Applied::default();
        for (name, definition) in declared {
            match self.declare(name, definition).await {
                Ok(Some((is_new, true))) if is_new => applied.made.push(name.clone()),
                Ok(Some((_, true))) => applied.changed.push(name.clone()),
                Ok(Some((_, false))) => applied.kept += 1,
                Ok(None) => applied.refused.push((name.clone(), Refused::Taken)),
                Err(error @ ScheduleError::Database(_)) => return Err(error),
                Err(error) => applied.refused.push((name.clone(), Refused::Schedule(error))),
            }
        }
        let names: BTreeSet<_> = declared.iter().map(|(name, _)| name).collect();
        let filter = ScheduleFilter { source: Some(Source::File), ..ScheduleFilter::default() };
        let mut cursor = None;
        loop {
            let page = self.schedules(&filter, cursor.as_deref(), PAGE).await?;
            for left in page.items.into_iter().filter(|left| !names.contains(&left.name)) {
                match self.remove_schedule(&left.name, Expected::Revision(left.revision), None).await {
                    Ok(()) => applied.removed.push(left.name),
                    // Another centre applies the same file, or somebody has just taken it over.
                    Err(ScheduleError::Absent { .. } | ScheduleError::Changed { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(applied);
            }
        }
    }

    /// Whether it is new, and whether anything changed; `None` when its name is taken.
    async fn declare(
        &self,
        name: &ScheduleName,
        definition: &Definition,
    ) -> Result<Option<(bool, bool)>, ScheduleError> {
        let calendars = self.calendars_named(&definition.calendars).await?;
        let calendars: Vec<_> = calendars.into_iter().map(|stored| stored.calendar).collect();
        let mut tries = 0;
        loop {
            let expected = match self.schedule(name).await {
                Ok(present) if present.source != Source::File => return Ok(None),
                Ok(present) => Expected::Revision(present.revision),
                Err(ScheduleError::Absent { .. }) => Expected::Absent,
                Err(error) => return Err(error),
            };
            tries += 1;
            match self.save_schedule(name, definition, &calendars, Source::File, expected, None).await {
                Ok(saved) => return Ok(Some((saved.is_new, saved.has_changed))),
                Err(ScheduleError::Changed { .. }) if tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }
}
