//! A clock that is put back.

use std::{collections::BTreeSet, time::Duration};

use leveret_producer::centre::store::{TickRecord, TickState};
use leveret_testkit::{eventually, eventually_eq};
use serde_json::json;

use crate::{
    centre::{NOON, both, name},
    rig::{MINUTE, PATIENCE, Rig},
};

const HOUR: Duration = Duration::from_secs(3_600);

impl Rig {
    /// Waits until the ticks that run are those of these times from a day before noon on, and all are published.
    async fn published(&self, schedule: &str, expected: &[Duration]) {
        let read = async || {
            let mut ticks = self.ticks(schedule).await;
            ticks.retain(|tick| tick.state != TickState::Missed);
            let state = |tick: &TickRecord| (tick.scheduled_at.since(NOON - 24 * HOUR), tick.state);
            ticks.iter().map(state).collect::<Vec<_>>()
        };
        let expected = expected.iter().map(|at| (*at, TickState::Published)).collect();
        eventually_eq(PATIENCE, expected, read).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_put_back_by_a_day_was_wrong_before_and_schedules_start_over() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        rig.save("a", json!({"cron": "* * * * *"})).await;
        let engine = rig.engine().await;
        rig.pass(1);
        rig.states("a", &[TickState::Published]).await;
        let back = NOON + MINUTE - 24 * HOUR;
        rig.clock.set(back);
        eventually(PATIENCE, async || {
            let next = rig.store.schedule(&name("a")).await.unwrap().next;
            next.is_some_and(|next| next.scheduled_at == back + MINUTE)
        })
        .await;
        rig.pass(1);
        rig.published("a", &[2 * MINUTE, 24 * HOUR + MINUTE]).await;

        // Put forward again to a tick that was decided about already: that is not decided about again, and goes on from there.
        rig.clock.set(NOON + MINUTE + Duration::from_secs(30));
        eventually(PATIENCE, async || {
            let next = rig.store.schedule(&name("a")).await.unwrap().next;
            next.is_some_and(|next| next.scheduled_at == NOON + 2 * MINUTE)
        })
        .await;
        rig.clock.set(NOON + 2 * MINUTE);
        rig.published("a", &[2 * MINUTE, 24 * HOUR + MINUTE, 24 * HOUR + 2 * MINUTE]).await;
        assert_eq!(engine.stop().await.published, 3);
        let ids: BTreeSet<_> = rig.tasks("default", 3).await.into_iter().collect();
        assert_eq!(ids.len(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_put_back_by_an_hour_makes_ticks_wait_and_none_is_decided_twice() {
    both(async |store, clock| {
        let rig = Rig::new(store, clock).await;
        rig.save("a", json!({"cron": "* * * * *"})).await;
        let engine = rig.engine().await;
        for minute in 1..=2 {
            rig.pass(1);
            rig.states("a", &[TickState::Published; 2][..minute]).await;
        }
        rig.clock.set(NOON + 2 * MINUTE - HOUR);
        // It shows that the engine is at work.
        rig.save("probe", json!({"at": "2027-01-01T11:30:00Z"})).await;
        rig.clock.set(NOON - 30 * MINUTE);
        rig.states("probe", &[TickState::Published]).await;
        rig.clock.set(NOON + MINUTE);
        rig.save("other", json!({"at": "2027-01-01T12:02:00Z"})).await;
        rig.clock.set(NOON + 2 * MINUTE);
        rig.states("other", &[TickState::Published]).await;
        rig.published("a", &[24 * HOUR + MINUTE, 24 * HOUR + 2 * MINUTE]).await;
        rig.pass(1);
        rig.published("a", &[1, 2, 3].map(|minute| 24 * HOUR + minute * MINUTE)).await;
        assert_eq!(engine.stop().await.published, 5);
        let ids: BTreeSet<_> = rig.tasks("default", 5).await.into_iter().collect();
        assert_eq!(ids.len(), 5);
    })
    .await;
}
