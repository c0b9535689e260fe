//! A queue in shards: what is declared, where tasks go, and which worker gets which shard.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    options::{BasicAckOptions, BasicConsumeOptions},
    types::FieldTable,
};
use leveret::{
    Message, QueueName, QueueSettings, Topology,
    common::{
        link::{ChannelPool, Link, Role},
        shards::owners,
        topology::{Difference, Target, TopologyError, declare, diff},
    },
};
use leveret_testkit::{Message as Delivered, Node, Vhost, eventually, eventually_eq, foreign};
use leveret_tests::{
    PATIENCE, Place, settings,
    shards::{Ran, ShardWorker},
    within,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

fn mail() -> QueueName {
    QueueName::new("mail").unwrap()
}

fn in_shards(shards: u16) -> QueueSettings {
    QueueSettings { shards: Some(shards), ..QueueSettings::default() }
}

fn topology(settings: QueueSettings) -> Topology {
    Topology::new("leveret").unwrap().queue(mail(), settings)
}

fn pool(vhost: &Vhost) -> ChannelPool {
    ChannelPool::new(Link::open(Arc::new(settings(vhost.url())), Role::Admin))
}

/// Takes all out of a shard. `basic.get` is not for a queue with a single active consumer.
async fn drained(vhost: &Vhost, shard: &str) -> Vec<Delivered> {
    let ready = vhost.ready(shard).await;
    let channel = vhost.channel().await;
    let options = BasicConsumeOptions::default();
    let tag = leveret_tests::short("drain");
    let mut consumer =
        channel.basic_consume(leveret_tests::short(shard), tag, options, FieldTable::default()).await.unwrap();
    let mut messages = Vec::new();
    for _ in 0..ready {
        let delivery = within("a message comes", consumer.next()).await.unwrap().unwrap();
        channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await.unwrap();
        messages.push(Delivered::from(delivery));
    }
    channel.close(200, leveret_tests::short("bye")).await.unwrap();
    messages
}

/// The keys that lie in each shard, and how many messages have none. Takes them out.
async fn taken(vhost: &Vhost, shards: u16) -> Vec<(BTreeSet<String>, usize)> {
    let mut found = Vec::new();
    for index in 0..shards {
        let messages = drained(vhost, &mail().shard(index)).await;
        let keys: Vec<_> = messages.iter().filter_map(|message| message.header_text("leveret-key")).collect();
        found.push((keys.iter().cloned().collect(), messages.len() - keys.len()));
    }
    found
}

/// Which shard each of a hundred keys goes to.
async fn ring(vhost: &Vhost, shards: u16) -> BTreeMap<String, u16> {
    // A node that has just been restarted lets nobody into a virtual host at first.
    let client = eventually(PATIENCE, async || leveret::Client::connect(settings(vhost.url())).await).await;
    let message = |key: u32| Message::json("note", &1).unwrap().queue("mail").key(&format!("key-{key}"));
    client.publish_many((0..100).map(message)).await.into_iter().for_each(|sent| drop(sent.unwrap()));
    client.close().await;
    let shards = (0..).zip(taken(vhost, shards).await);
    shards.flat_map(|(index, (keys, _))| keys.into_iter().map(move |key| (key, index))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_holds_what_the_topology_says() {
    let place = Place::new().await;
    let pool = pool(&place.vhost);
    let topology = topology(in_shards(4));
    declare(&pool, &topology).await.unwrap();
    assert_eq!(diff(&pool, &topology).await.unwrap(), []);
    declare(&pool, &topology).await.unwrap();
    assert_eq!(diff(&pool, &topology).await.unwrap(), []);

    let there = place.vhost.api("bindings/{vhost}").await;
    let of = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    let mut there: Vec<_> = there.as_array().unwrap().iter().filter(|binding| binding["source"] != "").collect();
    there.sort_by_key(|binding| binding.to_string());
    let mut there: Vec<_> = there
        .into_iter()
        .map(|binding| ["source", "destination_type", "destination", "routing_key"].map(|key| of(binding, key)))
        .collect();
    let mut wanted: Vec<_> = topology
        .bindings()
        .into_iter()
        .map(|binding| {
            let kind = binding.target.kind().to_owned();
            [binding.exchange, kind, binding.target.name().to_owned(), binding.routing_key]
        })
        .collect();
    there.sort();
    wanted.sort();
    assert_eq!(there, wanted);
    assert!(topology.bindings().iter().any(|binding| matches!(binding.target, Target::Exchange(_))));
    let shard = place.vhost.api("queues/{vhost}/mail.03").await;
    assert_eq!(shard["arguments"]["x-single-active-consumer"], true);
    let keyed = place.vhost.api("exchanges/{vhost}/mail.shards.keyed").await;
    assert_eq!(
        (&keyed["type"], &keyed["arguments"]["hash-header"]),
        (&json!("x-consistent-hash"), &json!("leveret-key"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_clients_tasks_of_one_key_keep_to_one_shard() {
    let place = Place::new().await;
    declare(&pool(&place.vhost), &topology(in_shards(4))).await.unwrap();
    let keyed = (0..300).map(|number| {
        let headers = json!({"leveret-key": format!("tenant-{}", number % 30)});
        let routing_key = if number % 2 == 0 { "mail" } else { "mail.eu" };
        json!({"routing_key": routing_key, "properties": {"type": "note", "headers": headers}, "body": number})
    });
    let keyless = (0..400).map(|number| {
        let properties = json!({"type": "note", "message_id": format!("message {number}")});
        json!({"routing_key": "mail", "properties": properties, "body": number})
    });
    let lines: Vec<String> = keyed.chain(keyless).map(|line| line.to_string()).collect();
    let printed = foreign::pika("publish.py", &[place.vhost.url()], &lines.join("\n")).await;
    assert_eq!(printed.stdout, "700");

    let shards = taken(&place.vhost, 4).await;
    let keys: Vec<_> = shards.iter().flat_map(|(keys, _)| keys).collect();
    assert_eq!((keys.len(), keys.iter().collect::<BTreeSet<_>>().len()), (30, 30), "each key lies in one shard");
    for (keys, keyless) in &shards {
        assert!(!keys.is_empty());
        assert!((50..=150).contains(keyless), "those without a key are spread: {shards:?}");
    }

    // What comes back from a tier or from the dead goes where its key belongs.
    let ring = ring(&place.vhost, 4).await;
    for key in ["key-1", "key-2", "key-3"] {
        let headers = [("leveret-key", leveret_tests::text(key))];
        place.vhost.publish("leveret.return", "mail", leveret_tests::foreign("1", headers), "1").await;
        let shard = drained(&place.vhost, &mail().shard(ring[key])).await;
        // The broker may lose an acknowledgement when a channel closes: then an earlier message is there again.
        let there = shard.iter().any(|message| message.header_text("leveret-key").as_deref() == Some(key));
        assert!(there, "{key} is in its shard");
    }
    assert_eq!(place.vhost.ready("leveret.lost").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_in_the_settings_moves_no_key() {
    let place = Place::new().await;
    let pool = pool(&place.vhost);
    declare(&pool, &topology(in_shards(3))).await.unwrap();
    let before = ring(&place.vhost, 3).await;
    for shards in [2, 5] {
        let other = topology(in_shards(shards));
        let wanted = Difference::Shards { queue: "mail".to_owned(), there: Some(3), wanted: Some(shards) };
        assert_eq!(diff(&pool, &other).await.unwrap(), [wanted]);
        declare(&pool, &other).await.unwrap();
        assert_eq!(ring(&place.vhost, 3).await, before);
        assert!(!place.vhost.exists("mail.03").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_in_shards_or_not_but_never_both() {
    let place = Place::new().await;
    let pool = pool(&place.vhost);
    declare(&pool, &topology(in_shards(2))).await.unwrap();
    let refused = declare(&pool, &topology(QueueSettings::default())).await.unwrap_err();
    assert!(matches!(refused, TopologyError::Sharded { .. }), "{refused}");
    assert!(!place.vhost.exists("mail").await);

    let place = Place::new().await;
    let pool = self::pool(&place.vhost);
    declare(&pool, &topology(QueueSettings::default())).await.unwrap();
    let refused = declare(&pool, &topology(in_shards(2))).await.unwrap_err();
    assert!(matches!(refused, TopologyError::Whole { .. }), "{refused}");
    assert!(!place.vhost.exists("mail.00").await);
}

/// A broker on Mnesia may give keys to other shards when it is started again; what holds is that a key has one.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_each_key_has_one_shard_and_a_broker_without_the_plugin_is_told() {
    let node = Node::private("shards").await;
    let vhost = node.broker().vhost().await;
    declare(&pool(&vhost), &topology(in_shards(12))).await.unwrap();
    assert_eq!(ring(&vhost, 12).await.len(), 100);
    node.restart().await;
    let first = ring(&vhost, 12).await;
    assert_eq!(first.len(), 100);
    // Declared once more, as a worker does that comes back: that moves none.
    declare(&pool(&vhost), &topology(in_shards(12))).await.unwrap();
    assert_eq!(ring(&vhost, 12).await, first);

    node.ctl(&["eval", "rabbit_registry:unregister(exchange, <<\"x-consistent-hash\">>)."]).await;
    let other = Topology::new("leveret").unwrap().queue(QueueName::new("other").unwrap(), in_shards(2));
    let refused = within("the refusal", declare(&pool(&vhost), &other)).await.unwrap_err();
    assert!(matches!(refused, TopologyError::NoConsistentHash), "{refused:?}");
    assert!(refused.to_string().contains("rabbitmq-plugins enable rabbitmq_consistent_hash_exchange"), "{refused}");
}

/// Publishes tasks of 64 keys until everyone runs what is theirs, and gives how many there are of each key.
async fn until_shared(
    client: &leveret::Client,
    told: &mut mpsc::UnboundedReceiver<Ran>,
    ran: &mut Vec<Ran>,
    number: &mut u32,
    workers: &[&str],
) {
    let owners = owners(8, workers);
    let mut settled = BTreeSet::new();
    let sharing = async {
        while settled.len() < 8 {
            let message = |key: u32| Message::json("note", &*number).unwrap().queue("mail").key(&format!("key-{key}"));
            client.publish_many((0..64).map(message)).await.into_iter().for_each(|sent| drop(sent.unwrap()));
            *number += 1;
            let mut done = 0;
            while done < 64 {
                let run = told.recv().await.unwrap();
                done += usize::from(run.ended.is_some());
                if owners[usize::from(run.shard)] == run.worker {
                    settled.insert(run.shard);
                } else {
                    settled.remove(&run.shard);
                }
                ran.push(run);
            }
        }
    };
    within("every shard is run by its owner", sharing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_shared_out_among_workers_that_come_and_go() {
    let place = Place::new().await;
    let client = place.client().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let (workers, known) = watch::channel(vec!["a".to_owned()]);
    let start = async |instance: &str| {
        let work = Duration::from_micros(500);
        let (settings, known) = (place.settings.clone(), known.clone());
        ShardWorker::start(settings, &mail(), in_shards(8), instance, known, work, tell.clone()).await
    };
    let (mut ran, mut number) = (Vec::new(), 0);
    let a = start("a").await;
    until_shared(&client, &mut told, &mut ran, &mut number, &["a"]).await;

    let b = start("b").await;
    workers.send_replace(vec!["a".to_owned(), "b".to_owned()]);
    until_shared(&client, &mut told, &mut ran, &mut number, &["a", "b"]).await;
    b.stop().await;
    workers.send_replace(vec!["a".to_owned()]);
    until_shared(&client, &mut told, &mut ran, &mut number, &["a"]).await;
    a.stop().await;

    // Nobody was killed: each task ran once, and after those before it.
    for key in 0..64 {
        let key = Some(format!("key-{key}"));
        let mut of_key: Vec<_> = ran.iter().filter(|ran| ran.key == key && ran.ended.is_some()).collect();
        of_key.sort_by_key(|ran| ran.began);
        let numbers: Vec<_> = of_key.iter().map(|ran| ran.number).collect();
        assert_eq!(numbers, (0..number).collect::<Vec<_>>(), "{key:?}");
        assert!(of_key.windows(2).all(|pair| pair[0].ended.unwrap() <= pair[1].began));
    }
    assert_eq!(place.vhost.ready("mail.dead").await, 0);
    let empty = async || {
        let mut ready = 0;
        for index in 0..8 {
            ready += place.vhost.ready(&mail().shard(index)).await;
        }
        ready
    };
    eventually_eq(PATIENCE, 0, empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_order_every_worker_takes_from_every_shard() {
    let place = Place::new().await;
    let client = place.client().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let (_workers, known) = watch::channel(vec!["a".to_owned(), "b".to_owned()]);
    let settings = QueueSettings { order: false, ..in_shards(4) };
    let mut running = Vec::new();
    for instance in ["a", "b"] {
        let (work, tell) = (Duration::from_millis(5), tell.clone());
        let place = place.settings.clone();
        running.push(ShardWorker::start(place, &mail(), settings.clone(), instance, known.clone(), work, tell).await);
    }
    let consumers = async || {
        let mut all = Vec::new();
        for index in 0..4 {
            all.push(place.vhost.consumers(&mail().shard(index)).await);
        }
        all
    };
    eventually_eq(PATIENCE, vec![2; 4], consumers).await;
    // One tenant floods; the others do not wait behind it.
    let message = |key: String| Message::json("note", &1).unwrap().queue("mail").key(&key);
    let flood = (0..400).map(|_| message("flood".to_owned()));
    let others = (0..12).map(|tenant| message(format!("tenant-{tenant}")));
    let sent = client.publish_many(flood.chain(others)).await;
    assert!(sent.iter().all(Result::is_ok));
    let (mut of_flood, mut done_before, mut flooded) = (0, 0, None);
    let mut tenants = Vec::new();
    while of_flood + tenants.len() < 412 {
        let ran = within("a task is run", told.recv()).await.unwrap();
        if ran.ended.is_none() {
            continue;
        }
        if ran.key.as_deref() == Some("flood") {
            of_flood += 1;
            flooded = Some(ran.shard);
        } else {
            tenants.push(ran.shard);
            done_before = of_flood;
        }
        if tenants.iter().filter(|shard| flooded.is_some_and(|flooded| **shard != flooded)).count() >= 5
            && done_before < 200
        {
            break;
        }
    }
    assert!(done_before < 200, "tenants on other shards had to wait for {done_before} of the flood");
    for worker in running {
        worker.stop().await;
    }
}
