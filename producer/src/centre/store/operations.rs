//! What a centre does for a person and takes a while: how far it is, and who works on it.

use leveret_common::clock::UnixMillis;
use serde::{Deserialize, Serialize};

use utoipa::ToSchema;

use super::{AuditEntry, Store};
use crate::centre::{
    database::{DatabaseError, Row, Value, Wording},
    operations::Request,
};

/// Something that takes a while, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id, a UUID v7: later ones are greater.
    pub id: String,
    /// What is being done.
    pub kind: OperationKind,
    /// The work queue; `None` for the messages that no queue took.
    pub queue: Option<String>,
    /// Which dead letters are meant, and how fast.
    pub request: Request,
    /// How it stands.
    pub state: OperationState,
    /// How far it is.
    pub progress: Progress,
    /// Why it failed or was interrupted.
    pub error: Option<String>,
    /// Whether someone has asked for it to be called off.
    pub cancelling: bool,
    /// Who began it.
    pub started_by: Option<String>,
    /// The centre that works on it, or did last.
    pub centre: String,
    /// How many centres have died over it.
    pub deaths: i64,
    /// When it was begun.
    pub created_at: UnixMillis,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Dead letters that were moved or removed.
    pub done: i64,
    /// Dead letters that were looked at.
    pub seen: i64,
    /// How many there are to look at, once that is known.
    pub total: Option<i64>,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// It sends dead letters back to their queue.
    Replay,
    /// It removes them for good.
    Purge,
}

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    /// It is at work.
    Running,
    /// It has come to its end.
    Done,
    /// It has failed; its error says why.
    Failed,
    /// It was called off.
    Cancelled,
    /// Its centre died, and it could not be known how much was done.
    Interrupted,
}

