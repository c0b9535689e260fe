//! The tables of the outbox: nearly the same statements serve SQLite and PostgreSQL.

use futures_util::future::{BoxFuture, FutureExt};
use leveret_common::{
    client::Client,
    clock::{Clock, UnixMillis},
    message::Message,
};
use sqlx::QueryBuilder;

use super::{
    Parked, Relay,
    row::{Columns, NewRow, Row, Rows},
};
use crate::StoreError;

/// Messages in one statement: well below the number of parameters that SQLite takes.
const AT_ONCE: usize = 500;
/// Bytes of bodies that a relay takes at once, unless a single one is larger.
const BYTES_AT_ONCE: i64 = 16 << 20;

const ADD: &str = "INSERT INTO leveret_outbox (id, task, queue, content_type, properties, headers, body) ";
const WAITING: &str = "SELECT count(*) FROM leveret_outbox";
const PARKED: &str = "
    SELECT position, id, task, queue, error, parked_at FROM leveret_outbox_parked ORDER BY position LIMIT $1";
const LEAD: &str = "
    UPDATE leveret_outbox_relay SET holder = $1, ends_at = $2 WHERE holder = $1 OR ends_at <= $3";
const RESIGN: &str = "UPDATE leveret_outbox_relay SET ends_at = 0 WHERE holder = $1";
const PARK: [&str; 2] = [
    "INSERT INTO leveret_outbox_parked
        SELECT position, id, task, queue, content_type, properties, headers, body, $2, $3
        FROM leveret_outbox WHERE position = $1",
    "DELETE FROM leveret_outbox WHERE position = $1",
];

/// The dialects differ in how they take a list: as an array, or as JSON.
macro_rules! statements {
    ($name:ident, $begin:literal, $not_among:literal, $among:literal) => {
        mod $name {
            pub(super) const BEGIN: &str = $begin;
            /// $1 after which position, $2 queues that are left out, $3 limit, $4 bytes at once. The sum is over
            /// lengths alone, so that no body is read that is not returned.
            pub(super) const NEXT: &str = concat!(
                "SELECT position, id, task, queue, content_type, properties, headers, body FROM leveret_outbox
                WHERE position IN (
                    SELECT position FROM (
                        SELECT position, sum(bytes) OVER (ORDER BY position) - bytes AS before FROM (
                            SELECT position, length(body) AS bytes FROM leveret_outbox
                            WHERE position > $1 AND queue ",
                $not_among,
                " ORDER BY position LIMIT $3
                        ) AS first_rows
                    ) AS summed_rows WHERE before < $4
                ) ORDER BY position"
            );
            pub(super) const REMOVE: &str = concat!("DELETE FROM leveret_outbox WHERE position ", $among);
            pub(super) const RETRY: [&str; 2] = [
                concat!(
                    "INSERT INTO leveret_outbox
                        (position, id, task, queue, content_type, properties, headers, body)
                    SELECT position, id, task, queue, content_type, properties, headers, body
                    FROM leveret_outbox_parked WHERE position ",
                    $among
                ),
                concat!("DELETE FROM leveret_outbox_parked WHERE position ", $among),
            ];
        }
    };
}
#[cfg(feature = "postgres")]
statements!(postgres, "BEGIN", "<> ALL($2)", "= ANY($1)");
#[cfg(feature = "sqlite")]
statements!(
    sqlite,
    "BEGIN IMMEDIATE",
    "NOT IN (SELECT value FROM json_each($2))",
    "IN (SELECT value FROM json_each($1))"
);

