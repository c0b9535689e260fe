//! What a mark costs in each store: a claim and a done for one task after the other, and for 32 at once.
//!
//! `cargo run --release -p leveret-store --features postgres,redis --example once_rate -- POSTGRES_URL REDIS_URL` with
//! the addresses that `scripts/services` prints. It leaves its rows to be removed by the stores.

use std::{error::Error, sync::Arc, time::Duration};

use leveret_common::{
    clock::Clock,
    once::{Claim, Mark, MemoryOnce, OnceError, OnceStore},
    task::TaskId,
};
use leveret_store::{
    once::{PostgresOnce, RedisOnce, SqliteOnce},
    postgres, sqlite,
};
use tokio::time::Instant;

const AT_ONCE: usize = 32;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, redis] = arguments.as_slice() else {
        return Err("usage: once_rate POSTGRES_URL REDIS_URL".into());
    };
    let clock = Clock::system();
    let folder = tempfile::tempdir()?;
    let file = sqlite::open(folder.path().join("once.db")).await?;
    measure("memory", Arc::new(MemoryOnce::new(clock.clone())), 400_000).await?;
    measure("sqlite", Arc::new(SqliteOnce::new(file, clock.clone())), 4_000).await?;
    measure("postgres", Arc::new(PostgresOnce::new(postgres::connect(database).await?, clock.clone())), 4_000).await?;
    measure("redis", Arc::new(RedisOnce::connect(redis, clock).await?), 10_000).await?;
    Ok(())
}

async fn measure(name: &str, once: Arc<dyn OnceStore>, tasks: usize) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    run(&*once, tasks).await?;
    let one = start.elapsed();
    let start = Instant::now();
    let runs: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let once = once.clone();
            tokio::spawn(async move { run(&*once, tasks / AT_ONCE).await })
        })
        .collect();
    for run in runs {
        run.await??;
    }
    let many = start.elapsed();
    println!(
        "{name:<9} alone {:>10.2?} a task, {AT_ONCE} at once {:>9.0} tasks/s",
        each(one, tasks),
        rate(many, tasks)
    );
    Ok(())
}

async fn run(once: &dyn OnceStore, tasks: usize) -> Result<(), OnceError> {
    for _ in 0..tasks {
        let mark = Mark::of_task(&TaskId::new(), "worker").window(Duration::from_secs(60));
        if once.claim(&mark, false).await? == Claim::First {
            once.done(&mark).await?;
        }
    }
    Ok(())
}

fn each(took: Duration, tasks: usize) -> Duration {
    Duration::from_secs_f64(took.as_secs_f64() / tasks as f64)
}

fn rate(took: Duration, tasks: usize) -> f64 {
    tasks as f64 / took.as_secs_f64()
}
