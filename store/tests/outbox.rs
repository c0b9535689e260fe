//! What is written into an outbox is published if its transaction commits: all of it, in order.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::{collections::HashSet, time::Duration};

use leveret_common::{
    client::Client,
    clock::{Clock, UnixMillis},
    config::BrokerSettings,
    message::Message,
    topology::{QueueName, QueueSettings, Topology},
};
use leveret_store::{
    StoreError,
    outbox::{PostgresOutbox, RunningRelay, SqliteOutbox},
    postgres, sqlite, sqlx,
};
use leveret_testkit::{Broker, Direction, FaultProxy, Postgres, Vhost, eventually, eventually_eq};

const PATIENCE: Duration = Duration::from_secs(60);

async fn vhost() -> Vhost {
    Broker::shared().await.vhost().await
}

async fn client(url: &str) -> Client {
    Client::connect(BrokerSettings::new(url).unwrap()).await.unwrap()
}

async fn declare(client: &Client, queue: &str) {
    let queue = QueueName::new(queue).unwrap();
    client.apply(&Topology::new("leveret").unwrap().queue(queue, QueueSettings::default())).await.unwrap();
}

fn mail(number: usize) -> Message {
    Message::json("mail.send", &number).unwrap().queue("mails")
}

fn mails(count: usize) -> Vec<Message> {
    (0..count).map(mail).collect()
}

fn ids(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.task_id().to_string()).collect()
}

async fn taken(vhost: &Vhost, queue: &str) -> Vec<String> {
    vhost.take_all(queue).await.iter().map(|message| message.id().unwrap()).collect()
}

/// Each id where it is first seen: what a reader of the queue that knows ids gets.
fn without_repeats(ids: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
}