macro_rules! outbox_in {
    ($(#[$about:meta])* $name:ident, $database:ty, $dialect:ident, $list:path) => {
        $(#[$about])*
        ///
        /// Cheap to clone.
        #[derive(Clone, Debug)]
        pub struct $name {
            pool: sqlx::Pool<$database>,
            clock: Clock,
        }

        impl $name {
            /// The outbox in a database that has the tables already. Delays of messages are reckoned by `clock`.
            pub fn new(pool: sqlx::Pool<$database>, clock: Clock) -> Self {
                Self { pool, clock }
            }

            /// Adds a message, to be published once the transaction has committed. A delay begins now, and the trace
            /// context is that of the caller.
            ///
            /// # Errors
            /// [`StoreError::Message`] for what could never be published, by the limits that hold unless set
            /// otherwise; [`StoreError::Statement`].
            pub async fn add(
                &self,
                transaction: &mut sqlx::Transaction<'_, $database>,
                message: &Message,
            ) -> Result<(), StoreError> {
                self.add_all(transaction, std::slice::from_ref(message)).await
            }

            /// Adds messages in their order, some hundred in each statement. See [`add`](Self::add).
            ///
            /// # Errors
            /// As [`add`](Self::add); then none is added, unless the transaction is committed all the same.
            pub async fn add_all(
                &self,
                transaction: &mut sqlx::Transaction<'_, $database>,
                messages: &[Message],
            ) -> Result<(), StoreError> {
                for messages in messages.chunks(AT_ONCE) {
                    let rows = messages.iter().map(|message| NewRow::of(message, &self.clock));
                    let rows = rows.collect::<Result<Vec<_>, _>>()?;
                    let often = rows.len() == 1 || rows.len() == AT_ONCE;
                    let mut statement = QueryBuilder::<$database>::new(ADD);
                    statement.push_values(rows, |mut columns, row| {
                        let NewRow { stored, properties, headers } = row;
                        columns
                            .push_bind(stored.id)
                            .push_bind(stored.task)
                            .push_bind(stored.queue)
                            .push_bind(stored.content_type)
                            .push_bind(properties)
                            .push_bind(headers)
                            .push_bind(Vec::from(stored.body));
                    });
                    // Only a statement that comes again is worth keeping prepared.
                    statement.build().persistent(often).execute(&mut **transaction).await?;
                }
                Ok(())
            }

            /// A relay that publishes through `client`, not started yet. Its queues should be declared, by their
            /// workers or `leveret topology apply`.
            pub fn relay(&self, client: Client) -> Relay {
                Relay::new(client, std::sync::Arc::new(self.clone()))
            }

            /// How many messages wait to be published. Counts rows: not for every second.
            ///
            /// # Errors
            /// [`StoreError::Statement`].
            pub async fn waiting(&self) -> Result<i64, StoreError> {
                Ok(sqlx::query_scalar(WAITING).fetch_one(&self.pool).await?)
            }

            /// The first messages that could not be published whatever happened.
            ///
            /// # Errors
            /// [`StoreError::Statement`].
            pub async fn parked(&self, limit: u32) -> Result<Vec<Parked>, StoreError> {
                let rows: Vec<(i64, String, String, String, String, i64)> =
                    sqlx::query_as(PARKED).bind(i64::from(limit)).fetch_all(&self.pool).await?;
                Ok(rows
                    .into_iter()
                    .map(|(position, id, task, queue, error, parked_at)| Parked {
                        position,
                        id,
                        task,
                        queue,
                        error,
                        parked_at: UnixMillis(parked_at),
                    })
                    .collect())
            }

            /// Puts parked messages back, at their old positions. How many there were.
            ///
            /// # Errors
            /// [`StoreError::Statement`].
            pub async fn retry(&self, positions: &[i64]) -> Result<u64, StoreError> {
                let mut transaction = self.pool.begin_with($dialect::BEGIN).await?;
                let mut moved = 0;
                for statement in $dialect::RETRY {
                    let done = sqlx::query(statement).bind($list(positions)).execute(&mut *transaction).await?;
                    moved = done.rows_affected();
                }
                transaction.commit().await?;
                Ok(moved)
            }
        }

        impl Rows for $name {
            fn lead<'a>(&'a self, holder: &'a str, ends_at: UnixMillis) -> BoxFuture<'a, sqlx::Result<bool>> {
                let lead = sqlx::query(LEAD).bind(holder).bind(ends_at.0).bind(self.clock.now().0);
                async move { Ok(lead.execute(&self.pool).await?.rows_affected() > 0) }.boxed()
            }

            fn resign<'a>(&'a self, holder: &'a str) -> BoxFuture<'a, sqlx::Result<()>> {
                async move { sqlx::query(RESIGN).bind(holder).execute(&self.pool).await.map(drop) }.boxed()
            }

            fn next<'a>(
                &'a self,
                after: i64,
                less: &'a [&'a str],
                limit: i64,
            ) -> BoxFuture<'a, sqlx::Result<Vec<Row>>> {
                async move {
                    let rows: Vec<Columns> = sqlx::query_as($dialect::NEXT)
                        .bind(after)
                        .bind($list(less))
                        .bind(limit)
                        .bind(BYTES_AT_ONCE)
                        .fetch_all(&self.pool)
                        .await?;
                    Ok(rows.into_iter().map(Row::from).collect())
                }
                .boxed()
            }

            fn remove<'a>(&'a self, positions: &'a [i64]) -> BoxFuture<'a, sqlx::Result<()>> {
                let remove = sqlx::query($dialect::REMOVE).bind($list(positions));
                async move { remove.execute(&self.pool).await.map(drop) }.boxed()
            }

            fn park<'a>(&'a self, position: i64, error: &'a str) -> BoxFuture<'a, sqlx::Result<()>> {
                async move {
                    let mut transaction = self.pool.begin_with($dialect::BEGIN).await?;
                    sqlx::query(PARK[0])
                        .bind(position)
                        // What a foreign program wrote may come back in an error; PostgreSQL takes no zero in a text.
                        .bind(error.replace('\0', "\u{fffd}"))
                        .bind(self.clock.now().0)
                        .execute(&mut *transaction)
                        .await?;
                    sqlx::query(PARK[1]).bind(position).execute(&mut *transaction).await?;
                    transaction.commit().await
                }
                .boxed()
            }

            fn clock(&self) -> &Clock {
                &self.clock
            }
        }
    };
}

#[cfg(feature = "sqlite")]
outbox_in! {
    /// The outbox of an application whose database is SQLite. See [`crate::sqlite::migrate`].
    SqliteOutbox, sqlx::Sqlite, sqlite, json_list
}

#[cfg(feature = "postgres")]
outbox_in! {
    /// The outbox of an application whose database is PostgreSQL. See [`crate::postgres::migrate`].
    PostgresOutbox, sqlx::Postgres, postgres, std::convert::identity
}

#[cfg(feature = "sqlite")]
fn json_list(list: &(impl serde::Serialize + ?Sized)) -> String {
    // Numbers and texts can always be written.
    serde_json::to_string(list).unwrap_or_default()
}
