//! What the tests of the centre share.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use leveret_common::clock::{Clock, UnixMillis};
use leveret_producer::{
    centre::{
        database::{Database, DatabaseUrl},
        store::Store,
    },
    plan::{Definition, ScheduleName},
};
use leveret_testkit::Postgres;
use serde_json::Value;

/// Noon of 2027-01-01, UTC.
pub(crate) const NOON: UnixMillis = UnixMillis(1_798_804_800_000);

/// Runs a test on a store in each database, with a clock that stands at [`NOON`].
pub(crate) async fn both(test: impl AsyncFn(Store, Clock)) {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite:{}/centre.db", folder.path().display());
    let postgres = Postgres::shared().await.database().await;
    for url in [&*sqlite, postgres.url()] {
        let clock = Clock::held(NOON);
        let store = open(url, clock.clone()).await;
        test(store.clone(), clock).await;
        store.database().close().await;
    }
}

/// A store in this database.
pub(crate) async fn open(url: &str, clock: Clock) -> Store {
    let url: DatabaseUrl = url.parse().unwrap();
    Store::new(Database::open(&url).await.unwrap(), clock)
}

/// A definition from JSON, of the task `t` unless it says otherwise.
pub(crate) fn definition(mut json: Value) -> Definition {
    let object = json.as_object_mut().unwrap();
    object.entry("task").or_insert_with(|| "t".into());
    serde_json::from_value(json).unwrap()
}

/// A name.
pub(crate) fn name(text: &str) -> ScheduleName {
    text.parse().unwrap()
}
