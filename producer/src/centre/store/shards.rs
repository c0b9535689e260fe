//! Parts of the schedules, each worked on by one centre at a time.

use std::{collections::BTreeMap, time::Duration};

use super::{Store, over_rows};
use crate::{
    centre::database::{DatabaseError, Transaction, Value, Wording},
    plan::{Definition, Overlap, ScheduleName},
};

/// How many shards there are.
pub const SHARDS: i64 = 64;

/// A shard as it is in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 0 on.
    pub shard: i64,
    /// The id of the centre that decides for it.
    pub holder: Option<String>,
    /// How often the holder has changed.
    pub fence: i64,
}

/// What ticks look at each other: those of the schedule, or of its group. `None` where none has to look.
pub(crate) fn lane(name: &ScheduleName, definition: &Definition) -> Option<String> {
    match &definition.group {
        Some(group) => Some(format!("group:{group}")),
        None if definition.overlap != Overlap::Allow || definition.after.is_some() => {
            Some(format!("schedule:{}", name.name()))
        }
        None => None,
    }
}

/// The shard of a schedule. Those of one group are in one, so that one centre decides for all of them.
pub(crate) fn shard_of_schedule(name: &ScheduleName, definition: &Definition) -> i64 {
    match &definition.group {
        Some(group) => shard_of(&[name.namespace(), "group", group]),
        None => shard_of(&[name.namespace(), "schedule", name.name()]),
    }
}

/// FNV-1a, mixed, for its high bits alone are poor. It is the same in every version: what is in the tables rests on it.
pub(crate) fn shard_of(parts: &[&str]) -> i64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    i64::try_from(mixed >> 58).unwrap_or_default()
}

const MAKE: Wording = over_rows!(
    "INSERT INTO leveret_centre_shards (shard) SELECT CAST(rows.value ->> 0 AS BIGINT) FROM",
    "WHERE true ON CONFLICT (shard) DO NOTHING"
);
const ALL: &str = "SELECT shard, holder, fence FROM leveret_centre_shards ORDER BY shard";
const FREE: Wording = Wording::Each(
    "SELECT shard FROM leveret_centre_shards WHERE holder IS NULL
        OR holder NOT IN (SELECT id FROM leveret_centre_centres WHERE ends_at > CAST(unixepoch('subsec') * 1000 AS INTEGER))
     ORDER BY shard LIMIT $1",
    // A shard that somebody has locked is being decided for or taken: the next look will show.
    "SELECT shard FROM leveret_centre_shards WHERE holder IS NULL
        OR holder NOT IN (SELECT id FROM leveret_centre_centres
            WHERE ends_at > CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT))
     ORDER BY shard LIMIT $1 FOR UPDATE SKIP LOCKED",
);
const TAKE: Wording = over_rows!(
    "UPDATE leveret_centre_shards SET holder = $2, fence = fence + 1 FROM",
    "WHERE shard = CAST(rows.value ->> 0 AS BIGINT) RETURNING shard, fence"
);
/// What the last holder had on its way may not have arrived: it is due again. It was to be tried again soon; of what is put
/// off there may be very much, and nobody should wait until all of it was looked through.
const RECLAIM: Wording = over_rows!(
    "UPDATE leveret_centre_outbox SET try_at = due_at FROM",
    "WHERE try_at <= $2 AND shard = CAST(rows.value ->> 0 AS BIGINT) AND claimed = 1 AND try_at > due_at"
);
const SOON: Duration = Duration::from_secs(600);
const RELEASE: Wording = over_rows!(
    "UPDATE leveret_centre_shards SET holder = NULL FROM",
    "WHERE shard = CAST(rows.value ->> 0 AS BIGINT) AND holder = $2"
);
/// Whoever wants a shard waits for its lock; one that was stopped in the middle of a transaction does not keep it for as long
/// as a lease.
const HELD: Wording = Wording::Each(
    "SELECT shard, fence FROM leveret_centre_shards WHERE holder = $1",
    "SELECT shard, fence, set_config('idle_in_transaction_session_timeout', '1500', true) AS patience
     FROM leveret_centre_shards WHERE holder = $1 ORDER BY shard FOR NO KEY UPDATE",
);
const LOCK: &str = "SELECT shard, set_config('idle_in_transaction_session_timeout', '1500', true) AS patience
    FROM leveret_centre_shards
    WHERE shard = ANY (SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST($1 AS json)))
    ORDER BY shard FOR NO KEY UPDATE";
