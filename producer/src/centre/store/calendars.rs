//! Calendars. They belong to no namespace: a holiday is one for everybody.

use leveret_common::clock::UnixMillis;

use super::Store;
use crate::{
    centre::database::{DatabaseError, Row, Transaction, Value, Wording},
    plan::Calendar,
};

const ALL: &str = "SELECT name, revision, days, created_at, changed_at FROM leveret_centre_calendars ORDER BY name";
const ONE: &str = "SELECT name, revision, days, created_at, changed_at FROM leveret_centre_calendars WHERE name = $1";
const SEARCH: &str = "SELECT name, revision, days, created_at, changed_at FROM leveret_centre_calendars \
    WHERE name > $1 ORDER BY name LIMIT $2";
const NAMED: Wording = Wording::Each(
    "SELECT name, revision, days, created_at, changed_at FROM leveret_centre_calendars \
        WHERE name IN (SELECT value FROM json_each($1)) ORDER BY name",
    "SELECT name, revision, days, created_at, changed_at FROM leveret_centre_calendars \
        WHERE name IN (SELECT json_array_elements_text($1::json)) ORDER BY name",
);
const ADD: &str = "INSERT INTO leveret_centre_calendars (name, revision, days, created_at, changed_at) \
    VALUES ($1, 1, $2, $3, $3) ON CONFLICT (name) DO NOTHING";
const CHANGE: &str = "UPDATE leveret_centre_calendars SET days = $2, changed_at = $3, revision = revision + 1 \
    WHERE name = $1 AND revision = $4";
const REMOVE: &str = "DELETE FROM leveret_centre_calendars WHERE name = $1 AND revision = $2";

/// A calendar as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCalendar {
    /// Its name and days.
    pub calendar: Calendar,
    /// Raised with each change, from 1 on.
    pub revision: i64,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub changed_at: UnixMillis,
}

impl StoredCalendar {
    fn read(row: &Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            calendar: Calendar { name: row.text("name")?, days: row.json("days")? },
            revision: row.number("revision")?,
            created_at: row.moment("created_at")?,
            changed_at: row.moment("changed_at")?,
        })
    }
}

impl Store {
    /// All calendars, by their names.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn calendars(&self) -> Result<Vec<StoredCalendar>, DatabaseError> {
        self.database.fetch(ALL, []).await?.iter().map(StoredCalendar::read).collect()
    }

    /// Those of these names that are there, by their names.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn calendars_named(&self, names: &[String]) -> Result<Vec<StoredCalendar>, DatabaseError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        self.database.fetch(NAMED, [Value::json(names)?]).await?.iter().map(StoredCalendar::read).collect()
    }

    /// At most `limit` calendars whose names come after `after`.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn calendars_after(&self, after: &str, limit: u32) -> Result<Vec<StoredCalendar>, DatabaseError> {
        self.database.fetch(SEARCH, [after.into(), limit.into()]).await?.iter().map(StoredCalendar::read).collect()
    }

    /// One calendar, if it is there.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn calendar(&self, name: &str) -> Result<Option<StoredCalendar>, DatabaseError> {
        self.database.fetch(ONE, [name.into()]).await?.first().map(StoredCalendar::read).transpose()
    }

    /// Adds a calendar, or changes the one of this revision. The new revision; `None` when another revision is there, or
    /// none, or one where none was expected.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn save_calendar(
        &self,
        transaction: &mut Transaction,
        calendar: &Calendar,
        expected: Option<i64>,
    ) -> Result<Option<i64>, DatabaseError> {
        let (name, days, now) = (calendar.name.as_str(), Value::json(&calendar.days)?, self.clock.now());
        let (changed, revision) = match expected {
            None => (transaction.execute(ADD, [name.into(), days, now.into()]).await?, 1),
            Some(revision) => {
                let values = [name.into(), days, now.into(), revision.into()];
                (transaction.execute(CHANGE, values).await?, revision.saturating_add(1))
            }
        };
        Ok((changed > 0).then_some(revision))
    }

    /// Removes the calendar of this revision. Whether it was there.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn remove_calendar(
        &self,
        transaction: &mut Transaction,
        name: &str,
        revision: i64,
    ) -> Result<bool, DatabaseError> {
        Ok(transaction.execute(REMOVE, [name.into(), revision.into()]).await? > 0)
    }
}
