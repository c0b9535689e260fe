//! Dead letters looked at, and put right one by one.

use std::collections::BTreeMap;

use bytes::Bytes;
use leveret_common::{
    clock::UnixMillis,
    dead_letters::{Amended, Amendment, DeadLetter, DeadLettersError, Selection, Tally},
    headers::HeaderValue,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Conditions, Operations, Place};

/// Characters of an error that tell one group from another.
const ERROR: usize = 200;

/// A dead letter without its body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Letter {
    /// The work queue that it belongs to; of a lost one, the routing key that no queue took.
    pub queue: String,
    /// The task's id, if its publisher gave one or a worker has seen it.
    pub id: Option<String>,
    /// The task's name; empty when the message has none.
    pub task: String,
    /// Why it is here, such as `exhausted`; `unroutable` when no queue took it.
    pub reason: String,
    /// The kind of the last failure: `error`, `panic`, `timeout` and so on.
    pub error_kind: Option<String>,
    /// The text of the last failure.
    pub error: Option<String>,
    /// Number of the last attempt, from 1.
    pub attempt: u32,
    /// When it first failed.
    #[schema(format = DateTime)]
    pub first_failed_at: Option<String>,
    /// When it last failed, or when the broker moved it here; of a lost one, when it was published.
    #[schema(format = DateTime)]
    pub failed_at: Option<String>,
    /// The worker that saw the last failure.
    pub worker: Option<String>,
}

/// A dead letter whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WholeLetter {
    /// What a list says of it.
    #[serde(flatten)]
    pub letter: Letter,
    /// Where the result was to go.
    pub reply_to: Option<String>,
    /// The body's media type, if stated.
    pub content_type: Option<String>,
    /// How the body is compressed, if it is.
    pub content_encoding: Option<String>,
    /// Size of the body as it is, in bytes.
    pub bytes: usize,
    /// Its headers.
    #[schema(value_type = Object)]
    pub headers: Map<String, Value>,
    /// The body, decompressed: as JSON if it is, else as text, else nothing.
    #[schema(value_type = Option<Value>)]
    pub body: Option<Value>,
}

/// Dead letters from the head of their queue on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Letters {
    /// Those that are meant.
    pub items: Vec<Letter>,
    /// How many there were in the queue, whether they are meant or not.
    pub depth: u64,
    /// How many of them were looked at.
    pub seen: u64,
}

/// Dead letters that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LetterGroup {
    /// How many there are.
    pub count: u64,
    /// Their task.
    pub task: String,
    /// Why they are here.
    pub reason: String,
    /// The beginning of their error.
    pub error: String,
    /// The id of one of them.
    pub example: Option<String>,
    /// When the last of them failed.
    #[schema(format = DateTime)]
    pub last_failed_at: Option<String>,
}

/// Dead letters by what is alike, the largest group first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LetterGroups {
    /// The groups.
    pub items: Vec<LetterGroup>,
    /// How many there were in the queue, whether they are meant or not.
    pub depth: u64,
    /// How many of them were looked at: fewer than `depth` where there are too many.
    pub seen: u64,
}

/// What is to be different about a dead letter, and where it goes then. What is not named stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(example = json!({"body": {"to": "ann@example.com"}, "headers": {"leveret-key": null}, "then": "run"}))]
pub struct LetterChange {
    /// Another name of the task.
    #[schema(min_length = 1, max_length = 255)]
    pub task: Option<String>,
    /// Another body, any JSON value but `null`.
    #[schema(value_type = Option<Value>)]
    pub body: Option<Value>,
    /// Headers to set, to texts, whole numbers and flags; and with `null` to take away.
    #[schema(value_type = Object)]
    pub headers: BTreeMap<String, Value>,
    /// Where it goes then. Default: to its queue.
    pub then: Then,
}

/// Where a dead letter goes that was put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = LetterThen)]
pub enum Then {
    /// To its queue, where its attempts count anew.
    #[default]
    Run,
    /// Back to the dead letters.
    Stay,
}

impl Operations {
    /// Lists dead letters, at most `limit` of those that are meant.
    ///
    /// # Errors
    /// [`DeadLettersError`].
    pub async fn letters(
        &self,
        place: &Place,
        conditions: &Conditions,
        limit: u32,
    ) -> Result<Letters, DeadLettersError> {
        let mut items = Vec::new();
        let selection = conditions.selection().limit(limit.into());
        let tally = self.browse(place, &selection, |letter| items.push(Letter::from(&letter))).await?;
        Ok(Letters { items, depth: tally.depth, seen: tally.seen })
    }