macro_rules! texts {
    ($type:ident { $($variant:ident => $text:literal),+ }) => {
        impl $type {
            /// As it is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            fn read(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

texts!(OperationKind { Replay => "replay", Purge => "purge" });
texts!(OperationState {
    Running => "running", Done => "done", Failed => "failed", Cancelled => "cancelled", Interrupted => "interrupted"
});

/// Not where another is at work on the same queue already.
const INSERT: &str = "INSERT INTO leveret_centre_operations (id, kind, queue, request, state, started_by, centre, beat_at, \
     created_at) SELECT $1, $2, CAST($3 AS TEXT), $4, 'running', CAST($5 AS TEXT), $6, $7, $7 WHERE NOT EXISTS \
     (SELECT 1 FROM leveret_centre_operations WHERE state = 'running' AND coalesce(queue, '') = coalesce($3, ''))";
const GET: &str = "SELECT * FROM leveret_centre_operations WHERE id = $1";
const OPEN_OF: &str = "SELECT * FROM leveret_centre_operations WHERE state = 'running' \
     AND coalesce(queue, '') = coalesce($1, '') ORDER BY id LIMIT 1";
const LIST: &str = "SELECT * FROM leveret_centre_operations WHERE ($1 = '' OR id < $1) AND ($2 = '' OR queue = $2) \
     AND ($3 = '' OR state = $3) ORDER BY id DESC LIMIT $4";
const BEAT: &str = "UPDATE leveret_centre_operations SET done = $3, seen = $4, total = $5, beat_at = $6 \
     WHERE id = $1 AND centre = $2 AND state = 'running' RETURNING cancelling";
const END: &str = "UPDATE leveret_centre_operations SET done = $3, seen = $4, total = $5, state = $6, error = $7, \
     ended_at = $8 WHERE id = $1 AND centre = $2 AND state = 'running'";
const CANCEL: &str = "UPDATE leveret_centre_operations SET cancelling = 1 WHERE id = $1 AND state = 'running'";
/// Silent since 1970: whoever looks next takes it over, and nobody died.
const RELEASE: &str = "UPDATE leveret_centre_operations SET done = $3, seen = $4, total = $5, beat_at = 0 \
     WHERE id = $1 AND centre = $2 AND state = 'running'";
/// Whoever comes second finds that it beats.
const ADOPT: Wording = Wording::Both(
    "UPDATE leveret_centre_operations SET centre = $1, beat_at = $2, \
     deaths = deaths + CASE WHEN beat_at = 0 THEN 0 ELSE 1 END WHERE beat_at < $3 AND state = 'running' AND id = \
     (SELECT id FROM leveret_centre_operations WHERE state = 'running' AND beat_at < $3 ORDER BY id LIMIT 1) RETURNING *",
);
const FORGET: &str = "DELETE FROM leveret_centre_operations WHERE ended_at < $1";

impl Store {
    /// Notes that an operation has begun, and `change` in the audit log. `false` when another is at work on the same queue.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn begin_operation(
        &self,
        operation: &Operation,
        change: Option<&AuditEntry>,
    ) -> Result<bool, DatabaseError> {
        let values = [
            operation.id.as_str().into(),
            operation.kind.as_str().into(),
            operation.queue.clone().into(),
            Value::json(&operation.request)?,
            operation.started_by.clone().into(),
            operation.centre.as_str().into(),
            operation.created_at.into(),
        ];
        self.change_one(INSERT, values, change).await
    }

    /// An operation.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn operation(&self, id: &str) -> Result<Option<Operation>, DatabaseError> {
        self.database.fetch(GET, [id.into()]).await?.first().map(read).transpose()
    }

    /// The operation that is at work on a queue; on that of the lost for `None`.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn operation_on(&self, queue: Option<&str>) -> Result<Option<Operation>, DatabaseError> {
        self.database.fetch(OPEN_OF, [queue.into()]).await?.first().map(read).transpose()
    }

    /// Operations, the newest first: those before the id `before`, on this queue, in this state, at most `limit`.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn operations(
        &self,
        before: Option<&str>,
        queue: Option<&str>,
        state: Option<OperationState>,
        limit: u32,
    ) -> Result<Vec<Operation>, DatabaseError> {
        let state = state.map_or("", OperationState::as_str);
        let values = [before.unwrap_or_default().into(), queue.unwrap_or_default().into(), state.into(), limit.into()];
        self.database.fetch(LIST, values).await?.iter().map(read).collect()
    }

    /// Notes how far an operation is, and that its centre lives. Whether it is to be called off; `None` when it is
    /// another centre's by now, or over.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn beat_operation(
        &self,
        id: &str,
        centre: &str,
        progress: Progress,
    ) -> Result<Option<bool>, DatabaseError> {
        let mut transaction = self.database.begin().await?;
        let values = progress_values(id, centre, progress).into_iter().chain([self.clock.now().into()]);
        let rows = transaction.fetch(BEAT, values).await?;
        transaction.commit().await?;
        rows.first().map(|row| row.flag("cancelling")).transpose()
    }

    /// Notes how an operation has ended. `false` when it is another centre's by now, or over.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn end_operation(
        &self,
        id: &str,
        centre: &str,
        progress: Progress,
        state: OperationState,
        error: Option<String>,
    ) -> Result<bool, DatabaseError> {
        let end = [state.as_str().into(), error.into(), self.clock.now().into()];
        let values = progress_values(id, centre, progress).into_iter().chain(end);
        Ok(self.database.execute(END, values).await? == 1)
    }

    /// Asks for an operation to be called off, and notes `change` in the audit log. `false` when there is none that runs.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn cancel_operation(&self, id: &str, change: Option<&AuditEntry>) -> Result<bool, DatabaseError> {
        self.change_one(CANCEL, [id.into()], change).await
    }

    /// Leaves an operation to whichever centre looks next.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn release_operation(&self, id: &str, centre: &str, progress: Progress) -> Result<(), DatabaseError> {
        self.database.execute(RELEASE, progress_values(id, centre, progress)).await.map(drop)
    }

    /// Takes over one operation of which nothing was heard since `silent_since`.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn adopt_operation(
        &self,
        centre: &str,
        silent_since: UnixMillis,
    ) -> Result<Option<Operation>, DatabaseError> {
        let mut transaction = self.database.begin().await?;
        let values = [centre.into(), self.clock.now().into(), silent_since.into()];
        let rows = transaction.fetch(ADOPT, values).await?;
        transaction.commit().await?;
        rows.first().map(read).transpose()
    }

    /// Forgets operations that ended before `before`. How many there were.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn forget_operations(&self, before: UnixMillis) -> Result<u64, DatabaseError> {
        self.database.execute(FORGET, [before.into()]).await
    }
}

fn progress_values(id: &str, centre: &str, progress: Progress) -> [Value; 5] {
    [id.into(), centre.into(), progress.done.into(), progress.seen.into(), progress.total.into()]
}

fn read(row: &Row) -> Result<Operation, DatabaseError> {
    Ok(Operation {
        id: row.text("id")?,
        // What a newer centre has written may be unknown here: it is shown as the likelier of the two.
        kind: OperationKind::read(&row.text("kind")?).unwrap_or(OperationKind::Replay),
        queue: row.maybe_text("queue")?,
        request: row.json("request")?,
        state: OperationState::read(&row.text("state")?).unwrap_or(OperationState::Interrupted),
        progress: Progress { done: row.number("done")?, seen: row.number("seen")?, total: row.maybe_number("total")? },
        error: row.maybe_text("error")?,
        cancelling: row.flag("cancelling")?,
        started_by: row.maybe_text("started_by")?,
        centre: row.text("centre")?,
        deaths: row.number("deaths")?,
        created_at: row.moment("created_at")?,
        ended_at: row.maybe_moment("ended_at")?,
    })
}
