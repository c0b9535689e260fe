//! Where marks are kept that outlive a process. What a mark is, and what a claim says, is in
//! [`leveret_common::once`].
//!
//! # Work and mark in one transaction
//! A handler that works in the same database commits its work together with the mark. Whatever is killed, and
//! whenever, both are there or neither is:
//!
//! ```no_run
//! # #[cfg(feature = "postgres")] mod example {
//! use leveret_common::once::Mark;
//! use leveret_store::{once::PostgresOnce, sqlx};
//!
//! /// The worker has claimed the mark before it calls this, as the example of `leveret_common::once` shows.
//! async fn charge(once: &PostgresOnce, mark: &Mark, customer: i64, cents: i64) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut transaction = once.pool().begin().await?;
//!     sqlx::query("UPDATE accounts SET cents = cents - $1 WHERE customer = $2")
//!         .bind(cents)
//!         .bind(customer)
//!         .execute(&mut *transaction)
//!         .await?;
//!     // Fails if another attempt has taken this one's place: then the work above is rolled back.
//!     once.done_in(&mut transaction, mark).await?;
//!     transaction.commit().await?;
//!     Ok(())
//! }
//! # }
//! ```

#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;

#[cfg(feature = "redis")]
pub use redis::RedisOnce;
#[cfg(feature = "postgres")]
pub use sql::PostgresOnce;
#[cfg(feature = "sqlite")]
pub use sql::SqliteOnce;
