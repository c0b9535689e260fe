//! What goes into a statement, and what comes out.

use leveret_common::clock::UnixMillis;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Arguments, ColumnIndex, Database, Decode, Encode, Type, postgres::PgRow, sqlite::SqliteRow};

use super::DatabaseError;

/// A parameter of a statement. Flags are numbers: 0 and 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(Option<String>),
    /// A whole number, or a moment in Unix milliseconds.
    Number(Option<i64>),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// Anything as JSON.
    ///
    /// # Errors
    /// [`DatabaseError::Json`] for what JSON cannot hold.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Self, DatabaseError> {
        // PostgreSQL takes no zero in a text, not even written as an escape.
        let text = serde_json::to_string(value).map_err(DatabaseError::Json)?;
        Ok(Self::Text(Some(text.replace("\\u0000", "\\ufffd"))))
    }

    pub(super) fn add_to<A>(self, arguments: &mut A)
    where
        A: Arguments,
        Option<String>: for<'q> Encode<'q, A::Database> + Type<A::Database>,
        Option<i64>: for<'q> Encode<'q, A::Database> + Type<A::Database>,
        Vec<u8>: for<'q> Encode<'q, A::Database> + Type<A::Database>,
    {
        // None of the three can fail to be written.
        let _ = match self {
            Self::Text(text) => arguments.add(text.map(|text| text.replace('\0', "\u{fffd}"))),
            Self::Number(number) => arguments.add(number),
            Self::Bytes(bytes) => arguments.add(bytes),
        };
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(Some(number.into()))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Number(Some(flag.into()))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<UnixMillis> for Value {
    fn from(at: UnixMillis) -> Self {
        Self::Number(Some(at.0))
    }
}

impl From<Option<UnixMillis>> for Value {
    fn from(at: Option<UnixMillis>) -> Self {
        Self::Number(at.map(|at| at.0))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// A row; its columns are read by their names.
#[derive(Debug)]
pub enum Row {
    /// Of SQLite.
    Sqlite(SqliteRow),
    /// Of PostgreSQL.
    Postgres(PgRow),
}

macro_rules! read {
    ($($(#[$about:meta])* $name:ident: $type:ty;)+) => {
        $(
            $(#[$about])*
            ///
            /// # Errors
            /// [`DatabaseError::Statement`] when the column is not there or holds something else.
            pub fn $name(&self, column: &str) -> Result<$type, DatabaseError> {
                match self {
                    Self::Sqlite(row) => get(row, column),
                    Self::Postgres(row) => get(row, column),
                }
            }
        )+
    };
}

fn get<'r, T, R>(row: &'r R, column: &str) -> Result<T, DatabaseError>
where
    R: sqlx::Row,
    for<'c> &'c str: ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
    R::Database: Database,
{
    Ok(row.try_get(column)?)
}

impl Row {
    read! {
        /// A text.
        text: String;
        /// A text, if there is one.
        maybe_text: Option<String>;
        /// A whole number.
        number: i64;
        /// A whole number, if there is one.
        maybe_number: Option<i64>;
        /// Bytes.
        bytes: Vec<u8>;
    }

    /// A flag.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn flag(&self, column: &str) -> Result<bool, DatabaseError> {
        Ok(self.number(column)? != 0)
    }

    /// A moment.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn moment(&self, column: &str) -> Result<UnixMillis, DatabaseError> {
        Ok(UnixMillis(self.number(column)?))
    }

    /// A moment, if there is one.
    ///
    /// # Errors
    /// As [`maybe_number`](Self::maybe_number).
    pub fn maybe_moment(&self, column: &str) -> Result<Option<UnixMillis>, DatabaseError> {
        Ok(self.maybe_number(column)?.map(UnixMillis))
    }

    /// Anything that was written as JSON.
    ///
    /// # Errors
    /// As [`text`](Self::text), and [`DatabaseError::Json`] when it is not what was asked for.
    pub fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, DatabaseError> {
        serde_json::from_str(&self.text(column)?).map_err(DatabaseError::Json)
    }

    /// Anything that was written as JSON, if there is something.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub fn maybe_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, DatabaseError> {
        let text = self.maybe_text(column)?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(DatabaseError::Json)
    }
}
