//! `[worker] once`: where marks of what is done are kept.

use std::{fmt, path::PathBuf, str::FromStr};

use leveret::{
    Clock,
    layer::Once,
    once::MemoryOnce,
    store::{
        once::{PostgresOnce, RedisOnce, SqliteOnce},
        postgres, sqlite,
    },
};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Where marks are kept. Printing it leaves a password out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum OnceSettings {
    /// In this process.
    Memory,
    /// In a file.
    Sqlite(PathBuf),
    /// In a PostgreSQL.
    Postgres(String),
    /// In a Redis.
    Redis(String),
}

impl OnceSettings {
    /// The layer that keeps marks there. Connects, and makes the tables that are not there.
    pub(crate) async fn layer(&self) -> Result<Once, Failure> {
        let clock = Clock::system();
        Ok(match self {
            Self::Memory => Once::new(MemoryOnce::new(clock)),
            Self::Sqlite(file) => {
                let pool = sqlite::open(file).await?;
                sqlite::migrate(&pool).await?;
                Once::new(SqliteOnce::new(pool, clock))
            }
            Self::Postgres(url) => {
                let pool = postgres::connect(url).await?;
                postgres::migrate(&pool).await?;
                Once::new(PostgresOnce::new(pool, clock))
            }
            Self::Redis(url) => Once::new(RedisOnce::connect(url, clock).await?),
        })
    }
}

impl FromStr for OnceSettings {
    type Err = InvalidOnce;
    fn from_str(text: &str) -> Result<Self, InvalidOnce> {
        match text.split_once(':') {
            None if text == "memory" => Ok(Self::Memory),
            Some(("sqlite", file)) if !file.is_empty() => Ok(Self::Sqlite(file.into())),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            Some(("redis" | "rediss", _)) => Ok(Self::Redis(text.to_owned())),
            _ => Err(InvalidOnce),
        }
    }
}

impl fmt::Display for OnceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            Self::Postgres(url) | Self::Redis(url) => match url::Url::parse(url) {
                Ok(mut url) if url.password().is_some() => {
                    // Its only error is that such a URL has no password.
                    let _ = url.set_password(Some("***"));
                    write!(f, "{url}")
                }
                _ => f.write_str(url),
            },
        }
    }
}

impl fmt::Debug for OnceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for OnceSettings {
    type Error = InvalidOnce;
    fn try_from(text: String) -> Result<Self, InvalidOnce> {
        text.parse()
    }
}

impl From<OnceSettings> for String {
    fn from(settings: OnceSettings) -> Self {
        settings.to_string()
    }
}

/// The text names no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this names no store of marks: write \"memory\", \"sqlite:FILE\", or a URL that begins with postgres:// or redis://"
)]
pub(crate) struct InvalidOnce;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_told_by_their_beginning_and_passwords_are_not_shown() {
        let read = |text: &str| text.parse::<OnceSettings>();
        assert_eq!(read("memory"), Ok(OnceSettings::Memory));
        assert_eq!(read("sqlite:/var/once.db"), Ok(OnceSettings::Sqlite("/var/once.db".into())));
        let postgres = read("postgres://me:secret@db/app").unwrap();
        assert_eq!(postgres.to_string(), "postgres://me:***@db/app");
        for wrong in ["", "sqlite:", "mysql://db", "memory:"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
