//! `replayer URL`: replays every dead letter of the queue `default` and writes a line for each hundred, so that a test
//! can kill it in the middle. At its end it writes `done N`.

use std::{io::Write, sync::Arc};

use leveret::{
    BrokerSettings, QueueName,
    common::{
        dead_letters::{DeadLetters, Selection},
        link::{Link, Role},
    },
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: replayer URL")?;
    let link = Link::open(Arc::new(BrokerSettings::new(&url)?), Role::Admin);
    let dead = DeadLetters::of(link, QueueName::new("default")?)?;
    let mut out = std::io::stdout();
    let stop = tokio_util::sync::CancellationToken::new();
    let tally = dead
        .replay(&Selection::all(), None, &stop, |tally| {
            if tally.settled % 100 == 0 {
                // A reader that is gone is no reason to stop.
                drop(writeln!(out, "{}", tally.settled).and_then(|()| out.flush()));
            }
        })
        .await?;
    println!("done {}", tally.settled);
    Ok(())
}
