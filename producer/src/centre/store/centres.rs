//! The centres that are alive.

use std::time::Duration;

use leveret_common::clock::UnixMillis;

use super::Store;
use crate::centre::database::{DatabaseError, Value, Wording};

/// A centre that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Centre {
    /// Its id, new at each start.
    pub id: String,
    /// Its name, such as host and process.
    pub name: String,
    /// Where its REST interface is.
    pub address: Option<String>,
    /// Its version.
    pub version: String,
    /// When it was started, by its own clock.
    pub started_at: UnixMillis,
    /// When it was heard of last, by the database's clock.
    pub beat_at: UnixMillis,
    /// How many shards it holds.
    pub shards: i64,
}

// Leases are written and judged by the database's clock alone: those of the centres may differ.
const BEAT: Wording = Wording::Each(
    "INSERT INTO leveret_centre_centres (id, name, address, version, started_at, beat_at, ends_at)
     VALUES ($1, $2, $3, $4, $5, CAST(unixepoch('subsec') * 1000 AS INTEGER),
        CAST(unixepoch('subsec') * 1000 AS INTEGER) + $6)
     ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at, ends_at = excluded.ends_at, address = excluded.address
     RETURNING beat_at",
    "INSERT INTO leveret_centre_centres (id, name, address, version, started_at, beat_at, ends_at)
     VALUES ($1, $2, $3, $4, $5, CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT),
        CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) + $6)
     ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at, ends_at = excluded.ends_at, address = excluded.address
     RETURNING beat_at",
);
const LIVING: Wording = Wording::Each(
    "SELECT id, name, address, version, started_at, beat_at,
        (SELECT count(*) FROM leveret_centre_shards WHERE holder = id) AS shards
     FROM leveret_centre_centres WHERE ends_at > CAST(unixepoch('subsec') * 1000 AS INTEGER) ORDER BY id",
    "SELECT id, name, address, version, started_at, beat_at,
        (SELECT count(*) FROM leveret_centre_shards WHERE holder = id) AS shards
     FROM leveret_centre_centres
     WHERE ends_at > CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) ORDER BY id",
);
const LEAVE: &str = "DELETE FROM leveret_centre_centres WHERE id = $1";
/// Of those that have long been gone nobody wants to know.
const FORGET: &str = "DELETE FROM leveret_centre_centres WHERE ends_at < $1 - 86400000";

impl Store {
    /// The centres that are alive, in the order of their ids.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn centres(&self) -> Result<Vec<Centre>, DatabaseError> {
        let rows = self.database.fetch(LIVING, []).await?;
        let read = |row: &crate::centre::database::Row| {
            Ok(Centre {
                id: row.text("id")?,
                name: row.text("name")?,
                address: row.maybe_text("address")?,
                version: row.text("version")?,
                started_at: row.moment("started_at")?,
                beat_at: row.moment("beat_at")?,
                shards: row.number("shards")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Says that a centre is alive, and will be for as long as `lease`. The time by the database's clock.
    pub(crate) async fn beat(&self, centre: &Centre, lease: Duration) -> Result<UnixMillis, DatabaseError> {
        let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let values: [Value; 6] = [
            centre.id.as_str().into(),
            centre.name.as_str().into(),
            centre.address.as_deref().into(),
            centre.version.as_str().into(),
            centre.started_at.into(),
            lease.into(),
        ];
        let mut transaction = self.database.begin().await?;
        let rows = transaction.fetch(BEAT, values).await?;
        transaction.commit().await?;
        rows.first().map_or(Ok(UnixMillis(0)), |row| row.moment("beat_at"))
    }

    /// Says that a centre has ended: others take its shards at once.
    pub(crate) async fn leave(&self, id: &str) -> Result<(), DatabaseError> {
        self.database.execute(LEAVE, [id.into()]).await?;
        self.database.execute(FORGET, [self.clock.now().into()]).await.map(drop)
    }
}
