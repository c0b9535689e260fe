//! The broker in memory does what RabbitMQ does: one list of scenarios in plain AMQP, run against both, and all that a
//! client can see of it compared.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic, its helpers too")]

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
        BasicPublishOptions, BasicQosOptions, BasicRejectOptions, ConfirmSelectOptions, ExchangeBindOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use leveret::{
    BrokerSettings, Clock, QueueName, QueueSettings, Tiers, Topology,
    common::{
        headers::Headers,
        link::{ChannelPool, Link, Role},
        topology::declare,
    },
};
use leveret_testkit::{Broker, MemoryBroker, eventually};
use leveret_tests::{PATIENCE, short, text};

/// A broker with the topology of two queues, seen through plain AMQP.
struct Site {
    name: &'static str,
    connection: Connection,
    url: String,
    /// RabbitMQ before 4.0, which is what the broker in memory does.
    counts_deliveries: bool,
    seen: Vec<String>,
}

impl Site {
    async fn new(name: &'static str, url: &str, counts_deliveries: bool) -> Self {
        let settings = BrokerSettings::new(url).unwrap();
        let tiers = Tiers::new([50, 3_600_000].map(Duration::from_millis).into()).unwrap();
        let bulk = QueueSettings { tiers, ..QueueSettings::default() };
        let mail = QueueSettings { delivery_limit: 2, max_length: 5, ..bulk.clone() };
        let topology = Topology::new("leveret")
            .unwrap()
            .queue(QueueName::new("mail").unwrap(), mail)
            .queue(QueueName::new("bulk").unwrap(), bulk);
        let link = Link::open(Arc::new(settings), Role::Admin);
        declare(&ChannelPool::new(link.clone()), &topology).await.unwrap();
        link.close().await;
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        Self { name, connection, url: url.to_owned(), counts_deliveries, seen: Vec::new() }
    }

    async fn channel(&self) -> Channel {
        let channel = self.connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel
    }

    /// Takes note of what is seen; names that differ between the two are made the same.
    fn see(&mut self, what: impl std::fmt::Display) {
        let vhost = self.url.rsplit('/').next().unwrap_or_default().replace("%2f", "/");
        self.seen.push(what.to_string().replace(&format!("vhost '{vhost}'"), "vhost '/'"));
    }

    fn error(&mut self, what: &str, error: &lapin::Error) {
        // RabbitMQ adds advice to some of its sentences.
        let text = error.to_string();
        self.see(format_args!("{what}: {}", text.split(". ").next().unwrap_or_default()));
    }

    async fn publish(&mut self, channel: &Channel, exchange: &str, key: &str, properties: BasicProperties) {
        let said = publish(channel, exchange, key, properties).await;
        self.see(format_args!("publish to {exchange:?} with {key:?}: {said}"));
    }

    /// Takes all messages out of a queue, once it has this many.
    async fn take(&mut self, queue: &str, count: u32) {
        let channel = self.channel().await;
        self.wait(queue, count).await;
        while let Some(message) = channel.basic_get(short(queue), BasicGetOptions::default()).await.unwrap() {
            channel.basic_ack(message.delivery.delivery_tag, BasicAckOptions::default()).await.unwrap();
            self.saw(queue, &message.delivery);
        }
    }

    fn saw(&mut self, from: &str, delivery: &lapin::message::Delivery) {
        let mut headers = Headers::from(delivery.properties.headers().clone().unwrap_or_default());
        headers.remove("x-acquired-count");
        if !self.counts_deliveries {
            headers.remove("x-delivery-count");
        }
        let mut headers = serde_json::Value::Object(headers.to_json());
        for death in headers.get_mut("x-death").and_then(|deaths| deaths.as_array_mut()).into_iter().flatten() {
            let time = death.as_object_mut().unwrap().remove("time").expect("each death has its time");
            assert!(time.as_i64().is_some_and(|seconds| seconds > 1_600_000_000), "{time}");
        }
        let id = delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
        let (exchange, key, again) = (&delivery.exchange, &delivery.routing_key, delivery.redelivered);
        let expiration = delivery.properties.expiration();
        let body = String::from_utf8_lossy(&delivery.data);
        self.see(format_args!(
            "{from}: {id} {body:?} by {exchange} {key}, redelivered {again}, {expiration:?}, {headers}"
        ));
    }

