//! What limits that workers share cost, against the broker of the tests: permits a second on one limit that is in use by
//! everyone, and how long one permit takes. `cargo bench -p leveret-worker --bench limits`

#![expect(clippy::unwrap_used, reason = "a bench fails by a panic")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leveret_common::{
    config::BrokerSettings,
    limit::{LimitName, LimitSettings},
    link::{Link, Role},
};
use leveret_testkit::Broker;
use leveret_worker::limits::{Admission, LimitOptions, Limits};
use tokio::time::Instant;

const WHOLE: Duration = Duration::from_secs(3);

async fn start(url: &str, limit: &LimitSettings) -> Limits {
    let link = Link::open(Arc::new(BrokerSettings::new(url).unwrap()), Role::Consume);
    let limits: BTreeMap<_, _> = [(LimitName::new("hot").unwrap(), limit.clone())].into();
    Limits::start(link, limits, LimitOptions::default()).await.unwrap()
}

async fn hot(what: &str, workers: usize, runners: usize, limit: LimitSettings) {
    let vhost = Broker::shared().await.vhost().await;
    let (count, from) = (Arc::new(AtomicUsize::new(0)), Instant::now() + Duration::from_secs(1));
    let mut running = Vec::new();
    for _ in 0..workers {
        let limits = start(vhost.url(), &limit).await;
        let gate = Arc::new(limits.gate("default", "probe").unwrap());
        for _ in 0..runners {
            let (gate, count) = (gate.clone(), count.clone());
            running.push(tokio::spawn(async move {
                let mut waits = Vec::new();
                while from.elapsed() < WHOLE {
                    let asked = Instant::now();
                    if let Admission::Now(_permit) = gate.admit(None, None).await
                        && Instant::now() > from
                    {
                        count.fetch_add(1, Ordering::Relaxed);
                        waits.push(asked.elapsed());
                    }
                }
                waits
            }));
        }
    }
    let mut waits = Vec::new();
    for runner in running {
        waits.extend(runner.await.unwrap());
    }
    waits.sort_unstable();
    let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!(
        "{what}: {workers} workers x {runners}: {:.0} permits/s, one takes {:?} (median), {:?} (99 of 100), {:?} (999 of 1000)",
        count.load(Ordering::Relaxed) as f64 / WHOLE.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
    );
}

#[tokio::main]
async fn main() {
    let wide = LimitSettings::concurrency(1_000);
    hot("room for all", 1, 1, wide.clone()).await;
    hot("room for all", 1, 16, wide.clone()).await;
    hot("room for all", 1, 64, wide.clone()).await;
    hot("room for all", 4, 16, wide).await;
    hot("five at once", 1, 16, LimitSettings::concurrency(5)).await;
    hot("five at once", 4, 16, LimitSettings::concurrency(5)).await;
    hot("per worker", 1, 16, LimitSettings { per_worker: true, ..LimitSettings::concurrency(5) }).await;
}
