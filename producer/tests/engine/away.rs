//! A database that is away for longer than a lease.

use leveret_common::clock::Clock;
use leveret_producer::centre::store::TickState;
use leveret_testkit::{Direction, FaultProxy, Postgres, eventually, eventually_eq};
use serde_json::json;

use crate::{
    centre::{NOON, both, open},
    rig::{PATIENCE, Rig},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_centre_whose_lease_has_ended_decides_nothing_and_goes_on_when_it_is_renewed() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        rig.save("a", json!({"cron": "* * * * *"})).await;
        let engine = rig.engine().await;
        rig.pass(1);
        rig.states("a", &[TickState::Published]).await;
        // Nobody else can write, a beat neither.
        let mut transaction = rig.store.database().begin().await.unwrap();
        let lock = if rig.store.database().is_shared() {
            "LOCK TABLE leveret_centre_centres IN ACCESS EXCLUSIVE MODE"
        } else {
            "SELECT 1 AS one"
        };
        transaction.execute(lock, []).await.unwrap();
        eventually(PATIENCE, async || !engine.health().has_lease).await;
        let decided = engine.stats().decided;
        rig.pass(1);
        // The next beat has failed as well: what it would have decided in its time, it would have by now.
        eventually(PATIENCE, async || engine.health().database.is_some()).await;
        assert_eq!((engine.stats().decided, rig.ticks("a").await.len()), (decided, 1));
        drop(transaction);
        rig.states("a", &[TickState::Published; 2]).await;
        assert_eq!(engine.stop().await.published, 2);
        rig.tasks("default", 2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_centre_sent_before_it_was_cut_off_decides_nothing_once_it_arrives() {
    let postgres = Postgres::shared().await.database().await;
    let proxy = FaultProxy::to(postgres.url()).await;
    let clock = Clock::held(NOON);
    let rig = Rig::new(open(postgres.url(), clock.clone()).await, clock.clone()).await;
    let far = open(proxy.url(), clock).await;
    rig.save("a", json!({"cron": "* * * * *"})).await;
    let cut_off = rig.engine_on(&far).await;
    rig.pass(1);
    rig.states("a", &[TickState::Published]).await;
    proxy.stall(Direction::Both);
    rig.pass(1);
    eventually(PATIENCE, async || !cut_off.health().has_lease).await;
    let other = rig.engine().await;
    rig.states("a", &[TickState::Published; 2]).await;
    assert_eq!(other.stats().published, 1);
    proxy.resume();
    let shares = async || (cut_off.health().shards, other.health().shards);
    eventually_eq(PATIENCE, (32, 32), shares).await;
    rig.pass(1);
    rig.states("a", &[TickState::Published; 3]).await;
    rig.tasks("default", 3).await;
    assert_eq!(cut_off.stop().await.published + other.stop().await.published, 3);
    far.database().close().await;
}