    async fn wait(&self, queue: &str, count: u32) {
        eventually(PATIENCE, async || {
            let found = depth(&self.connection, queue).await;
            if found == count { Ok(()) } else { Err(format!("{}: {queue} has {found}, not {count}", self.name)) }
        })
        .await;
    }

    /// The next message of a queue, which is then in hand.
    async fn get(&mut self, channel: &Channel, queue: &str) -> u64 {
        let got = async || channel.basic_get(short(queue), BasicGetOptions::default()).await.unwrap();
        let message = eventually(PATIENCE, got).await;
        self.saw(queue, &message.delivery);
        message.delivery.delivery_tag
    }
}

async fn publish(channel: &Channel, exchange: &str, key: &str, properties: BasicProperties) -> String {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let published =
        async { channel.basic_publish(short(exchange), short(key), options, b"{}", properties).await?.await };
    match published.await {
        Ok(Confirmation::Ack(None)) => "stored".to_owned(),
        Ok(Confirmation::Ack(Some(returned))) => format!("returned, {} {}", returned.reply_code, returned.reply_text),
        Ok(other) => format!("refused, returned {}", other.take_message().is_some()),
        Err(error) => error.to_string().split('\'').next().unwrap_or_default().to_owned(),
    }
}

async fn depth(connection: &Connection, queue: &str) -> u32 {
    let channel = connection.create_channel().await.unwrap();
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(short(queue), passive, FieldTable::default()).await.unwrap().message_count();
    channel.close(200, short("")).await.unwrap();
    found
}

fn message(id: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(short("x-mine"), text("kept"));
    BasicProperties::default().with_message_id(short(id)).with_type(short("probe")).with_headers(headers)
}

