//! A worker in a process of its own, as far as limits are concerned, to be killed: `limited URL CONCURRENCY RUNNERS MS`.
//!
//! Its runners hold a permit for so many milliseconds, one after another. It writes a line for each: `[<begun>, <ended>]`
//! in microseconds since 1970, the latter `null` at the beginning.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use leveret::{
    common::{
        limit::{LimitName, LimitSettings},
        link::{Link, Role},
    },
    worker::limits::{Admission, LimitOptions, Limits},
};
use leveret_tests::settings;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, concurrency, runners, hold] = arguments.as_slice() else {
        return Err("usage: limited URL CONCURRENCY RUNNERS MS".into());
    };
    let limit = LimitSettings::concurrency(concurrency.parse()?);
    let limits: BTreeMap<_, _> = [(LimitName::new("most")?, limit)].into();
    let link = Link::open(Arc::new(settings(url)), Role::Consume);
    let limits = Limits::start(link, limits, LimitOptions::default()).await?;
    let hold = Duration::from_millis(hold.parse()?);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..runners.parse()? {
        let limits = limits.clone();
        running.spawn(async move {
            loop {
                if let Admission::Now(_permit) = limits.admit("default", "probe", None).await {
                    let begun = now();
                    say(begun, "null");
                    tokio::time::sleep(hold).await;
                    // The permit is given back after this.
                    say(begun, &now().to_string());
                }
            }
        });
    }
    running.join_next().await;
    Ok(())
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros())
}

/// One line, out at once: what a killed process has not yet written is never seen.
fn say(begun: u128, ended: &str) {
    let mut out = std::io::stdout().lock();
    // The test that reads may be over.
    let _ = writeln!(out, "[{begun}, {ended}]").and_then(|()| out.flush());
}
