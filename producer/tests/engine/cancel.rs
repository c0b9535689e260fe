//! A later tick ends the run of an earlier one, at a real worker.

use std::time::Duration;

use leveret_common::config::BrokerSettings;
use leveret_producer::centre::{
    store::TickState,
    watch::{WatchOptions, Watcher},
};
use leveret_worker::{
    builder::Worker,
    context::Context,
    handler::Job,
    options::QueueOptions,
    outcome::{Error, Outcome},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    centre::{NOON, both},
    rig::{MINUTE, PATIENCE, Rig},
};

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Tick(Value);

impl leveret_common::task::Task for Tick {
    const NAME: &'static str = "t";
}

/// What the handler says: the minute of its tick, and what comes of it.
type Said = (u64, &'static str);

async fn said(inbox: &mut mpsc::UnboundedReceiver<Said>) -> Said {
    tokio::time::timeout(PATIENCE, inbox.recv()).await.unwrap().unwrap()
}

/// The first tick runs until it is cancelled, the second ends by itself.
async fn second_tick_ends_the_first(rig: &Rig, overlap: &str) {
    let settings = BrokerSettings::new(rig.vhost.url()).unwrap();
    let options = WatchOptions { patience: Duration::from_millis(20), ..WatchOptions::default() };
    let watcher = Watcher::start(rig.store.clone(), settings.clone(), options).await.unwrap();
    let (says, mut inbox) = mpsc::unbounded_channel();
    let handler = move |context: Context, _: Job<Tick>| {
        let (says, minute) = (says.clone(), context.schedule().unwrap().1.since(NOON).as_secs() / 60);
        async move {
            says.send((minute, "begins")).unwrap();
            if minute > 1 {
                return Ok(Outcome::Done);
            }
            context.cancelled().await;
            says.send((minute, "is cancelled")).unwrap();
            Err::<Outcome, Error>(context.cancelled_error())
        }
    };
    let worker = Worker::builder(settings).queue("default", QueueOptions::concurrency(4)).task(handler);
    let worker = worker.build().unwrap().start().await.unwrap();
    worker.attached().await.unwrap();

    rig.save("a", json!({"cron": "* * * * *", "overlap": overlap, "ends_at": (NOON + 3 * MINUTE).to_rfc3339()})).await;
    let engine = rig.engine().await;
    rig.pass(1);
    assert_eq!(said(&mut inbox).await, (1, "begins"));
    rig.pass(1);
    let mut rest = [said(&mut inbox).await, said(&mut inbox).await];
    if overlap == "cancel-running" {
        assert_eq!(rest, [(1, "is cancelled"), (2, "begins")]);
    } else {
        rest.sort_unstable();
        assert_eq!(rest, [(1, "is cancelled"), (2, "begins")]);
    }
    rig.states("a", &[TickState::Cancelled, TickState::Done]).await;
    engine.stop().await;
    worker.stop().await;
    watcher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_in_the_way_is_cancelled_and_then_the_next_runs() {
    both(async |store, clock| second_tick_ends_the_first(&Rig::new(store, clock).await, "cancel-running").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_in_the_way_is_cancelled_while_the_next_runs() {
    both(async |store, clock| second_tick_ends_the_first(&Rig::new(store, clock).await, "terminate-running").await)
        .await;
}
