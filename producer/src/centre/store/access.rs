//! API tokens: who may do what, and where.

use std::{fmt, str::FromStr, time::Duration};

use leveret_common::clock::UnixMillis;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::Store;
use crate::centre::database::{DatabaseError, Row, Transaction};

/// A token that is used all the time is written down as used so often.
const USED: Duration = Duration::from_secs(60);

const COLUMNS: &str = "id, name, role, namespace, created_by, created_at, expires_at, last_used_at";
const BY_HASH: &str = "SELECT id, name, role, namespace, created_by, created_at, expires_at, last_used_at \
    FROM leveret_centre_tokens WHERE hash = $1";
const BY_ID: &str = "SELECT id, name, role, namespace, created_by, created_at, expires_at, last_used_at \
    FROM leveret_centre_tokens WHERE id = $1";
const ADD: &str = "INSERT INTO leveret_centre_tokens \
    (id, name, hash, role, namespace, created_by, created_at, expires_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
// Of centres that start at once each may see none; the id lets one of them through.
const ADD_FIRST: &str = "INSERT INTO leveret_centre_tokens (id, name, hash, role, namespace, created_by, created_at) \
    SELECT 'first', 'first admin', $1, 'admin', '*', 'centre', $2 \
    WHERE NOT EXISTS (SELECT 1 FROM leveret_centre_tokens) ON CONFLICT DO NOTHING";
const REMOVE: &str = "DELETE FROM leveret_centre_tokens WHERE id = $1";
const USE: &str = "UPDATE leveret_centre_tokens SET last_used_at = $2 \
    WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $3)";

/// What the bearer of a token may do.
///
/// | role | may |
/// |---|---|
/// | viewer | read |
/// | publisher | read, and publish tasks |
/// | operator | read, and steer: schedules, calendars, task kinds, tasks, workers, queues, dead letters |
/// | admin | all of it, tokens included |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, and publishes tasks.
    Publisher,
    /// Reads, and steers.
    Operator,
    /// May do everything.
    Admin,
}

impl Role {
    /// Whether it includes all that `needed` may do.
    pub const fn allows(self, needed: Self) -> bool {
        matches!(
            (self, needed),
            (Self::Admin, _)
                | (_, Self::Viewer)
                | (Self::Publisher, Self::Publisher)
                | (Self::Operator, Self::Operator)
        )
    }

    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Publisher => "publisher",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let all = [Self::Viewer, Self::Publisher, Self::Operator, Self::Admin];
        all.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// A text names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is \"viewer\", \"publisher\", \"operator\" or \"admin\"")]
pub struct UnknownRole;

/// All namespaces, and what belongs to none.
pub const ALL_NAMESPACES: &str = "*";

/// A token, without its secret, which nobody keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id: what lists and the audit log name.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// Where: one namespace, or [`ALL_NAMESPACES`].
    pub namespace: String,
    /// The name of the token that made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it ends, if it does.
    pub expires_at: Option<UnixMillis>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<UnixMillis>,
}

impl Token {
    fn read(row: &Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            id: row.text("id")?,
            name: row.text("name")?,
            // A role that a newer version knows reads as the least.
            role: row.text("role")?.parse().unwrap_or(Role::Viewer),
            namespace: row.text("namespace")?,
            created_by: row.text("created_by")?,
            created_at: row.moment("created_at")?,
            expires_at: row.maybe_moment("expires_at")?,
            last_used_at: row.maybe_moment("last_used_at")?,
        })
    }
}

/// The SHA-256 of a token's secret, in hexadecimal: all that is kept of it.
fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    /// The token with this secret, unless it has ended. It is looked up by its hash, so that the time this takes tells
    /// nothing about the secrets that are there.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn token_by_secret(&self, secret: &str) -> Result<Option<Token>, DatabaseError> {
        let rows = self.database.fetch(BY_HASH, [hash(secret).into()]).await?;
        let token = rows.first().map(Token::read).transpose()?;
        let now = self.clock.now();
        Ok(token.filter(|token| token.expires_at.is_none_or(|at| at > now)))
    }

    /// Notes that a token is used now, at most once a minute.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn token_used(&self, token: &Token) -> Result<(), DatabaseError> {
        let now = self.clock.now();
        if token.last_used_at.is_some_and(|at| at > now - USED) {
            return Ok(());
        }
        let values = [token.id.as_str().into(), now.into(), (now - USED).into()];
        self.database.execute(USE, values).await.map(drop)
    }

    /// One token.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn token(&self, id: &str) -> Result<Option<Token>, DatabaseError> {
        self.database.fetch(BY_ID, [id.into()]).await?.first().map(Token::read).transpose()
    }

    /// At most `limit` tokens whose ids come after `after`: oldest first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn tokens_after(&self, after: &str, limit: u32) -> Result<Vec<Token>, DatabaseError> {
        let statement = format!("SELECT {COLUMNS} FROM leveret_centre_tokens WHERE id > $1 ORDER BY id LIMIT $2");
        let rows = self.database.search(statement, [after.into(), limit.into()]).await?;
        rows.iter().map(Token::read).collect()
    }

    /// Adds a token with this secret. Whether it is new: the same secret is not taken twice.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn add_token(
        &self,
        transaction: &mut Transaction,
        token: &Token,
        secret: &str,
    ) -> Result<bool, DatabaseError> {
        let values = [
            token.id.as_str().into(),
            token.name.as_str().into(),
            hash(secret).into(),
            token.role.as_str().into(),
            token.namespace.as_str().into(),
            token.created_by.as_str().into(),
            token.created_at.into(),
            token.expires_at.into(),
        ];
        Ok(transaction.execute(ADD, values).await? > 0)
    }

    /// Adds a token with this secret, for an admin of everything, when there is no token at all. Whether it did.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn add_first_token(&self, secret: &str) -> Result<bool, DatabaseError> {
        let values = [hash(secret).into(), self.clock.now().into()];
        Ok(self.database.execute(ADD_FIRST, values).await? > 0)
    }

    /// Removes a token: it is good for nothing from then on. Whether it was there.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn remove_token(&self, transaction: &mut Transaction, id: &str) -> Result<bool, DatabaseError> {
        Ok(transaction.execute(REMOVE, [id.into()]).await? > 0)
    }
}
