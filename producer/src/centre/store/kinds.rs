//! Kinds of tasks that were registered. They belong to no namespace.

use leveret_common::clock::UnixMillis;
use serde_json::Value as Json;

use super::Store;
use crate::centre::database::{DatabaseError, Row, Transaction, Value};

const ALL: &str = "SELECT name, revision, queue, description, arguments, created_at, changed_at \
    FROM leveret_centre_kinds ORDER BY name";
const ONE: &str = "SELECT name, revision, queue, description, arguments, created_at, changed_at \
    FROM leveret_centre_kinds WHERE name = $1";
const SAVE: &str = "INSERT INTO leveret_centre_kinds \
    (name, revision, queue, description, arguments, created_at, changed_at) \
    VALUES ($1, 1, $2, $3, $4, $5, $5) ON CONFLICT (name) DO UPDATE \
    SET revision = leveret_centre_kinds.revision + 1, queue = $2, description = $3, arguments = $4, changed_at = $5";
const REMOVE: &str = "DELETE FROM leveret_centre_kinds WHERE name = $1";

/// A kind of task.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredKind {
    /// The tasks' name.
    pub name: String,
    /// Raised with each change, from 1 on.
    pub revision: i64,
    /// The queue that they are published to unless a publish says otherwise.
    pub queue: Option<String>,
    /// What they do.
    pub description: Option<String>,
    /// The JSON Schema of their arguments.
    pub arguments: Option<Json>,
    /// When it was registered.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub changed_at: UnixMillis,
}

impl StoredKind {
    fn read(row: &Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            name: row.text("name")?,
            revision: row.number("revision")?,
            queue: row.maybe_text("queue")?,
            description: row.maybe_text("description")?,
            arguments: row.maybe_json("arguments")?,
            created_at: row.moment("created_at")?,
            changed_at: row.moment("changed_at")?,
        })
    }
}

impl Store {
    /// All kinds that were registered, by their names.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn kinds(&self) -> Result<Vec<StoredKind>, DatabaseError> {
        self.database.fetch(ALL, []).await?.iter().map(StoredKind::read).collect()
    }

    /// One kind, if it was registered.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn kind(&self, name: &str) -> Result<Option<StoredKind>, DatabaseError> {
        self.database.fetch(ONE, [name.into()]).await?.first().map(StoredKind::read).transpose()
    }

    /// Registers a kind, or changes it. Revision and times are set here.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn save_kind(&self, transaction: &mut Transaction, kind: &StoredKind) -> Result<(), DatabaseError> {
        let values = [
            kind.name.as_str().into(),
            kind.queue.as_deref().into(),
            kind.description.as_deref().into(),
            kind.arguments.as_ref().map_or(Ok(Value::Text(None)), Value::json)?,
            self.clock.now().into(),
        ];
        transaction.execute(SAVE, values).await.map(drop)
    }

    /// Removes a kind. Whether it was there.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn remove_kind(&self, transaction: &mut Transaction, name: &str) -> Result<bool, DatabaseError> {
        Ok(transaction.execute(REMOVE, [name.into()]).await? > 0)
    }
}
