//! Messages that are published if, and only if, the transaction that wrote them commits.
//!
//! An application that changes its database and then publishes can be killed in between, and one that publishes first
//! may fail to commit. With an outbox it writes the message into a table, in the same transaction; a [`Relay`]
//! publishes what has been committed, with confirms, and then removes the row.
//!
//! ```no_run
//! # #[cfg(feature = "postgres")] mod example {
//! use leveret_common::{client::Client, clock::Clock, message::Message};
//! use leveret_store::{outbox::PostgresOutbox, postgres, sqlx};
//!
//! # async fn run(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let pool = postgres::connect("postgres://shop@127.0.0.1/shop").await?;
//! let outbox = PostgresOutbox::new(pool.clone(), Clock::system());
//! // In one process or in each: one of them works at a time.
//! let relay = outbox.relay(client).start();
//!
//! let mut transaction = pool.begin().await?;
//! sqlx::query("UPDATE orders SET paid = true WHERE id = 17").execute(&mut *transaction).await?;
//! outbox.add(&mut transaction, &Message::json("invoice.send", &17)?).await?;
//! transaction.commit().await?;
//!
//! relay.stop().await;
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! # What is promised
//! - What was committed is published at least once. A relay that is killed between the broker's confirm and the
//!   removal leaves the row to the next one, so that the message is published again, under the same id.
//! - Messages are sent in the order in which they were added in a transaction, and a transaction's after those of one
//!   that had committed before it began.
//! - A message for a queue that is not there, or is full, holds back the messages for that queue alone; they are tried
//!   again after a second, then after two, up to 30. Of those that were on their way together with the refused one,
//!   some may have got in before it.
//! - A message that cannot be published whatever happens is parked with its error: see `parked` and `retry`.
//!
//! Rows may be written by any program; the columns are described in `store/migrations`.

mod hold;
mod relay;
mod row;
mod sql;

pub use relay::{Relay, RunningRelay};
pub use row::Parked;
#[cfg(feature = "postgres")]
pub use sql::PostgresOutbox;
#[cfg(feature = "sqlite")]
pub use sql::SqliteOutbox;
