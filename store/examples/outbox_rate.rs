//! How fast an outbox in PostgreSQL is published: from the commit of its rows to the broker's confirm.
//!
//! `cargo run --release -p leveret-store --features postgres --example outbox_rate -- POSTGRES_URL AMQP_URL [ROWS]`
//! with the addresses that `scripts/services` and `rabbitmq/up --url` print. It leaves the queue `rate` and the tables
//! `leveret_*` behind: a queue takes a million messages, and then refuses more until it is emptied.

use std::{error::Error, time::Duration};

use leveret_common::{
    client::Client,
    clock::Clock,
    config::BrokerSettings,
    message::Message,
    topology::{QueueName, QueueSettings, Topology},
};
use leveret_store::{outbox::PostgresOutbox, postgres, sqlx};
use tokio::time::Instant;

const IN_ONE_TRANSACTION: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, broker, rest @ ..] = arguments.as_slice() else {
        return Err("usage: outbox_rate POSTGRES_URL AMQP_URL [ROWS]".into());
    };
    let rows: usize = rest.first().map_or(Ok(100_000), |rows| rows.parse())?;
    let pool = postgres::connect(database).await?;
    let client = Client::connect(BrokerSettings::new(broker)?).await?;
    client.apply(&Topology::new("leveret")?.queue(QueueName::new("rate")?, QueueSettings::default())).await?;
    let outbox = PostgresOutbox::new(pool.clone(), Clock::system());

    let start = Instant::now();
    add(&outbox, &pool, rows).await?;
    report("committed, nobody publishing", rows, start.elapsed());

    let start = Instant::now();
    let relay = outbox.relay(client.clone()).start();
    until_empty(&outbox).await?;
    report("published, nobody committing", rows, start.elapsed());

    let start = Instant::now();
    add(&outbox, &pool, rows).await?;
    until_empty(&outbox).await?;
    report("committed and published at once", rows, start.elapsed());
    relay.stop().await;
    client.close().await;
    Ok(())
}

/// Rows as applications write them, in transactions of their own.
async fn add(outbox: &PostgresOutbox, pool: &sqlx::PgPool, rows: usize) -> Result<(), Box<dyn Error>> {
    let mut number = 0;
    while number < rows {
        let until = rows.min(number + IN_ONE_TRANSACTION);
        let messages =
            (number..until).map(|number| Message::json("rate", &number).map(|message| message.queue("rate")));
        let mut transaction = pool.begin().await?;
        outbox.add_all(&mut transaction, &messages.collect::<Result<Vec<_>, _>>()?).await?;
        transaction.commit().await?;
        number = until;
    }
    Ok(())
}

async fn until_empty(outbox: &PostgresOutbox) -> Result<(), Box<dyn Error>> {
    while outbox.waiting().await? > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn report(what: &str, rows: usize, took: Duration) {
    println!(
        "{what:<34} {rows:>8} rows in {:>6.2} s {:>9.0} rows/s",
        took.as_secs_f64(),
        rows as f64 / took.as_secs_f64()
    );
}
