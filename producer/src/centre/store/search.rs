//! Lists of schedules.

use super::{Page, ScheduleError, Source, Store, StoredSchedule, schedules};
use crate::{
    centre::database::{DatabaseError, Value},
    plan::{Calendar, InvalidDefinition, Plan, ScheduleName},
};

/// Which schedules are wanted. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleFilter {
    /// Of this namespace.
    pub namespace: Option<String>,
    /// With a label of this name, and with this value if there is one.
    pub label: Option<(String, Option<String>)>,
    /// With this text in name, task, queue or anything else of the definition, large or small letters.
    pub text: Option<String>,
    /// Paused, or not.
    pub paused: Option<bool>,
    /// Made by this.
    pub source: Option<Source>,
}

/// What became of the schedules that refer to a calendar which has changed.
#[derive(Debug, Default)]
pub struct Followed {
    /// How many have followed it.
    pub changed: u64,
    /// Those that could not, and why: they keep their next tick until they are changed.
    pub left: Vec<(ScheduleName, InvalidDefinition)>,
}

const REFER: &str = "SELECT namespace, name FROM leveret_centre_schedules WHERE definition LIKE $1 ESCAPE '!'";
/// The revision says to all centres that what they know of it is old.
const SET_NEXT: &str = "UPDATE leveret_centre_schedules SET next_at = $3, next_due = $4, revision = revision + 1
    WHERE namespace = $1 AND name = $2 AND revision = $5 AND paused IS NULL";
const COUNT: &str = "SELECT count(*) AS total FROM leveret_centre_schedules";

impl Store {
    /// Schedules in the order of their names, from `cursor` on, at most `limit`.
    ///
    /// # Errors
    /// [`ScheduleError::Cursor`], [`ScheduleError::Database`].
    pub async fn schedules(
        &self,
        filter: &ScheduleFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<StoredSchedule>, ScheduleError> {
        let mut search = Search::default();
        if let Some(cursor) = cursor {
            let (namespace, name) =
                cursor.split_once('/').ok_or_else(|| ScheduleError::Cursor { cursor: cursor.to_owned() })?;
            let (namespace, name) = (search.value(namespace), search.value(name));
            search.conditions.push(format!("(namespace, name) > ({namespace}, {name})"));
        }
        if let Some(namespace) = &filter.namespace {
            let namespace = search.value(namespace.as_str());
            search.conditions.push(format!("namespace = {namespace}"));
        }
        if let Some((label, value)) = &filter.label {
            let label = search.value(label.as_str());
            let found = if self.database.is_shared() {
                format!("CAST(definition AS jsonb) -> 'labels' ->> {label}")
            } else {
                // A label may have dots and quotes, which a path would read otherwise.
                format!("(SELECT value FROM json_each(definition, '$.labels') WHERE key = {label})")
            };
            let wanted = value.as_ref().map(|value| search.value(value.as_str()));
            let wanted = wanted.map_or_else(|| "IS NOT NULL".to_owned(), |value| format!("= {value}"));
            search.conditions.push(format!("{found} {wanted}"));
        }
        if let Some(text) = &filter.text {
            let like = search.value(containing(&text.to_lowercase()));
            search.conditions.push(format!(
                "(lower(namespace || '/' || name) LIKE {like} ESCAPE '!' OR lower(definition) LIKE {like} ESCAPE '!')"
            ));
        }
        match filter.paused {
            Some(true) => search.conditions.push("paused IS NOT NULL".to_owned()),
            Some(false) => search.conditions.push("paused IS NULL".to_owned()),
            None => {}
        }
        if let Some(source) = filter.source {
            let source = search.value(source.as_str());
            search.conditions.push(format!("source = {source}"));
        }
        let most = search.value(i64::from(limit) + 1);
        let (columns, conditions) = (schedules::COLUMNS, search.conditions());
        let statement =
            format!("SELECT {columns} FROM leveret_centre_schedules{conditions} ORDER BY namespace, name LIMIT {most}");
        let rows = self.database.search(statement, search.values).await?;
        let items = rows.iter().map(schedules::read).collect::<Result<_, _>>()?;
        Ok(Page::of(items, limit, |last: &StoredSchedule| format!("{}/{}", last.name.namespace(), last.name.name())))
    }

    /// How many schedules there are.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn schedule_count(&self) -> Result<i64, DatabaseError> {
        self.database.fetch(COUNT, []).await?.first().map_or(Ok(0), |row| row.number("total"))
    }

    /// Computes the next tick of the schedules that refer to this calendar, for its days have changed; their revisions are
    /// raised. One that does not go together with it keeps its next tick, and holds up no other.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn calendar_changed(&self, calendar: &str, calendars: &[Calendar]) -> Result<Followed, DatabaseError> {
        let refer = REFER.to_owned();
        let quoted = serde_json::to_string(calendar).map_err(DatabaseError::Json)?;
        let rows = self.database.search(refer, [containing(&quoted).into()]).await?;
        let mut followed = Followed::default();
        for row in rows {
            let name: ScheduleName = schedules::read_name(&row, "namespace", "name")?;
            let mut transaction = self.database.begin().await?;
            let Some(old) = schedules::lock(&mut transaction, &name).await? else { continue };
            // A fixed delay has its next from the end of its last run.
            let is_meant = old.definition.calendars.iter().any(|named| named == calendar);
            let Some(next) = old.next.filter(|_| is_meant && old.definition.after.is_none()) else { continue };
            let plan = match Plan::new(name.clone(), old.definition, calendars) {
                Ok(plan) => plan,
                Err(error) => {
                    followed.left.push((name, error));
                    continue;
                }
            };
            // What is due already stays due.
            let from = self.clock.now();
            let next = if next.scheduled_at <= from { Some(next) } else { plan.next_after(from) };
            let mut values = schedules::key(&name);
            values.extend([next.map(|tick| tick.scheduled_at).into(), next.map(|tick| tick.due_at).into()]);
            values.push(old.revision.into());
            followed.changed += transaction.execute(SET_NEXT, values).await?;
            transaction.commit().await?;
        }
        self.wake();
        Ok(followed)
    }
}

/// A pattern for what has this text in it.
fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.chars() {
        if "%_!".contains(letter) {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

/// Conditions and their values.
#[derive(Default)]
struct Search {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Search {
    /// The parameter that stands for a value.
    fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    fn conditions(&self) -> String {
        if self.conditions.is_empty() { String::new() } else { format!(" WHERE {}", self.conditions.join(" AND ")) }
    }
}