const LOCK_OF_TASKS: &str = "SELECT shard, set_config('idle_in_transaction_session_timeout', '1500', true) AS patience
    FROM leveret_centre_shards WHERE shard IN (SELECT shard FROM leveret_centre_ticks
        WHERE task_id = ANY (SELECT value FROM json_array_elements_text(CAST($1 AS json))))
    ORDER BY shard FOR NO KEY UPDATE";

impl Store {
    /// All shards, with their holders.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn shards(&self) -> Result<Vec<Shard>, DatabaseError> {
        let rows = self.database.fetch(ALL, []).await?;
        let read = |row: &crate::centre::database::Row| {
            Ok(Shard { shard: row.number("shard")?, holder: row.maybe_text("holder")?, fence: row.number("fence")? })
        };
        rows.iter().map(read).collect()
    }

    /// Makes the rows of the shards that are not there yet.
    pub(crate) async fn make_shards(&self) -> Result<(), DatabaseError> {
        let rows: Vec<_> = (0..SHARDS).map(|shard| (shard,)).collect();
        self.database.execute(MAKE, [Value::json(&rows)?]).await.map(drop)
    }

    /// Takes up to `most` shards that no living centre holds. Their numbers and fences.
    pub(crate) async fn take_shards(&self, holder: &str, most: i64) -> Result<BTreeMap<i64, i64>, DatabaseError> {
        let mut transaction = self.database.begin().await?;
        let free = transaction.fetch(FREE, [most.into()]).await?;
        let free = free.iter().map(|row| Ok((row.number("shard")?,))).collect::<Result<Vec<_>, DatabaseError>>()?;
        if free.is_empty() {
            return Ok(BTreeMap::new());
        }
        let taken = transaction.fetch(TAKE, [Value::json(&free)?, holder.into()]).await?;
        transaction.execute(RECLAIM, [Value::json(&free)?, (self.clock.now() + SOON).into()]).await?;
        transaction.commit().await?;
        taken.iter().map(|row| Ok((row.number("shard")?, row.number("fence")?))).collect()
    }

    /// Gives these shards up; those that are another's stay.
    pub(crate) async fn release_shards(&self, holder: &str, shards: &[i64]) -> Result<(), DatabaseError> {
        let rows: Vec<_> = shards.iter().map(|shard| (shard,)).collect();
        self.database.execute(RELEASE, [Value::json(&rows)?, holder.into()]).await.map(drop)
    }
}

/// Keeps other transactions from these shards until the end of this one. Whoever changes ticks and schedules of several
/// shards begins with it, lest two wait for each other.
pub(crate) async fn lock(store: &Store, transaction: &mut Transaction, shards: &[i64]) -> Result<(), DatabaseError> {
    // In SQLite there is no other.
    if store.database.is_shared() {
        transaction.fetch(LOCK, [Value::json(shards)?]).await?;
    }
    Ok(())
}

/// Keeps other transactions from the shards of these tasks' ticks, as [`lock`] does.
pub(crate) async fn lock_of_tasks(
    store: &Store,
    transaction: &mut Transaction,
    ids: &[&str],
) -> Result<(), DatabaseError> {
    if store.database.is_shared() {
        transaction.fetch(LOCK_OF_TASKS, [Value::json(ids)?]).await?;
    }
    Ok(())
}

/// The shards that are the holder's until the end of the transaction, with their fences.
pub(crate) async fn lock_held(
    transaction: &mut Transaction,
    holder: &str,
) -> Result<BTreeMap<i64, i64>, DatabaseError> {
    let rows = transaction.fetch(HELD, [holder.into()]).await?;
    rows.iter().map(|row| Ok((row.number("shard")?, row.number("fence")?))).collect()
}
