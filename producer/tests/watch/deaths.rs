//! Deaths that the broker declares are seen, and no dead letter is lost for that.

use std::time::Duration;

use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicRejectOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use leveret_common::{
    client::Client,
    clock::Clock,
    link::{ChannelPool, Link, Role},
    message::Message,
    task::TaskId,
    topology::{Topology, declare},
};
use leveret_producer::centre::{
    store::{
        Store,
        tasks::{RecordedState, Task, TaskState},
    },
    watch::RunningWatcher,
};
use leveret_testkit::{Permissions, Vhost, eventually, eventually_eq};
use serde_json::json;

use crate::stage::*;

/// A virtual host with the queue `default`, and no worker.
async fn queue_alone() -> Vhost {
    let vhost = vhost().await;
    declare_default(&vhost).await;
    vhost
}

async fn declare_default(vhost: &Vhost) {
    let link = Link::open(settings(vhost.url()).into(), Role::Admin);
    let topology = Topology::new("leveret").unwrap().queue("default".parse().unwrap(), queue());
    declare(&ChannelPool::new(link.clone()), &topology).await.unwrap();
    link.close().await;
}

/// Notes a task of the queue `default` as published, upon which its queue is known.
async fn note(store: &Store, watcher: &RunningWatcher, task: &str) {
    let mut record = record(task, 0, RecordedState::Published);
    record.queue = "default".to_owned();
    watcher.announcer().announce(store.record_published(&[record]).await.unwrap()).await;
}

/// Whether there is a way from the exchange of the dead to the centre, which is the last that it makes.
async fn is_copied(vhost: &Vhost) -> bool {
    let bindings = vhost.api("exchanges/{vhost}/leveret.dead/bindings/source").await;
    bindings.as_array().unwrap().iter().any(|binding| binding["destination"] == "leveret.centre.deaths.default")
}

