//! SQLite or PostgreSQL behind one door: statements in the words that both understand, with numbered parameters.
//!
//! Where the two differ, and only there, a statement comes in two wordings: [`Wording`]. Lists of rows go in as one
//! parameter of JSON, so that a thousand rows are one statement.

mod migrate;
mod open;
mod row;

use futures_util::{StreamExt as _, stream::BoxStream};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Sqlite, SqlitePool, postgres::PgArguments, sqlite::SqliteArguments};

pub use open::{DatabaseError, DatabaseUrl, InvalidDatabaseUrl};
pub use row::{Row, Value};

/// A database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Sqlite {
        /// SQLite has one writer at a time: whoever wants to write waits here, in turn.
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

/// A transaction. Dropped without a commit, nothing of it has happened.
#[derive(Debug)]
pub struct Transaction(Open);

#[derive(Debug)]
enum Open {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// A statement, in the words of both or of each.
#[derive(Clone, Copy, Debug)]
pub enum Wording {
    /// Both understand it.
    Both(&'static str),
    /// SQLite, then PostgreSQL.
    Each(&'static str, &'static str),
}

impl From<&'static str> for Wording {
    fn from(statement: &'static str) -> Self {
        Self::Both(statement)
    }
}

impl Wording {
    fn sqlite(self) -> &'static str {
        let (Self::Both(statement) | Self::Each(statement, _)) = self;
        statement
    }

    fn postgres(self) -> &'static str {
        let (Self::Both(statement) | Self::Each(_, statement)) = self;
        statement
    }
}

impl Database {
    /// Whether several centres may share it: PostgreSQL, but not SQLite.
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Kind::Postgres(_))
    }

    /// Begins a transaction that may write.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`].
    pub async fn begin(&self) -> Result<Transaction, DatabaseError> {
        Ok(Transaction(match &self.0 {
            // At once for writing: one that began by reading could not go on once another has written.
            Kind::Sqlite { writer, .. } => Open::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Kind::Postgres(pool) => Open::Postgres(pool.begin().await?),
        }))
    }

    /// Runs one statement that writes. How many rows it changed.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`].
    pub async fn execute(
        &self,
        statement: impl Into<Wording>,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, DatabaseError> {
        let statement = statement.into();
        Ok(match &self.0 {
            Kind::Sqlite { writer, .. } => {
                sqlx::query_with(statement.sqlite(), sqlite(values)).execute(writer).await?.rows_affected()
            }
            Kind::Postgres(pool) => {
                sqlx::query_with(statement.postgres(), postgres(values)).execute(pool).await?.rows_affected()
            }
        })
    }

    /// Reads rows.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`].
    pub async fn fetch(
        &self,
        statement: impl Into<Wording>,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let statement = statement.into();
        Ok(match &self.0 {
            Kind::Sqlite { readers, .. } => {
                let rows = sqlx::query_with(statement.sqlite(), sqlite(values)).fetch_all(readers).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Kind::Postgres(pool) => {
                let rows = sqlx::query_with(statement.postgres(), postgres(values)).fetch_all(pool).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Reads rows by a statement that was put together from fixed parts, such as a search by what was asked for.
    /// Values go in as parameters, never into the text.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`].
    pub async fn search(
        &self,
        statement: String,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let statement = AssertSqlSafe(statement);
        Ok(match &self.0 {
            Kind::Sqlite { readers, .. } => {
                let rows = sqlx::query_with(statement, sqlite(values)).persistent(false).fetch_all(readers).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Kind::Postgres(pool) => {
                let rows = sqlx::query_with(statement, postgres(values)).persistent(false).fetch_all(pool).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Reads rows one after the other, for results that may be large.
    pub fn stream(
        &self,
        statement: impl Into<Wording>,
        values: impl IntoIterator<Item = Value>,
    ) -> BoxStream<'_, Result<Row, DatabaseError>> {
        let statement = statement.into();
        match &self.0 {
            Kind::Sqlite { readers, .. } => {
                let rows = sqlx::query_with(statement.sqlite(), sqlite(values)).fetch(readers);
                rows.map(|row| Ok(Row::Sqlite(row?))).boxed()
            }
            Kind::Postgres(pool) => {
                let rows = sqlx::query_with(statement.postgres(), postgres(values)).fetch(pool);
                rows.map(|row| Ok(Row::Postgres(row?))).boxed()
            }
        }
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`].
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.fetch("SELECT 1", []).await.map(drop)
    }

    /// Closes all connections.
    pub async fn close(&self) {
        match &self.0 {
            Kind::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Kind::Postgres(pool) => pool.close().await,
        }
    }
}

impl Transaction {
    /// Runs one statement. How many rows it changed.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`].
    pub async fn execute(
        &mut self,
        statement: impl Into<Wording>,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, DatabaseError> {
        let statement = statement.into();
        Ok(match &mut self.0 {
            Open::Sqlite(transaction) => {
                let query = sqlx::query_with(statement.sqlite(), sqlite(values));
                query.execute(&mut **transaction).await?.rows_affected()
            }
            Open::Postgres(transaction) => {
                let query = sqlx::query_with(statement.postgres(), postgres(values));
                query.execute(&mut **transaction).await?.rows_affected()
            }
        })
    }

    /// Reads rows, or writes and reads what was written (`RETURNING`).
    ///
    /// # Errors
    /// [`DatabaseError::Statement`].
    pub async fn fetch(
        &mut self,
        statement: impl Into<Wording>,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let statement = statement.into();
        Ok(match &mut self.0 {
            Open::Sqlite(transaction) => {
                let query = sqlx::query_with(statement.sqlite(), sqlite(values));
                query.fetch_all(&mut **transaction).await?.into_iter().map(Row::Sqlite).collect()
            }
            Open::Postgres(transaction) => {
                let query = sqlx::query_with(statement.postgres(), postgres(values));
                query.fetch_all(&mut **transaction).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Runs one statement of a migration.
    async fn run(&mut self, statement: &str) -> Result<(), DatabaseError> {
        let statement = sqlx::raw_sql(AssertSqlSafe(statement));
        match &mut self.0 {
            Open::Sqlite(transaction) => statement.execute(&mut **transaction).await?.rows_affected(),
            Open::Postgres(transaction) => statement.execute(&mut **transaction).await?.rows_affected(),
        };
        Ok(())
    }

    /// Makes all of it happen.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`]; whether it has happened is then unknown.
    pub async fn commit(self) -> Result<(), DatabaseError> {
        match self.0 {
            Open::Sqlite(transaction) => transaction.commit().await?,
            Open::Postgres(transaction) => transaction.commit().await?,
        }
        Ok(())
    }
}

fn sqlite(values: impl IntoIterator<Item = Value>) -> SqliteArguments {
    let mut arguments = SqliteArguments::default();
    values.into_iter().for_each(|value| value.add_to(&mut arguments));
    arguments
}

fn postgres(values: impl IntoIterator<Item = Value>) -> PgArguments {
    let mut arguments = PgArguments::default();
    values.into_iter().for_each(|value| value.add_to(&mut arguments));
    arguments
}
