//! The workers that were heard of.

use leveret_common::{
    clock::UnixMillis,
    registry::{About, Beat, Instance, Peer, Presence},
};
use serde::Serialize;

use super::Store;
use crate::centre::database::{DatabaseError, Row, Value, Wording};

/// A worker as a centre last heard of it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerRow {
    /// The instance.
    pub instance: Instance,
    /// Whether it was there.
    pub presence: Presence,
    /// When it was last heard, by that centre's clock.
    pub heard_at: UnixMillis,
    /// Its last beat, or one shortly before.
    pub beat: Beat,
    /// What it has announced, if that was heard.
    pub about: Option<About>,
}

/// A goodbye is for good; besides, who heard it last knows best. In the order of the instances, so that two centres
/// never wait for each other.
const SAVE: Wording = Wording::Each(
    "INSERT INTO leveret_centre_workers (instance, worker, presence, started_at, heard_at, beat, about)
     SELECT value->>'instance', value->>'worker', value->>'presence', value->>'started_at', value->>'heard_at',
         value->>'beat', value->>'about' FROM json_each($1) WHERE true ORDER BY 1
     ON CONFLICT (instance) DO UPDATE SET presence = excluded.presence, heard_at = excluded.heard_at,
         beat = excluded.beat, about = coalesce(excluded.about, leveret_centre_workers.about),
         started_at = coalesce(excluded.started_at, leveret_centre_workers.started_at)
     WHERE leveret_centre_workers.presence <> 'offline' AND excluded.heard_at >= leveret_centre_workers.heard_at",
    "INSERT INTO leveret_centre_workers (instance, worker, presence, started_at, heard_at, beat, about)
     SELECT instance, worker, presence, started_at, heard_at, beat, about
     FROM json_to_recordset($1::json) AS r (instance TEXT, worker TEXT, presence TEXT, started_at BIGINT,
         heard_at BIGINT, beat TEXT, about TEXT) ORDER BY instance
     ON CONFLICT (instance) DO UPDATE SET presence = excluded.presence, heard_at = excluded.heard_at,
         beat = excluded.beat, about = coalesce(excluded.about, leveret_centre_workers.about),
         started_at = coalesce(excluded.started_at, leveret_centre_workers.started_at)
     WHERE leveret_centre_workers.presence <> 'offline' AND excluded.heard_at >= leveret_centre_workers.heard_at",
);
const LOSE: &str = "UPDATE leveret_centre_workers SET presence = 'lost' WHERE presence = 'live' AND heard_at < $1";
const ALL: &str = "SELECT instance, presence, heard_at, beat, about FROM leveret_centre_workers
    WHERE heard_at >= $1 ORDER BY instance LIMIT 10000";
const FORGET: &str = "DELETE FROM leveret_centre_workers WHERE instance IN (SELECT instance FROM leveret_centre_workers
    WHERE heard_at < $1 AND presence <> 'live' ORDER BY heard_at LIMIT $2)";

#[derive(Serialize)]
struct Written {
    instance: Instance,
    worker: String,
    presence: &'static str,
    started_at: Option<UnixMillis>,
    heard_at: UnixMillis,
    beat: String,
    about: Option<String>,
}

impl Store {
    /// Notes workers as they were just heard.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(crate) async fn save_workers(&self, peers: &[&Peer]) -> Result<(), DatabaseError> {
        if peers.is_empty() {
            return Ok(());
        }
        let row = |peer: &&Peer| -> Result<Written, serde_json::Error> {
            Ok(Written {
                instance: peer.beat.instance,
                worker: peer.beat.worker.clone(),
                presence: peer.presence.as_str(),
                started_at: peer.about.as_ref().map(|about| about.started_at),
                heard_at: peer.heard_at,
                beat: serde_json::to_string(&peer.beat)?,
                about: peer.about.as_ref().map(serde_json::to_string).transpose()?,
            })
        };
        let rows: Vec<_> = peers.iter().map(row).collect::<Result<_, _>>().map_err(DatabaseError::Json)?;
        self.database.execute(SAVE, [Value::json(&rows)?]).await.map(drop)
    }

    /// Takes workers that no centre has heard since then to be lost.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(crate) async fn lose_workers(&self, heard_before: UnixMillis) -> Result<u64, DatabaseError> {
        self.database.execute(LOSE, [heard_before.into()]).await
    }

    /// The workers that were heard since then, those that are gone among them.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn worker_rows(&self, heard_since: UnixMillis) -> Result<Vec<WorkerRow>, DatabaseError> {
        let rows = self.database.fetch(ALL, [heard_since.into()]).await?;
        rows.iter().map(read).collect()
    }

    /// Forgets workers that are gone since then. At most `batch`; how many they were.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(crate) async fn forget_workers(&self, heard_before: UnixMillis, batch: u32) -> Result<u64, DatabaseError> {
        self.database.execute(FORGET, [heard_before.into(), batch.into()]).await
    }
}

fn read(row: &Row) -> Result<WorkerRow, DatabaseError> {
    let beat: Beat = row.json("beat")?;
    let presence = match row.text("presence")?.as_str() {
        "live" => Presence::Live,
        "offline" => Presence::Offline,
        _ => Presence::Lost,
    };
    Ok(WorkerRow {
        instance: beat.instance,
        presence,
        heard_at: row.moment("heard_at")?,
        beat,
        about: row.maybe_json("about")?,
    })
}