    /// Counts dead letters by what is alike about them. Of those that are meant at most `most` are counted.
    ///
    /// # Errors
    /// [`DeadLettersError`].
    pub async fn letter_groups(
        &self,
        place: &Place,
        conditions: &Conditions,
        most: u32,
    ) -> Result<LetterGroups, DeadLettersError> {
        let mut groups: BTreeMap<[String; 3], (LetterGroup, Option<UnixMillis>)> = BTreeMap::new();
        let selection = conditions.selection().limit(most.into());
        let count = |letter: DeadLetter| {
            let error: String = letter.error.as_deref().unwrap_or_default().chars().take(ERROR).collect();
            let key = [letter.task.clone(), letter.reason.clone(), error.clone()];
            let (group, last) = groups.entry(key).or_insert_with(|| {
                let DeadLetter { task, reason, id, .. } = letter;
                (LetterGroup { count: 0, task, reason, error, example: id, last_failed_at: None }, None)
            });
            group.count += 1;
            *last = (*last).max(letter.failed_at);
        };
        let tally = self.browse(place, &selection, count).await?;
        let dated = |(group, last): (LetterGroup, Option<UnixMillis>)| LetterGroup {
            last_failed_at: last.map(UnixMillis::to_rfc3339),
            ..group
        };
        let mut items: Vec<_> = groups.into_values().map(dated).collect();
        items.sort_by_key(|group| std::cmp::Reverse(group.count));
        Ok(LetterGroups { items, depth: tally.depth, seen: tally.seen })
    }

    /// A dead letter, by its task's id.
    ///
    /// # Errors
    /// [`DeadLettersError`].
    pub async fn letter(&self, place: &Place, id: &str) -> Result<Option<WholeLetter>, DeadLettersError> {
        let mut found = None;
        let selection = Selection::all().id(id).limit(1);
        self.browse(place, &selection, |letter| found = Some(WholeLetter::from(letter))).await?;
        Ok(found)
    }

    /// Puts another in the place of a dead letter. `false` when there is none with this id, or no queue takes the other.
    ///
    /// # Errors
    /// [`AmendError`].
    pub async fn amend_letter(&self, place: &Place, id: &str, change: LetterChange) -> Result<bool, AmendError> {
        let then = match change.then {
            Then::Run => Amended::Runs,
            Then::Stay => Amended::Stays,
        };
        let amendment = change.amendment()?;
        let selection = Selection::all().id(id).limit(1);
        let tally = place.open(self.link())?.amend(&selection, &amendment, then, &self.stopping()).await?;
        Ok(tally.settled > 0)
    }

    async fn browse(
        &self,
        place: &Place,
        selection: &Selection,
        visit: impl FnMut(DeadLetter) + Send,
    ) -> Result<Tally, DeadLettersError> {
        place.open(self.link())?.browse(selection, &self.stopping(), visit).await
    }
}

impl LetterChange {
    /// The same, for [`DeadLetters::amend`](leveret_common::dead_letters::DeadLetters::amend).
    ///
    /// # Errors
    /// [`AmendError`].
    pub fn amendment(self) -> Result<Amendment, AmendError> {
        let mut headers = BTreeMap::new();
        for (name, value) in self.headers {
            let value = match &value {
                Value::Null => None,
                Value::String(text) => Some(HeaderValue::from(text.as_str())),
                Value::Bool(flag) => Some(HeaderValue::from(*flag)),
                Value::Number(number) if number.is_i64() => number.as_i64().map(HeaderValue::from),
                _ => return Err(AmendError::Header { name }),
            };
            headers.insert(name, value);
        }
        let body = self.body.map(|body| Bytes::from(body.to_string()));
        if self.task.as_deref() == Some("") {
            return Err(AmendError::NoName);
        }
        Ok(Amendment { task: self.task, body, headers })
    }
}

/// A dead letter cannot be put right like this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AmendError {
    /// A header has a value of another kind.
    #[error("the header {name:?} can be a text, a whole number, true or false, or null to take it away")]
    Header {
        /// The header.
        name: String,
    },
    /// The name of the task is empty.
    #[error("a task has a name of 1 to 255 bytes")]
    NoName,
    /// The letters cannot be looked at.
    #[error(transparent)]
    DeadLetters(#[from] DeadLettersError),
}

impl From<&DeadLetter> for Letter {
    fn from(letter: &DeadLetter) -> Self {
        Self {
            queue: letter.queue.clone(),
            id: letter.id.clone(),
            task: letter.task.clone(),
            reason: letter.reason.clone(),
            error_kind: letter.error_kind.clone(),
            error: letter.error.clone(),
            attempt: letter.attempt,
            first_failed_at: letter.first_failed_at.map(UnixMillis::to_rfc3339),
            failed_at: letter.failed_at.map(UnixMillis::to_rfc3339),
            worker: letter.worker.clone(),
        }
    }
}

impl From<DeadLetter> for WholeLetter {
    fn from(letter: DeadLetter) -> Self {
        let text = |body: &[u8]| std::str::from_utf8(body).ok().map(Value::from);
        let body = letter.content().ok().and_then(|body| serde_json::from_slice(&body).ok().or_else(|| text(&body)));
        Self {
            letter: Letter::from(&letter),
            body,
            bytes: letter.body.len(),
            headers: letter.headers.to_json(),
            reply_to: letter.reply_to,
            content_type: letter.content_type,
            content_encoding: letter.content_encoding,
        }
    }
}
