//! Stores that outlive a process: marks of work that must take effect once, and an outbox for publishers.
//!
//! | module | what is in it |
//! |---|---|
//! | [`once`] | `SqliteOnce`, `PostgresOnce`, `RedisOnce`: where marks are kept, and how they commit together with the work |
//! | [`outbox`] | `SqliteOutbox`, `PostgresOutbox`: messages that are published if, and only if, a transaction commits |
//! | `postgres`, `sqlite` | connect, and make the tables `leveret_*` |
//!
//! Features: `sqlite` (by default), `postgres`, `redis`. [`sqlx`] is re-exported, so that an application shares its
//! pool and its transactions with these stores.

mod error;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod migrate;
pub mod once;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod outbox;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use error::StoreError;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use sqlx;