macro_rules! promises {
    ($module:ident, $outbox:ident, $database:ty, $begin:expr, $refuse_deletes:expr, $allow_deletes:expr, $place:expr) => {
        mod $module {
            use super::*;

            async fn add(outbox: &$outbox, pool: &sqlx::Pool<$database>, messages: &[Message]) {
                let mut transaction = pool.begin_with($begin).await.unwrap();
                outbox.add_all(&mut transaction, messages).await.unwrap();
                transaction.commit().await.unwrap();
            }

            #[tokio::test]
            async fn a_message_is_published_if_and_only_if_its_transaction_commits() {
                let (pool, _kept) = $place.await;
                let vhost = vhost().await;
                let client = client(vhost.url()).await;
                declare(&client, "mails").await;
                let clock = Clock::held(UnixMillis(4_000_000_000_000));
                let outbox = $outbox::new(pool.clone(), clock.clone());
                let mut transaction = pool.begin_with($begin).await.unwrap();
                outbox.add(&mut transaction, &mail(1)).await.unwrap();
                transaction.rollback().await.unwrap();
                let kept = mail(2).header("x-shop", "zürich").delay(Duration::from_secs(60)).priority(7);
                let mut transaction = pool.begin_with($begin).await.unwrap();
                outbox.add(&mut transaction, &kept).await.unwrap();
                transaction.commit().await.unwrap();
                assert_eq!(outbox.waiting().await.unwrap(), 1);
                let relay = $outbox::new(pool, Clock::system()).relay(client).start();
                eventually_eq(PATIENCE, 0, async || outbox.waiting().await.unwrap()).await;
                relay.stop().await;
                let found = vhost.take_all("mails").await;
                assert_eq!(found.len(), 1);
                assert_eq!(found[0].id(), Some(kept.task_id().to_string()));
                assert_eq!(found[0].task().as_deref(), Some("mail.send"));
                assert_eq!(found[0].json(), 2);
                assert_eq!(found[0].header_text("x-shop").as_deref(), Some("zürich"));
                assert_eq!(found[0].header_text("leveret-not-before").as_deref(), Some("4000000060000"));
                assert_eq!(*found[0].properties.priority(), Some(7));
            }

            #[tokio::test]
            async fn order_is_kept_and_several_relays_publish_nothing_twice() {
                let (pool, _kept) = $place.await;
                let vhost = vhost().await;
                let outbox = $outbox::new(pool.clone(), Clock::system());
                let first = client(vhost.url()).await;
                declare(&first, "mails").await;
                let relays = [
                    outbox.relay(first).batch(70).start(),
                    outbox.relay(client(vhost.url()).await).start(),
                    outbox.relay(client(vhost.url()).await).start(),
                ];
                let all = mails(3_000);
                for messages in all.chunks(300) {
                    add(&outbox, &pool, messages).await;
                }
                eventually_eq(PATIENCE, 0, async || outbox.waiting().await.unwrap()).await;
                assert_eq!(relays.iter().filter(|relay| relay.is_leading()).count(), 1);
                for relay in relays {
                    relay.stop().await;
                }
                assert_eq!(taken(&vhost, "mails").await, ids(&all));
            }

            #[tokio::test]
            async fn when_the_relay_dies_another_takes_over_in_seconds() {
                let (pool, _kept) = $place.await;
                let vhost = vhost().await;
                let outbox = $outbox::new(pool.clone(), Clock::system());
                let first = client(vhost.url()).await;
                declare(&first, "mails").await;
                let dies = outbox.relay(first).start();
                eventually(PATIENCE, async || dies.is_leading()).await;
                let lives = outbox.relay(client(vhost.url()).await).start();
                drop(dies);
                add(&outbox, &pool, &mails(10)).await;
                // The lease is 5 s; the rest is for a busy machine.
                eventually_eq(Duration::from_secs(30), 0, async || outbox.waiting().await.unwrap()).await;
                assert!(lives.is_leading());
                // One that is stopped leaves its place at once: long before a lease of an hour is over.
                lives.stop().await;
                let long: Vec<RunningRelay> = [client(vhost.url()).await, client(vhost.url()).await]
                    .map(|client| outbox.relay(client).lease(Duration::from_secs(3_600)).start())
                    .into();
                eventually(PATIENCE, async || long.iter().any(RunningRelay::is_leading)).await;
                let (leads, mut waits): (Vec<_>, Vec<_>) = long.into_iter().partition(RunningRelay::is_leading);
                for relay in leads {
                    relay.stop().await;
                }
                drop(waits.pop());
                let next = outbox.relay(client(vhost.url()).await).start();
                eventually(PATIENCE, async || next.is_leading()).await;
                assert_eq!(vhost.ready("mails").await, 10);
            }

            #[tokio::test]
            async fn a_relay_that_dies_between_confirm_and_removal_loses_nothing_and_keeps_the_order() {
                let (pool, _kept) = $place.await;
                let vhost = vhost().await;
                let outbox = $outbox::new(pool.clone(), Clock::system());
                let first = client(vhost.url()).await;
                declare(&first, "mails").await;
                let all = mails(200);
                add(&outbox, &pool, &all).await;
                for statement in $refuse_deletes {
                    sqlx::query(statement).execute(&pool).await.unwrap();
                }
                // Connections of its own, so that it can be waited for what it was at when it died.
                let own = sqlx::Pool::connect_with((*pool.connect_options()).clone()).await.unwrap();
                let relay = $outbox::new(own.clone(), Clock::system()).relay(first).batch(60).start();
                eventually(PATIENCE, async || vhost.ready("mails").await >= 60).await;
                drop(relay);
                own.close().await;
                for statement in $allow_deletes {
                    sqlx::query(statement).execute(&pool).await.unwrap();
                }
                assert_eq!(outbox.waiting().await.unwrap(), 200);
                let relay = outbox.relay(client(vhost.url()).await).batch(60).start();
                eventually_eq(PATIENCE, 0, async || outbox.waiting().await.unwrap()).await;
                relay.stop().await;
                let published = taken(&vhost, "mails").await;
                assert!(published.len() >= 260, "{}", published.len());
                assert_eq!(without_repeats(published), ids(&all));
            }

            #[tokio::test]
            async fn a_queue_that_is_not_there_holds_back_its_own_messages_alone() {
                let (pool, _kept) = $place.await;
                let vhost = vhost().await;
                let client = client(vhost.url()).await;
                declare(&client, "mails").await;
                let outbox = $outbox::new(pool.clone(), Clock::system());
                let lonely: Vec<_> = (0..30).map(|number| mail(number).queue("later")).collect();
                add(&outbox, &pool, &lonely).await;
                let all = mails(100);
                add(&outbox, &pool, &all).await;
                let relay = outbox.relay(client.clone()).batch(20).start();
                eventually_eq(PATIENCE, 30, async || outbox.waiting().await.unwrap()).await;
                assert_eq!(taken(&vhost, "mails").await, ids(&all));
                declare(&client, "later").await;
                eventually_eq(PATIENCE, 0, async || outbox.waiting().await.unwrap()).await;
                relay.stop().await;
                let came = taken(&vhost, "later").await;
                assert_eq!(came.iter().collect::<HashSet<_>>(), ids(&lonely).iter().collect());
                assert_eq!(came.len(), 30);
                assert!(outbox.parked(10).await.unwrap().is_empty());
            }

            #[tokio::test]
            async fn a_row_that_is_no_message_is_parked_and_can_be_mended() {
                let (pool, _kept) = $place.await;
                let vhost = vhost().await;
                let client = client(vhost.url()).await;
                declare(&client, "mails").await;
                let outbox = $outbox::new(pool.clone(), Clock::system());
                let text = "INSERT INTO leveret_outbox (id, task, queue, headers, body) VALUES ($1, $2, $3, $4, $5)";
                for (id, queue, headers) in [("a", "mails", "{"), ("b", "no.dots", "{}"), ("c", "mails", "{\"x\": 1}")]
                {
                    let row = sqlx::query(text).bind(id).bind("mail.send").bind(queue).bind(headers);
                    row.bind(b"1".as_slice()).execute(&pool).await.unwrap();
                }
                let relay = outbox.relay(client).start();
                eventually_eq(PATIENCE, 0, async || outbox.waiting().await.unwrap()).await;
                assert_eq!(taken(&vhost, "mails").await, ["c"]);
                let parked = outbox.parked(10).await.unwrap();
                let ids: Vec<_> = parked.iter().map(|parked| parked.id.as_str()).collect();
                assert_eq!(ids, ["a", "b"]);
                assert!(parked[0].error.contains("headers"), "{}", parked[0].error);
                assert!(parked[1].error.contains("no.dots"), "{}", parked[1].error);
                let mend = "UPDATE leveret_outbox_parked SET headers = NULL, queue = 'mails'";
                sqlx::query(mend).execute(&pool).await.unwrap();
                let positions: Vec<_> = parked.iter().map(|parked| parked.position).collect();
                assert_eq!(outbox.retry(&positions).await.unwrap(), 2);
                eventually_eq(PATIENCE, 2, async || vhost.ready("mails").await).await;
                relay.stop().await;
                assert!(outbox.parked(10).await.unwrap().is_empty());
            }

            #[tokio::test]
            async fn what_could_never_be_published_is_refused_before_the_commit() {
                let (pool, _kept) = $place.await;
                let outbox = $outbox::new(pool.clone(), Clock::system());
                let mut transaction = pool.begin_with($begin).await.unwrap();
                let refused = outbox.add(&mut transaction, &mail(1).queue("no.dots")).await;
                assert!(matches!(refused, Err(StoreError::Message(_))), "{refused:?}");
            }

            #[tokio::test]
            async fn a_lost_connection_to_the_broker_loses_nothing_and_keeps_the_order() {
                let (pool, _kept) = $place.await;
                let vhost = vhost().await;
                let proxy = FaultProxy::to(vhost.url()).await;
                declare(&client(vhost.url()).await, "mails").await;
                let mut settings = BrokerSettings::new(proxy.url()).unwrap();
                settings.publish_timeout = Duration::from_secs(2);
                let outbox = $outbox::new(pool.clone(), Clock::system());
                let all = mails(2_000);
                add(&outbox, &pool, &all).await;
                // The broker takes messages, and nobody hears of it.
                let client = Client::connect(settings).await.unwrap();
                proxy.stall(Direction::FromBroker);
                let relay = outbox.relay(client).batch(500).start();
                eventually(PATIENCE, async || vhost.ready("mails").await >= 300).await;
                proxy.cut();
                proxy.resume();
                eventually_eq(PATIENCE, 0, async || outbox.waiting().await.unwrap()).await;
                relay.stop().await;
                assert_eq!(without_repeats(taken(&vhost, "mails").await), ids(&all));
            }
        }
    };
}

promises!(
    on_sqlite,
    SqliteOutbox,
    sqlx::Sqlite,
    "BEGIN IMMEDIATE",
    ["CREATE TRIGGER refuse BEFORE DELETE ON leveret_outbox BEGIN SELECT raise(ABORT, 'the disk is full'); END"],
    ["DROP TRIGGER refuse"],
    async {
        let folder = tempfile::tempdir().unwrap();
        (sqlite::open(folder.path().join("shop.db")).await.unwrap(), folder)
    }
);

promises!(
    on_postgres,
    PostgresOutbox,
    sqlx::Postgres,
    "BEGIN",
    [
        "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE 'the disk is full'; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER refuse BEFORE DELETE ON leveret_outbox EXECUTE FUNCTION refuse()",
    ],
    ["DROP TRIGGER refuse ON leveret_outbox"],
    async {
        let database = Postgres::shared().await.database().await;
        (postgres::connect(database.url()).await.unwrap(), database)
    }
);