/// Runs a scenario against both, and compares what was seen.
async fn same(scenario: impl AsyncFn(&mut Site)) {
    let vhost = Broker::shared().await.vhost().await;
    let version = vhost.api("overview").await["rabbitmq_version"].as_str().unwrap().to_owned();
    let counts = version.starts_with("3.");
    let memory = MemoryBroker::with_clock(Clock::system());
    let mut real = Site::new("RabbitMQ", vhost.url(), counts).await;
    let mut fake = Site::new("memory", memory.url(), counts).await;
    scenario(&mut real).await;
    scenario(&mut fake).await;
    assert!(!real.seen.is_empty());
    assert_eq!(fake.seen, real.seen, "left is the broker in memory, right is RabbitMQ {version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_where_the_topology_says() {
    same(async |site| {
        let channel = site.channel().await;
        for (exchange, key) in [
            ("leveret.tasks", "mail"),
            ("leveret.tasks", "mail.eu.fast"),
            ("leveret.tasks", "mailbox"),
            ("leveret.publish", "bulk.x"),
            ("leveret.publish", "nowhere"),
            ("", "mail"),
            ("", "nowhere"),
            ("leveret.dead", "mail"),
            ("leveret.dead", "nowhere"),
            ("leveret.return", "bulk"),
            ("leveret.lost", "anything"),
            ("nowhere", "mail"),
        ] {
            site.publish(&channel, exchange, key, message(&format!("{exchange}/{key}"))).await;
        }
        for (queue, count) in [("mail", 3), ("bulk", 2), ("mail.dead", 1), ("leveret.lost", 3)] {
            site.take(queue, count).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_gives_back_what_has_been_there_for_its_time() {
    same(async |site| {
        let channel = site.channel().await;
        for id in ["a", "b"] {
            site.publish(&channel, "", "bulk.retry.50ms", message(id)).await;
        }
        site.publish(&channel, "", "bulk.retry.1h", message("later")).await;
        // Its own time counts where it is shorter, and is noted.
        site.publish(&channel, "", "bulk.retry.1h.", message("astray")).await;
        site.take("bulk", 2).await;
        site.publish(&channel, "leveret.tasks", "mail", message("short").with_expiration(short("20"))).await;
        site.take("mail.dead", 1).await;
        site.publish(&channel, "leveret.tasks", "mail", message("long").with_expiration(short("3600000"))).await;
        site.take("mail", 1).await;
        site.wait("bulk.retry.1h", 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deaths_are_noted_and_counted() {
    same(async |site| {
        let channel = site.channel().await;
        site.publish(&channel, "leveret.tasks", "bulk.eu", message("a")).await;
        for _ in 0..2 {
            for queue in ["bulk", "bulk.dead"] {
                let tag = site.get(&channel, queue).await;
                channel.basic_reject(tag, BasicRejectOptions { requeue: false }).await.unwrap();
            }
        }
        let tag = site.get(&channel, "bulk").await;
        channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: false }).await.unwrap();
        site.take("bulk.dead", 1).await;
        site.wait("bulk", 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_goes_out_first_and_dies_at_its_limit() {
    same(async |site| {
        let channel = site.channel().await;
        for id in ["a", "b", "c", "d"] {
            site.publish(&channel, "leveret.tasks", "mail", message(id)).await;
        }
        // One alone, to the head of the queue; then two at once, in their order.
        let tag = site.get(&channel, "mail").await;
        channel.basic_reject(tag, BasicRejectOptions { requeue: true }).await.unwrap();
        site.get(&channel, "mail").await;
        let tag = site.get(&channel, "mail").await;
        channel.basic_nack(tag, BasicNackOptions { multiple: true, requeue: true }).await.unwrap();
        let first = site.get(&channel, "mail").await;
        // The third return of `a`.
        channel.basic_reject(first, BasicRejectOptions { requeue: true }).await.unwrap();
        site.take("mail.dead", 1).await;
        site.take("mail", 3).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_until_there_is_room() {
    same(async |site| {
        let channel = site.channel().await;
        let mut stored = 0;
        // RabbitMQ lets a few more in before it has noticed.
        while publish(&channel, "leveret.tasks", "mail", message("a")).await == "stored" {
            stored += 1;
            assert!(stored < 1_000, "a queue for 5 has taken 1,000");
        }
        assert!(stored >= 5);
        site.publish(&channel, "leveret.publish", "mail", message("b")).await;
        site.publish(&channel, "leveret.publish", "bulk", message("b")).await;
        channel.queue_purge(short("mail"), QueuePurgeOptions::default()).await.unwrap();
        eventually(PATIENCE, async || publish(&channel, "leveret.tasks", "mail", message("c")).await == "stored").await;
        site.take("bulk", 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_has_as_many_as_it_may_and_what_it_held_goes_back_with_its_channel() {
    same(async |site| {
        let (publishing, consuming) = (site.channel().await, site.channel().await);
        for id in ["a", "b", "c", "d"] {
            site.publish(&publishing, "leveret.tasks", "bulk", message(id)).await;
        }
        consuming.basic_qos(2, BasicQosOptions::default()).await.unwrap();
        let options = BasicConsumeOptions::default();
        let mut consumer =
            consuming.basic_consume(short("bulk"), short("me"), options, FieldTable::default()).await.unwrap();
        let mut tags = Vec::new();
        for _ in 0..2 {
            let delivery = consumer.next().await.unwrap().unwrap();
            site.saw("consumer", &delivery);
            tags.push(delivery.delivery_tag);
        }
        site.wait("bulk", 2).await;
        consuming.basic_ack(tags[1], BasicAckOptions { multiple: true }).await.unwrap();
        for _ in 0..2 {
            let delivery = consumer.next().await.unwrap().unwrap();
            site.saw("consumer", &delivery);
        }
        // A cancel leaves in hand what is in hand.
        consuming.basic_cancel(short("me"), BasicCancelOptions::default()).await.unwrap();
        site.wait("bulk", 0).await;
        consuming.close(200, short("bye")).await.unwrap();
        site.take("bulk", 2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_choose_a_queue_and_an_unused_one_goes() {
    same(async |site| {
        let channel = site.channel().await;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let mut rest = FieldTable::default();
        rest.insert(short("alternate-exchange"), text("leveret.lost"));
        channel.exchange_declare(short("sorted"), ExchangeKind::Headers, durable, rest).await.unwrap();
        for (queue, mode, headers) in [
            ("mail", "all", vec![("x-mine", text("kept")), ("key", AMQPValue::Void)]),
            ("bulk", "any", vec![("key", text("eu")), ("size", AMQPValue::Void)]),
        ] {
            let mut wanted = FieldTable::default();
            wanted.insert(short("x-match"), text(mode));
            for (name, value) in headers {
                wanted.insert(short(name), value);
            }
            let options = QueueBindOptions::default();
            channel.queue_bind(short(queue), short("sorted"), short(""), options, wanted).await.unwrap();
        }
        for headers in [vec![], vec![("key", "eu")], vec![("key", "us")], vec![("size", "9")]] {
            let mut table = FieldTable::default();
            table.insert(short("x-mine"), text("kept"));
            for (name, value) in &headers {
                table.insert(short(name), text(value));
            }
            let properties = message(&format!("{headers:?}")).with_headers(table);
            site.publish(&channel, "sorted", "any", properties).await;
        }
        site.take("mail", 2).await;
        site.take("bulk", 2).await;
        site.take("leveret.lost", 1).await;

        let mut arguments = FieldTable::default();
        arguments.insert(short("x-expires"), AMQPValue::LongLongInt(100));
        channel.queue_declare(short("brief"), QueueDeclareOptions::durable(), arguments).await.unwrap();
        site.publish(&channel, "", "brief", message("a")).await;
        eventually(PATIENCE, async || publish(&channel, "", "brief", message("b")).await.starts_with("returned")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_single_active_consumers_the_next_takes_over() {
    same(async |site| {
        let publishing = site.channel().await;
        let mut arguments = FieldTable::default();
        arguments.insert(short("x-queue-type"), text("quorum"));
        arguments.insert(short("x-single-active-consumer"), AMQPValue::Boolean(true));
        arguments.insert(short("x-delivery-limit"), AMQPValue::LongInt(10));
        publishing.queue_declare(short("one"), QueueDeclareOptions::durable(), arguments).await.unwrap();
        let mut consumers = Vec::new();
        for name in ["first", "second"] {
            let channel = site.channel().await;
            let consuming = BasicConsumeOptions::default();
            let consumer = channel.basic_consume(short("one"), short(name), consuming, FieldTable::default()).await;
            consumers.push((channel, consumer.unwrap()));
        }
        for id in ["a", "b"] {
            site.publish(&publishing, "", "one", message(id)).await;
            let delivery = consumers[0].1.next().await.unwrap().unwrap();
            site.saw("first", &delivery);
        }
        consumers.remove(0).0.close(200, short("bye")).await.unwrap();
        for _ in 0..2 {
            let delivery = consumers[0].1.next().await.unwrap().unwrap();
            site.saw("second", &delivery);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_may_not_do_is_told_in_the_same_words() {
    same(async |site| {
        let channel = site.channel().await;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let missing = channel.queue_declare(short("nowhere"), passive, FieldTable::default()).await.unwrap_err();
        site.error("a queue that is not there", &missing);

        let channel = site.channel().await;
        let options = BasicConsumeOptions::default();
        let missing = channel.basic_consume(short("nowhere"), short(""), options, FieldTable::default()).await;
        site.error("consuming from no queue", &missing.unwrap_err());

        let channel = site.channel().await;
        let mut arguments = FieldTable::default();
        arguments.insert(short("x-queue-type"), text("quorum"));
        arguments.insert(short("x-delivery-limit"), AMQPValue::LongLongInt(7));
        let differs = channel.queue_declare(short("leveret.lost"), QueueDeclareOptions::durable(), arguments).await;
        site.error("another limit", &differs.unwrap_err());

        let channel = site.channel().await;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let differs =
            channel.exchange_declare(short("leveret.lost"), ExchangeKind::Topic, options, FieldTable::default()).await;
        site.error("another kind", &differs.unwrap_err());

        let channel = site.channel().await;
        let bound = channel
            .queue_bind(short("mail"), short("nowhere"), short(""), QueueBindOptions::default(), FieldTable::default())
            .await;
        site.error("a binding to no exchange", &bound.unwrap_err());

        let channel = site.channel().await;
        let said = publish(&channel, "leveret.tasks", "mail", message("a").with_user_id(short("somebody"))).await;
        site.see(format_args!("somebody else's name: {said}"));

        let (one, other) =
            (site.channel().await, Connection::connect(&site.url, ConnectionProperties::default()).await);
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        one.queue_declare(short("mine"), exclusive, FieldTable::default()).await.unwrap();
        let channel = other.unwrap().create_channel().await.unwrap();
        let locked = channel.basic_get(short("mine"), BasicGetOptions::default()).await.unwrap_err();
        site.error("a queue of somebody else's", &locked);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_and_exchanges_of_a_connection_come_and_go() {
    same(async |site| {
        let channel = site.channel().await;
        let exclusive = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(short(""), exclusive, FieldTable::default()).await.unwrap();
        let name = queue.name().clone();
        let none = FieldTable::default;
        let exchange = ExchangeDeclareOptions::default();
        channel.exchange_declare(short("news"), ExchangeKind::Fanout, exchange, none()).await.unwrap();
        let through = ExchangeBindOptions::default();
        channel.exchange_bind(short("news"), short("leveret.tasks"), short("*.news"), through, none()).await.unwrap();
        channel.queue_bind(name.clone(), short("news"), short(""), QueueBindOptions::default(), none()).await.unwrap();
        site.publish(&channel, "leveret.tasks", "mail.news", message("a")).await;
        site.publish(&channel, "leveret.tasks", "mail.news.eu", message("b")).await;
        site.take("mail", 2).await;

        // The queue had one of them, and gives it out again in its old place, marked.
        let first = channel.basic_get(name.clone(), BasicGetOptions::default()).await.unwrap().unwrap();
        channel
            .basic_nack(first.delivery.delivery_tag, BasicNackOptions { multiple: false, requeue: true })
            .await
            .unwrap();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut consumer = channel.basic_consume(name.clone(), short("me"), options, none()).await.unwrap();
        let delivery = consumer.next().await.unwrap().unwrap();
        site.saw("consumer", &delivery);
        channel.basic_cancel(short("me"), BasicCancelOptions::default()).await.unwrap();
        // With its only consumer it is gone.
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let gone = channel.queue_declare(name, passive, none()).await.unwrap_err();
        site.see(format_args!("gone: {}", gone.to_string().contains("NOT_FOUND")));

        let channel = site.channel().await;
        site.publish(&channel, "", "bulk", message("c")).await;
        site.wait("bulk", 1).await;
        let deleted = channel.queue_delete(short("bulk"), QueueDeleteOptions::default()).await.unwrap();
        site.see(format_args!("deleted with {deleted}"));
        site.publish(&channel, "leveret.tasks", "bulk", message("d")).await;
        site.take("leveret.lost", 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_reply_reaches_the_one_who_asked() {
    same(async |site| {
        let (asking, answering) = (site.channel().await, site.channel().await);
        let reply_to = short("amq.rabbitmq.reply-to");
        let early = publish(&asking, "", "bulk", message("early").with_reply_to(reply_to.clone())).await;
        site.see(format_args!("asked before listening: {early}"));

        let asking = site.channel().await;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut replies =
            asking.basic_consume(reply_to.clone(), short("me"), options, FieldTable::default()).await.unwrap();
        site.publish(&asking, "", "bulk", message("question").with_reply_to(reply_to)).await;
        let got = async || answering.basic_get(short("bulk"), BasicGetOptions::default()).await.unwrap();
        let question = eventually(PATIENCE, got).await;
        let to = question.delivery.properties.reply_to().clone().unwrap();
        let said =
            publish(&answering, "", to.as_str(), BasicProperties::default().with_message_id(short("answer"))).await;
        site.see(format_args!("answered: {said}"));
        let reply = replies.next().await.unwrap().unwrap();
        let id = reply.properties.message_id().clone().unwrap();
        site.see(format_args!("{id}, to itself: {}", reply.routing_key == to));
        asking.close(200, short("bye")).await.unwrap();
        let late = publish(&answering, "", to.as_str(), BasicProperties::default()).await;
        site.see(format_args!("answered too late: {late}"));
    })
    .await;
}
