//! Answers that are kept, so that a request which is sent twice takes effect once.

use std::{collections::BTreeMap, time::Duration};

use super::Store;
use crate::centre::database::{DatabaseError, Row, Value};

/// How long an answer is kept.
pub const KEPT: Duration = Duration::from_secs(86_400);
/// A request that has not been answered for so long is not worked on any more: its centre was killed.
const ABANDONED: Duration = Duration::from_secs(120);

const BEGIN: &str = "INSERT INTO leveret_centre_answers (token_id, key, fingerprint, created_at) \
    VALUES ($1, $2, $3, $4) ON CONFLICT (token_id, key) DO UPDATE \
    SET fingerprint = $3, created_at = $4, status = NULL, headers = NULL, body = NULL \
    WHERE leveret_centre_answers.created_at < $5 \
    OR (leveret_centre_answers.status IS NULL AND leveret_centre_answers.created_at < $6)";
const READ: &str =
    "SELECT fingerprint, status, headers, body FROM leveret_centre_answers WHERE token_id = $1 AND key = $2";
const END: &str = "UPDATE leveret_centre_answers SET status = $3, headers = $4, body = $5 \
    WHERE token_id = $1 AND key = $2 AND status IS NULL";
const GIVE_UP: &str = "DELETE FROM leveret_centre_answers WHERE token_id = $1 AND key = $2 AND status IS NULL";
const REMOVE: &str = "DELETE FROM leveret_centre_answers WHERE created_at < $1";

/// An answer as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The headers that belong to it, by their names.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// What is known about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: the request is to be carried out, and its answer noted.
    New,
    /// It was answered.
    Answered(KeptAnswer),
    /// It is being worked on.
    UnderWay,
    /// Another request had this key.
    Other,
}

fn read(row: &Row, fingerprint: &str) -> Result<Begun, DatabaseError> {
    if row.text("fingerprint")? != fingerprint {
        return Ok(Begun::Other);
    }
    let Some(status) = row.maybe_number("status")? else { return Ok(Begun::UnderWay) };
    Ok(Begun::Answered(KeptAnswer {
        status: u16::try_from(status).unwrap_or(500),
        headers: row.maybe_json("headers")?.unwrap_or_default(),
        body: row.bytes("body")?,
    }))
}

impl Store {
    /// Begins a request with a key, or says what is known about it.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn begin_request(&self, token_id: &str, key: &str, fingerprint: &str) -> Result<Begun, DatabaseError> {
        let now = self.clock.now();
        // Between the two statements the row may go; a second round then makes it.
        for _ in 0..2 {
            let values = [
                token_id.into(),
                key.into(),
                fingerprint.into(),
                now.into(),
                (now - KEPT).into(),
                (now - ABANDONED).into(),
            ];
            if self.database.execute(BEGIN, values).await? > 0 {
                return Ok(Begun::New);
            }
            if let Some(row) = self.database.fetch(READ, [token_id.into(), key.into()]).await?.first() {
                return read(row, fingerprint);
            }
        }
        Ok(Begun::UnderWay)
    }

    /// Notes the answer.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn end_request(&self, token_id: &str, key: &str, answer: &KeptAnswer) -> Result<(), DatabaseError> {
        let values = [
            token_id.into(),
            key.into(),
            Value::Number(Some(answer.status.into())),
            Value::json(&answer.headers)?,
            Value::Bytes(answer.body.clone()),
        ];
        self.database.execute(END, values).await.map(drop)
    }

    /// Forgets a request that came to nothing, so that it can be sent again.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn give_up_request(&self, token_id: &str, key: &str) -> Result<(), DatabaseError> {
        self.database.execute(GIVE_UP, [token_id.into(), key.into()]).await.map(drop)
    }

    /// Forgets the answers whose time is over. How many.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn forget_answers(&self) -> Result<u64, DatabaseError> {
        self.database.execute(REMOVE, [(self.clock.now() - KEPT).into()]).await
    }
}
