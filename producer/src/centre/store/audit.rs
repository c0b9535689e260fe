//! The audit log: every change that somebody made over REST.
//!
//! Whatever changes these tables for somebody takes the line as `change: Option<&AuditEntry>` and writes it in its own
//! transaction, or works in the caller's, where [`Store::audit_in`] writes it. So there is no change without its line and
//! no line without its change. `None` is a change by the centre itself, such as one of the configuration file. What was
//! as it should be already, or is refused, leaves no line.

use leveret_common::{clock::UnixMillis, task::TaskId};
use serde_json::{Map, Value as Json};

use super::Store;
use crate::centre::database::{DatabaseError, Row, Transaction, Value};

const ADD: &str = "INSERT INTO leveret_centre_audit \
    (id, at, token_id, token_name, request_id, namespace, action, object, before, after) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const SEARCH: &str = "SELECT id, at, token_id, token_name, request_id, namespace, action, object, before, after \
    FROM leveret_centre_audit WHERE ";

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Its id: a UUID of version 7, so that later ones sort behind it.
    pub id: String,
    /// When it was made.
    pub at: UnixMillis,
    /// The id of the token that was used.
    pub token_id: String,
    /// And its name, which outlives it.
    pub token_name: String,
    /// The request, as logs name it.
    pub request_id: String,
    /// The namespace that it was made in; `None` for what belongs to none.
    pub namespace: Option<String>,
    /// What was done, such as `schedule.save`.
    pub action: String,
    /// What to, such as `nightly`.
    pub object: String,
    /// What it was before, in short.
    pub before: Option<Json>,
    /// What it became, in short.
    pub after: Option<Json>,
}

/// What to look for in the audit log. All that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditSearch {
    /// The token's id or name.
    pub token: Option<String>,
    /// The action, such as `schedule.save`, or its first part, `schedule`.
    pub action: Option<String>,
    /// The object.
    pub object: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// From this moment on.
    pub since: Option<UnixMillis>,
    /// Before this moment.
    pub until: Option<UnixMillis>,
    /// Entries that come before the one with this id: older ones.
    pub before: Option<String>,
}

impl AuditEntry {
    /// A new id for an entry.
    pub fn new_id() -> String {
        TaskId::new().to_string()
    }

    fn read(row: &Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            id: row.text("id")?,
            at: row.moment("at")?,
            token_id: row.text("token_id")?,
            token_name: row.text("token_name")?,
            request_id: row.text("request_id")?,
            namespace: row.maybe_text("namespace")?,
            action: row.text("action")?,
            object: row.text("object")?,
            before: row.maybe_json("before")?,
            after: row.maybe_json("after")?,
        })
    }

    fn values(&self) -> Result<[Value; 10], DatabaseError> {
        let summary = |json: &Option<Json>| json.as_ref().map_or(Ok(Value::Text(None)), Value::json);
        Ok([
            self.id.as_str().into(),
            self.at.into(),
            self.token_id.as_str().into(),
            self.token_name.as_str().into(),
            self.request_id.as_str().into(),
            self.namespace.as_deref().into(),
            self.action.as_str().into(),
            self.object.as_str().into(),
            summary(&self.before)?,
            summary(&self.after)?,
        ])
    }
}

impl Store {
    /// Writes a change down, in the transaction that makes it.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn audit_in(&self, transaction: &mut Transaction, entry: &AuditEntry) -> Result<(), DatabaseError> {
        transaction.execute(ADD, entry.values()?).await.map(drop)
    }

    /// Writes a change down in the transaction that makes it, if it is somebody's, with `result`: what is only known once
    /// it is made.
    pub(super) async fn note(
        &self,
        transaction: &mut Transaction,
        change: Option<&AuditEntry>,
        result: Option<(&str, Json)>,
    ) -> Result<(), DatabaseError> {
        let Some(change) = change else { return Ok(()) };
        let mut entry = change.clone();
        if let Some((name, value)) = result
            && let Json::Object(after) = entry.after.get_or_insert_with(|| Json::Object(Map::new()))
        {
            after.insert(name.to_owned(), value);
        }
        self.audit_in(transaction, &entry).await
    }

    /// Makes a change that is one statement, and writes it down. Whether it changed anything.
    pub(super) async fn change_one(
        &self,
        statement: &'static str,
        values: impl IntoIterator<Item = Value>,
        change: Option<&AuditEntry>,
    ) -> Result<bool, DatabaseError> {
        let mut transaction = self.database.begin().await?;
        let has_changed = transaction.execute(statement, values).await? > 0;
        if has_changed {
            self.note(&mut transaction, change, None).await?;
        }
        transaction.commit().await?;
        Ok(has_changed)
    }

    /// Writes down what is about to be done elsewhere, such as at the broker.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn audit(&self, entry: &AuditEntry) -> Result<(), DatabaseError> {
        self.database.execute(ADD, entry.values()?).await.map(drop)
    }

    /// At most `limit` changes, the latest first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn audit_log(&self, search: &AuditSearch, limit: u32) -> Result<Vec<AuditEntry>, DatabaseError> {
        let mut parts = vec!["1 = 1".to_owned()];
        let mut values = Vec::new();
        let mut add = |values: &mut Vec<Value>, part: &str, value: Value| {
            values.push(value);
            parts.push(part.replace('?', &format!("${}", values.len())));
        };
        if let Some(token) = &search.token {
            add(&mut values, "(token_id = ? OR token_name = ?)", token.as_str().into());
        }
        if let Some(action) = &search.action {
            add(&mut values, "(action = ? OR substr(action, 1, length(?) + 1) = ? || '.')", action.as_str().into());
        }
        if let Some(object) = &search.object {
            add(&mut values, "object = ?", object.as_str().into());
        }
        if let Some(namespace) = &search.namespace {
            add(&mut values, "namespace = ?", namespace.as_str().into());
        }
        if let Some(since) = search.since {
            add(&mut values, "at >= ?", since.into());
        }
        if let Some(until) = search.until {
            add(&mut values, "at < ?", until.into());
        }
        if let Some(before) = &search.before {
            add(&mut values, "id < ?", before.as_str().into());
        }
        values.push(limit.into());
        let statement = format!("{SEARCH}{} ORDER BY id DESC LIMIT ${}", parts.join(" AND "), values.len());
        self.database.search(statement, values).await?.iter().map(AuditEntry::read).collect()
    }
}
