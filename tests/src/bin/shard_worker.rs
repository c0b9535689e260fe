//! A worker of the queue `mail` in shards, in a process of its own, to be killed: `shard_worker URL SHARDS INSTANCE
//! INSTANCES WORK_US`. INSTANCES has all that share the queue, with commas between. Each run is a line of JSON on
//! standard output at its beginning, and one at its end. It stops in good order when its standard input ends.

use std::{
    io::{Read, Write},
    time::Duration,
};

use leveret::{QueueName, QueueSettings};
use leveret_tests::{settings, shards::ShardWorker};
use tokio::sync::{mpsc, watch};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, shards, instance, instances, work] = arguments.as_slice() else {
        return Err("usage: shard_worker URL SHARDS INSTANCE INSTANCES WORK_US".into());
    };
    let queue = QueueName::new("mail")?;
    let queue_settings = QueueSettings { shards: Some(shards.parse()?), ..QueueSettings::default() };
    let (_workers, known) = watch::channel(instances.split(',').map(str::to_owned).collect());
    let (tell, mut told) = mpsc::unbounded_channel();
    let work = Duration::from_micros(work.parse()?);
    let worker = ShardWorker::start(settings(url), &queue, queue_settings, instance, known, work, tell).await;
    let telling = tokio::spawn(async move {
        while let Some(ran) = told.recv().await {
            let mut out = std::io::stdout().lock();
            // Each line at once: what a killed process has not yet written is never seen.
            let written = serde_json::to_string(&ran).map(|line| writeln!(out, "{line}").and_then(|()| out.flush()));
            drop(written);
        }
    });
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    worker.stop().await;
    telling.await?;
    Ok(())
}
