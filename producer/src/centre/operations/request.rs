//! Which dead letters are meant, as it is asked for and stored.

use std::collections::BTreeSet;

use leveret_common::{clock::UnixMillis, dead_letters::Selection, limit::Rate};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which dead letters are meant: those for which every condition that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = LetterConditions)]
pub struct Conditions {
    /// With one of these task ids.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ids: BTreeSet<String>,
    /// Dead for this reason, such as `exhausted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of the task with this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// With this text in the error, capital letters or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// That failed before this moment, in Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub failed_before: Option<UnixMillis>,
    /// That failed at this moment or later, in Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub failed_after: Option<UnixMillis>,
}

/// What an operation is asked to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = LettersMeant, example = json!({"only": {"reason": "timeout", "task": "mail.send"}, "rate": "500/s"}))]
pub struct Request {
    /// Which dead letters are meant. They are said outright: without a condition, `all` must be true.
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    pub only: Conditions,
    /// All of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// At most so many, from the head of the queue on, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub limit: Option<u64>,
    /// No faster than this, such as `500/s` or `30/min`. Only of a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "500/s")]
    pub rate: Option<Rate>,
}

/// The same conditions in the query of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ConditionsQuery {
    /// With this task id.
    #[param(min_length = 1, max_length = 255)]
    pub id: Option<String>,
    /// Dead for this reason, such as `exhausted`.
    #[param(min_length = 1, max_length = 255)]
    pub reason: Option<String>,
    /// Of the task with this name.
    #[param(min_length = 1, max_length = 255)]
    pub task: Option<String>,
    /// With this text in the error, capital letters or not.
    #[param(min_length = 1, max_length = 255)]
    pub error: Option<String>,
    /// That failed before this moment, in Unix milliseconds.
    pub failed_before: Option<i64>,
    /// That failed at this moment or later, in Unix milliseconds.
    pub failed_after: Option<i64>,
    /// At most so many: of a list 1 to 1000, and 100 unless asked otherwise; of groups 1 to 100,000, and 10,000.
    #[param(minimum = 1, maximum = 100_000)]
    pub limit: Option<u32>,
}

impl Conditions {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Without a limit.
    pub fn selection(&self) -> Selection {
        let mut selection = self.ids.iter().fold(Selection::all(), |selection, id| selection.id(id));
        if let Some(reason) = &self.reason {
            selection = selection.reason(reason);
        }
        if let Some(task) = &self.task {
            selection = selection.task(task);
        }
        if let Some(error) = &self.error {
            selection = selection.error(error);
        }
        if let Some(at) = self.failed_before {
            selection = selection.failed_before(at);
        }
        if let Some(at) = self.failed_after {
            selection = selection.failed_after(at);
        }
        selection
    }
}

impl From<&ConditionsQuery> for Conditions {
    fn from(query: &ConditionsQuery) -> Self {
        Self {
            ids: query.id.iter().cloned().collect(),
            reason: query.reason.clone(),
            task: query.task.clone(),
            error: query.error.clone(),
            failed_before: query.failed_before.map(UnixMillis),
            failed_after: query.failed_after.map(UnixMillis),
        }
    }
}

impl Request {
    /// Checks what the types cannot: an error says what to do.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        match (self.all, self.only.is_empty()) {
            (false, true) => return Err("say which are meant: `all`: true, or conditions in `only`"),
            (true, false) => return Err("`all` leaves nothing to choose: give `all` or conditions, not both"),
            _ => {}
        }
        if self.limit == Some(0) { Err("a `limit` of 0 leaves nothing to do: write 1 or more") } else { Ok(()) }
    }

    /// What is left to do after `done`.
    pub fn selection(&self, done: i64) -> Selection {
        let selection = self.only.selection();
        let left = |limit: u64| limit.saturating_sub(u64::try_from(done).unwrap_or(0));
        self.limit.map_or(selection.clone(), |limit| selection.limit(left(limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_outright_which_are_meant() {
        let read = |text: &str| serde_json::from_str::<Request>(text).unwrap();
        for right in [r#"{"all":true}"#, r#"{"only":{"reason":"timeout"},"rate":"500/s","limit":3}"#] {
            assert_eq!(read(right).check(), Ok(()), "{right}");
            let again: Request = serde_json::from_str(&serde_json::to_string(&read(right)).unwrap()).unwrap();
            assert_eq!(again, read(right));
        }
        for wrong in ["{}", r#"{"all":true,"only":{"task":"a"}}"#, r#"{"all":true,"limit":0}"#] {
            assert!(read(wrong).check().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Request>(r#"{"al":true}"#).is_err());
    }
}
