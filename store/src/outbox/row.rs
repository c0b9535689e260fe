//! Rows of the outbox, and the messages in them.

use futures_util::future::BoxFuture;
use leveret_common::{
    clock::{Clock, UnixMillis},
    message::{InvalidMessage, Message, StoredMessage},
};
use serde::{Serialize, de::DeserializeOwned};

/// A message that could not be published, kept with its error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parked {
    /// Its place in the order of the outbox, which names it.
    pub position: i64,
    /// The task's id, as it stands in the row.
    pub id: String,
    /// The task's name.
    pub task: String,
    /// The queue it was for.
    pub queue: String,
    /// Why it could not be published.
    pub error: String,
    /// When it was parked.
    pub parked_at: UnixMillis,
}

/// A row, as far as it can be read.
pub(super) struct Row {
    pub(super) position: i64,
    pub(super) queue: String,
    /// The message, or why there is none.
    pub(super) message: Result<Message, String>,
}

/// The columns of a row, in this order.
pub(super) type Columns = (i64, String, String, String, String, Option<String>, Option<String>, Vec<u8>);

impl From<Columns> for Row {
    fn from((position, id, task, queue, content_type, properties, headers, body): Columns) -> Self {
        let message = || {
            let stored = StoredMessage {
                id,
                task,
                queue: queue.clone(),
                content_type,
                properties: json("properties", properties)?,
                headers: json("headers", headers)?,
                body: body.into(),
            };
            Message::try_from(stored).map_err(|error| error.to_string())
        };
        let message = message();
        Self { position, queue, message }
    }
}

fn json<T: DeserializeOwned + Default>(column: &str, text: Option<String>) -> Result<T, String> {
    let Some(text) = text else { return Ok(T::default()) };
    serde_json::from_str(&text).map_err(|error| format!("column {column} is not the JSON that it should be: {error}"))
}

/// A message in the form of its columns, the position excepted.
pub(super) struct NewRow {
    pub(super) stored: StoredMessage,
    pub(super) properties: Option<String>,
    pub(super) headers: Option<String>,
}

impl NewRow {
    pub(super) fn of(message: &Message, clock: &Clock) -> Result<Self, InvalidMessage> {
        let stored = message.to_stored(clock)?;
        let text = |value: serde_json::Result<String>| value.map_err(|error| InvalidMessage::Body(error.to_string()));
        let properties = written(&stored.properties).map(text).transpose()?;
        let headers = written(&stored.headers).map(text).transpose()?;
        Ok(Self { stored, properties, headers })
    }
}

/// As JSON, unless it is the default.
fn written<T: Serialize + Default + PartialEq>(value: &T) -> Option<serde_json::Result<String>> {
    (*value != T::default()).then(|| serde_json::to_string(value))
}

/// What a relay asks of a table. Times are those of the store's clock.
pub(super) trait Rows: Send + Sync {
    /// Becomes, or stays, the one relay that works, until `ends_at`. Whether it is.
    fn lead<'a>(&'a self, holder: &'a str, ends_at: UnixMillis) -> BoxFuture<'a, sqlx::Result<bool>>;

    /// Leaves the place to others.
    fn resign<'a>(&'a self, holder: &'a str) -> BoxFuture<'a, sqlx::Result<()>>;

    /// The first rows after a position, less those for some queues: at most `limit`, and few enough for memory.
    fn next<'a>(&'a self, after: i64, less: &'a [&'a str], limit: i64) -> BoxFuture<'a, sqlx::Result<Vec<Row>>>;

    /// Removes rows.
    fn remove<'a>(&'a self, positions: &'a [i64]) -> BoxFuture<'a, sqlx::Result<()>>;

    /// Puts a row aside.
    fn park<'a>(&'a self, position: i64, error: &'a str) -> BoxFuture<'a, sqlx::Result<()>>;

    /// The clock.
    fn clock(&self) -> &Clock;
}
