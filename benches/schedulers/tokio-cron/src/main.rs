//! How many ticks a second tokio-cron-scheduler keeps up: `compare-tokio-cron JOBS SECONDS`. See README.md one folder up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio_cron_scheduler::{Job, JobScheduler};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let jobs = arguments.next().transpose()?.unwrap_or(1_000);
    let seconds = arguments.next().transpose()?.unwrap_or(20);
    let (ticks, late, worst) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let scheduler = JobScheduler::new().await?;
    for _ in 0..jobs {
        let (ticks, late, worst) = (ticks.clone(), late.clone(), worst.clone());
        scheduler
            .add(Job::new_async("* * * * * *", move |_, _| {
                let (ticks, late, worst) = (ticks.clone(), late.clone(), worst.clone());
                Box::pin(async move {
                    // Each tick is due at a whole second.
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
                    ticks.fetch_add(1, Relaxed);
                    late.fetch_add(now.into(), Relaxed);
                    worst.fetch_max(now.into(), Relaxed);
                })
            })?)
            .await?;
    }
    scheduler.start().await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for counter in [&ticks, &late, &worst] {
        counter.store(0, Relaxed);
    }
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (count, took) = (ticks.load(Relaxed), begun.elapsed().as_secs_f64());
    println!(
        "tokio-cron-scheduler: {jobs} jobs each second for {took:.0} s: {:.0} ticks/s, {:.0} % of those that there should \
         be, late by {:.0} ms on average and {} ms at worst",
        count as f64 / took,
        100.0 * count as f64 / (jobs as f64 * took),
        late.load(Relaxed) as f64 / count.max(1) as f64,
        worst.load(Relaxed),
    );
    Ok(())
}