async fn publish(vhost: &Vhost, id: &str, expiration: Option<&str>, track: bool) {
    let mut headers = FieldTable::default();
    if track {
        headers.insert("leveret-track".into(), AMQPValue::LongString("always".into()));
        headers.insert("leveret-labels".into(), AMQPValue::LongString(r#"{"team":"post"}"#.into()));
    }
    let mut properties = BasicProperties::default().with_type("probe".into()).with_headers(headers);
    properties = properties.with_message_id(id.to_owned().into());
    if let Some(expiration) = expiration {
        properties = properties.with_expiration(expiration.to_owned().into());
    }
    vhost.publish("leveret.tasks", "default", properties, "{}").await;
}

/// Consumers take the message and are cut off, until the broker gives it up.
async fn crash(vhost: &Vhost) {
    eventually(PATIENCE, async || {
        let taken = vhost.peek("default", 1).await;
        taken.is_empty() && vhost.ready("default.dead").await == 1
    })
    .await;
}

/// Brings the dead letter back, as any client may.
async fn replay(vhost: &Vhost) {
    let channel = vhost.channel().await;
    let letter = channel.basic_get("default.dead".into(), BasicGetOptions::default()).await.unwrap().unwrap();
    channel.basic_reject(letter.delivery.delivery_tag, BasicRejectOptions { requeue: false }).await.unwrap();
    eventually_eq(PATIENCE, 1, async || vhost.ready("default").await).await;
}

async fn delete(vhost: &Vhost, queue: &str) {
    let channel = vhost.channel().await;
    channel.queue_delete(queue.to_owned().into(), QueueDeleteOptions::default()).await.unwrap();
}

async fn dead(store: &Store, task: &str) -> Task {
    let task: TaskId = id(task);
    eventually(PATIENCE, async || store.task(&task).await.unwrap().filter(|task| task.state == TaskState::Dead)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_its_workers_is_seen_as_dead_and_each_replay_counts() {
    both(async |url| {
        let (vhost, store) = (queue_alone().await, store(&url, Clock::system()).await);
        let watcher = watch(&store, &vhost).await;
        note(&store, &watcher, "order-1").await;
        let mut begun = started("order-1", 0);
        begun.event.queue = "default".to_owned();
        store.apply(&[begun]).await.unwrap();
        assert_eq!(store.task(&id("order-1")).await.unwrap().unwrap().state, TaskState::Running);
        eventually(PATIENCE, async || is_copied(&vhost).await).await;

        // It does not ask to be followed: it is known.
        publish(&vhost, "order-1", None, false).await;
        crash(&vhost).await;
        let task = dead(&store, "order-1").await;
        assert_eq!(
            (task.reason.as_deref(), task.error_kind.as_deref()),
            (Some("delivery-limit"), Some("delivery-limit"))
        );
        assert!(task.error.unwrap().contains("killed or cut off"));
        assert_eq!((task.attempt, task.replays, task.worker.as_deref()), (1, 0, Some("mail-1")));
        assert!(task.ended_at >= task.started_at && task.ended_at.is_some());

        // No worker has moved it in between: only the broker knows how often it came back.
        for replays in 1..=2 {
            replay(&vhost).await;
            crash(&vhost).await;
            let again = async || store.task(&id("order-1")).await.unwrap().filter(|task| task.replays == replays);
            let task = eventually(PATIENCE, again).await;
            assert_eq!((task.state, task.attempt), (TaskState::Dead, 1));
        }
        replay(&vhost).await;
        let worker = start(worker(settings(vhost.url()).name("mail-2"))).await;
        let ended = async || store.task(&id("order-1")).await.unwrap().filter(|task| task.state == TaskState::Done);
        let task = eventually(PATIENCE, ended).await;
        assert_eq!((task.replays, task.attempt, task.attempts.len()), (3, 1, 4));
        assert_eq!((task.worker.as_deref(), task.error), (Some("mail-2"), None));
        worker.stop().await;
        watcher.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_expires_in_its_queue_is_seen_as_dead() {
    both(async |url| {
        let (vhost, store) = (queue_alone().await, store(&url, Clock::system()).await);
        let watcher = watch(&store, &vhost).await;
        note(&store, &watcher, "known").await;
        eventually(PATIENCE, async || is_copied(&vhost).await).await;
        publish(&vhost, "stranger", Some("1"), false).await;
        publish(&vhost, "asks", Some("1"), true).await;
        publish(&vhost, "known", Some("1"), false).await;
        let task = dead(&store, "known").await;
        assert_eq!((task.reason.as_deref(), task.started_at), (Some("expired"), None));
        let task = dead(&store, "asks").await;
        assert_eq!((task.task.as_str(), task.queue.as_str()), ("probe", "default"));
        assert_eq!((task.reason.as_deref(), task.labels["team"].as_str()), (Some("expired"), "post"));
        eventually_eq(PATIENCE, 3, async || watcher.stats().deaths).await;
        assert!(store.task(&id("stranger")).await.unwrap().is_none(), "nobody asked for it");
        watcher.stop().await;
        assert_eq!(vhost.ready("default.dead").await, 3);
        assert_eq!(vhost.ready("leveret.centre.deaths").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_tells_is_not_told_twice() {
    let (_folder, url) = sqlite();
    let (vhost, store) = (vhost().await, store(&url, Clock::system()).await);
    let watcher = watch(&store, &vhost).await;
    let worker = start(worker(settings(vhost.url()).name("mail-1"))).await;
    // A worker that starts makes its queue known.
    eventually(PATIENCE, async || is_copied(&vhost).await).await;
    let client = Client::connect(settings(vhost.url())).await.unwrap();
    let message = Message::json("probe", &json!({ "then": "fail" })).unwrap().max_attempts(1);
    let failed = client.publish_message(message).await.unwrap();
    let told = dead(&store, failed.as_str()).await;
    assert_eq!((told.reason.as_deref(), told.attempts.len()), (Some("exhausted"), 1));
    worker.stop().await;
    // Its copy was before this one in the queue.
    publish(&vhost, "later", Some("1"), true).await;
    dead(&store, "later").await;
    eventually_eq(PATIENCE, 1, async || watcher.stats().deaths).await;
    assert_eq!(store.task(&failed).await.unwrap().unwrap(), told);
    watcher.stop().await;
}

/// So the first task of a schedule is seen to die as well.
#[tokio::test(flavor = "multi_thread")]
async fn the_queues_of_schedules_are_known() {
    both(async |url| {
        let (vhost, store) = (queue_alone().await, store(&url, Clock::system()).await);
        let schedule = "INSERT INTO leveret_centre_schedules (namespace, name, shard, revision, source, definition, \
            created_at, changed_at) VALUES ('default', 'nightly', 0, 1, 'api', $1, 0, 0)";
        let definition = r#"{"task":"probe","cron":"0 2 * * *","queue":"default"}"#;
        store.database().execute(schedule, [definition.into()]).await.unwrap();
        let watcher = watch(&store, &vhost).await;
        eventually(PATIENCE, async || is_copied(&vhost).await).await;
        publish(&vhost, "first", Some("1"), true).await;
        dead(&store, "first").await;
        watcher.stop().await;
    })
    .await;
}

/// A copy is no way out for a dead letter: without its own queue it goes to the lost, whether a centre runs or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_without_its_queue_goes_to_the_lost() {
    let (_folder, url) = sqlite();
    let (vhost, store) = (queue_alone().await, store(&url, Clock::system()).await);
    let watcher = watch(&store, &vhost).await;
    note(&store, &watcher, "first").await;
    eventually(PATIENCE, async || is_copied(&vhost).await).await;
    delete(&vhost, "default.dead").await;
    assert!(!is_copied(&vhost).await, "the way to the centre went with the queue");
    publish(&vhost, "first", Some("1"), true).await;
    eventually_eq(PATIENCE, 1, async || vhost.ready("leveret.lost").await).await;

    // And when it is there again, the next centre finds it.
    declare_default(&vhost).await;
    watcher.stop().await;
    let watcher = watch(&store, &vhost).await;
    eventually(PATIENCE, async || is_copied(&vhost).await).await;
    watcher.stop().await;
    delete(&vhost, "default.dead").await;
    publish(&vhost, "second", Some("1"), true).await;
    eventually_eq(PATIENCE, 2, async || vhost.ready("leveret.lost").await).await;
    assert_eq!(vhost.ready("leveret.centre.deaths").await, 0);
    let lost: Vec<_> = vhost.take_all("leveret.lost").await.iter().filter_map(leveret_testkit::Message::id).collect();
    assert_eq!(lost, ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deaths_wait_for_a_centre_and_the_queue_comes_back() {
    let (_folder, url) = sqlite();
    let (vhost, store) = (queue_alone().await, store(&url, Clock::system()).await);
    let watcher = watch(&store, &vhost).await;
    note(&store, &watcher, "meanwhile").await;
    eventually(PATIENCE, async || is_copied(&vhost).await).await;
    watcher.stop().await;
    publish(&vhost, "meanwhile", Some("1"), false).await;
    eventually_eq(PATIENCE, 1, async || vhost.ready("leveret.centre.deaths").await).await;
    let watcher = watch(&store, &vhost).await;
    dead(&store, "meanwhile").await;

    delete(&vhost, "leveret.centre.deaths").await;
    let consumed =
        async || vhost.exists("leveret.centre.deaths").await && vhost.consumers("leveret.centre.deaths").await == 1;
    eventually(PATIENCE, consumed).await;
    note(&store, &watcher, "afterwards").await;
    publish(&vhost, "afterwards", Some("1"), false).await;
    dead(&store, "afterwards").await;
    watcher.stop().await;
}

/// What `docs/protocol.md` says suffices; who has less sees everything else.
#[tokio::test(flavor = "multi_thread")]
async fn a_centre_that_may_not_see_deaths_works_without() {
    let (_folder, url) = sqlite();
    let (vhost, store) = (queue_alone().await, store(&url, Clock::system()).await);
    let may = Permissions {
        configure: r"^leveret\.(centre|registry)",
        write: r"^(leveret\.(centre.*|registry\..*|events|control)|.*\.dead)$",
        read: r"^leveret\.(events|dead|centre.*|registry\..*)$",
    };
    let user = vhost.user(Permissions { configure: r"^leveret\.(centre$|registry)", ..may }).await;
    let start = async |url: &str| {
        let options = leveret_producer::centre::watch::WatchOptions {
            patience: Duration::from_millis(20),
            ..leveret_producer::centre::watch::WatchOptions::default()
        };
        leveret_producer::centre::watch::Watcher::start(store.clone(), settings(url), options).await.unwrap()
    };
    let watcher = start(user.url()).await;
    note(&store, &watcher, "order-1").await;
    let worker = crate::stage::start(worker(settings(vhost.url()))).await;
    publish(&vhost, "events", None, false).await;
    let done = async || store.task(&id("events")).await.unwrap().filter(|task| task.state == TaskState::Done);
    eventually(PATIENCE, done).await;
    assert!(!vhost.exists("leveret.centre.deaths").await);
    worker.stop().await;
    watcher.stop().await;

    user.may(&vhost, may).await;
    let watcher = start(user.url()).await;
    note(&store, &watcher, "order-2").await;
    eventually(PATIENCE, async || is_copied(&vhost).await).await;
    publish(&vhost, "order-2", Some("1"), false).await;
    dead(&store, "order-2").await;
    watcher.stop().await;
}
