//! Operations over dead letters, as rows in both databases and at work on a real broker.

#![expect(clippy::unwrap_used, reason = "a test reports by failing")]

mod centre;

use std::{sync::Arc, time::Duration};

use centre::{NOON, both};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use leveret_common::{
    clock::{Clock, UnixMillis},
    config::BrokerSettings,
    link::{ChannelPool, Link, Role},
    topology::{QueueName, QueueSettings, Topology, declare},
};
use leveret_producer::centre::{
    database::Database,
    operations::{Conditions, LetterChange, Management, Operations, Place, Queues, Request, Then},
    store::{Operation, OperationKind, OperationState, Progress, Store},
};
use leveret_testkit::{Broker, Vhost, eventually};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);

fn operation(id: &str, queue: Option<&str>, centre: &str) -> Operation {
    Operation {
        id: id.to_owned(),
        kind: OperationKind::Replay,
        queue: queue.map(str::to_owned),
        request: serde_json::from_value(json!({ "only": { "reason": "timeout" }, "rate": "10/s" })).unwrap(),
        state: OperationState::Running,
        progress: Progress::default(),
        error: None,
        cancelling: false,
        started_by: Some("ann".to_owned()),
        centre: centre.to_owned(),
        deaths: 0,
        created_at: NOON,
        ended_at: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_operation_works_on_a_queue_at_a_time() {
    both(async |store: Store, _| {
        let first = operation("1", Some("mail"), "a");
        assert!(store.begin_operation(&first, None).await.unwrap());
        assert!(!store.begin_operation(&operation("2", Some("mail"), "b"), None).await.unwrap());
        assert!(store.begin_operation(&operation("3", None, "a"), None).await.unwrap());
        assert!(!store.begin_operation(&operation("4", None, "a"), None).await.unwrap());
        assert_eq!(store.operation("1").await.unwrap().as_ref(), Some(&first));
        assert_eq!(store.operation_on(None).await.unwrap().unwrap().id, "3");
        assert_eq!(store.operation("2").await.unwrap(), None);

        let progress = Progress { done: 2, seen: 3, total: Some(9) };
        assert_eq!(store.beat_operation("1", "a", progress).await.unwrap(), Some(false));
        assert!(store.cancel_operation("1", None).await.unwrap());
        assert_eq!(store.beat_operation("1", "a", progress).await.unwrap(), Some(true));
        assert_eq!(store.beat_operation("1", "b", progress).await.unwrap(), None);
        let why = Some("no luck".to_owned());
        assert!(!store.end_operation("1", "b", progress, OperationState::Done, None).await.unwrap());
        assert!(store.end_operation("1", "a", progress, OperationState::Failed, why.clone()).await.unwrap());
        assert!(!store.cancel_operation("1", None).await.unwrap());
        let ended = store.operation("1").await.unwrap().unwrap();
        assert_eq!((ended.state, ended.progress, ended.error), (OperationState::Failed, progress, why));
        assert_eq!(ended.ended_at, Some(NOON));

        assert!(store.begin_operation(&operation("5", Some("mail"), "a"), None).await.unwrap());
        let ids = async |before, queue, state, limit| {
            let found = store.operations(before, queue, state, limit).await.unwrap();
            found.into_iter().map(|operation| operation.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(None, None, None, 10).await, ["5", "3", "1"]);
        assert_eq!(ids(Some("5"), None, None, 1).await, ["3"]);
        assert_eq!(ids(None, Some("mail"), Some(OperationState::Failed), 10).await, ["1"]);
        assert_eq!(store.forget_operations(NOON + Duration::from_millis(1)).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_without_a_centre_goes_to_one_other() {
    both(async |store: Store, clock: Clock| {
        store.begin_operation(&operation("1", Some("mail"), "a"), None).await.unwrap();
        let adopt =
            async |centre, after| store.adopt_operation(centre, NOON + Duration::from_secs(after)).await.unwrap();
        assert_eq!(adopt("b", 0).await, None);
        clock.advance(Duration::from_secs(20));
        let taken = adopt("b", 5).await.unwrap();
        assert_eq!((taken.centre.as_str(), taken.deaths), ("b", 1));
        assert_eq!(adopt("c", 5).await, None);
        // The old centre was only slow: it is told that this is no longer its own.
        assert_eq!(store.beat_operation("1", "a", Progress::default()).await.unwrap(), None);

        let progress = Progress { done: 5, seen: 5, total: Some(7) };
        store.release_operation("1", "b", progress).await.unwrap();
        let taken = adopt("c", 5).await.unwrap();
        assert_eq!((taken.progress, taken.deaths), (progress, 1), "nobody died over it");
    })
    .await;
}

/// A centre's operations on a vhost with a queue `mail`, and dead letters in it.
struct Site {
    vhost: Vhost,
    store: Store,
    link: Link,
    topology: Topology,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn with_dead(letters: usize) -> Self {
        let vhost = Broker::shared().await.vhost().await;
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/centre.db", folder.path().display()).parse().unwrap();
        let store = Store::new(Database::open(&url).await.unwrap(), Clock::system());
        let mut settings = BrokerSettings::default();
        settings.url = vec![vhost.url().parse().unwrap()];
        let link = Link::open(Arc::new(settings), Role::Admin);
        let topology = Topology::new("leveret").unwrap().queue(mail(), QueueSettings::default());
        declare(&ChannelPool::new(link.clone()), &topology).await.unwrap();
        for number in 0..letters {
            let mut headers = FieldTable::default();
            let error = if number % 3 == 0 { "timeout" } else { "no luck" };
            headers.insert("leveret-dead-reason".into(), AMQPValue::LongString("exhausted".into()));
            headers.insert("leveret-error".into(), AMQPValue::LongString(error.into()));
            headers.insert("leveret-attempt".into(), AMQPValue::LongLongInt(8));
            let named = BasicProperties::default().with_type("mail.send".into());
            let named = named.with_message_id(format!("id-{number}").try_into().unwrap()).with_headers(headers);
            vhost.publish("leveret.dead", "mail", named, r#"{"to":"hare"}"#).await;
        }
        Self { vhost, store, link, topology, _folder: folder }
    }

    fn centre(&self, id: &str) -> Operations {
        Operations::start(self.store.clone(), self.link.clone(), id)
    }

    async fn ended(&self, id: &str) -> Operation {
        let (store, id) = (self.store.clone(), id.to_owned());
        let mut ended = None;
        eventually(PATIENCE, async || {
            ended = store.operation(&id).await.unwrap().filter(|found| found.state != OperationState::Running);
            ended.is_some()
        })
        .await;
        ended.unwrap()
    }
}

fn mail() -> QueueName {
    QueueName::new("mail").unwrap()
}

fn place() -> Place {
    Place::Queue(mail())
}

fn request(json: serde_json::Value) -> Request {
    serde_json::from_value(json).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn some_are_replayed_and_the_rest_is_purged() {
    let site = Site::with_dead(9).await;
    let centre = site.centre("a");
    let asked = request(json!({ "only": { "error": "TIMEOUT" } }));
    let begun = centre.begin(OperationKind::Replay, &place(), asked, Some("ann".into()), None).await.unwrap();
    let ended = site.ended(&begun.id).await;
    assert_eq!((ended.state, ended.error), (OperationState::Done, None));
    assert_eq!(ended.progress, Progress { done: 3, seen: 9, total: Some(9) });
    eventually(PATIENCE, async || site.vhost.ready("mail").await == 3).await;

    let all = request(json!({ "all": true }));
    let begun = centre.begin(OperationKind::Purge, &place(), all.clone(), None, None).await.unwrap();
    assert_eq!(site.ended(&begun.id).await.progress.done, 6);
    assert_eq!(site.vhost.ready("mail.dead").await, 0);

    let nowhere = Place::Queue(QueueName::new("nowhere").unwrap());
    let refused = centre.begin(OperationKind::Purge, &nowhere, all, None, None).await.unwrap_err();
    assert!(refused.to_string().contains("no queue \"nowhere.dead\""), "{refused}");
    centre.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_replay_is_called_off_from_another_centre() {
    let site = Site::with_dead(50).await;
    let (centre, other) = (site.centre("a"), site.centre("b"));
    let slowly = request(json!({ "all": true, "rate": "20/s" }));
    let begun = centre.begin(OperationKind::Replay, &place(), slowly.clone(), None, None).await.unwrap();
    let twice = other.begin(OperationKind::Purge, &place(), request(json!({ "all": true })), None, None).await;
    assert!(twice.unwrap_err().to_string().contains(&begun.id));
    eventually(PATIENCE, async || site.store.operation(&begun.id).await.unwrap().unwrap().progress.done > 0).await;
    assert!(other.cancel(&begun.id, None).await.unwrap());
    let ended = site.ended(&begun.id).await;
    assert_eq!(ended.state, OperationState::Cancelled);
    let done = usize::try_from(ended.progress.done).unwrap();
    assert!(done > 0 && done < 50, "{done}");
    eventually(PATIENCE, async || {
        site.vhost.ready("mail").await as usize == done && site.vhost.ready("mail.dead").await as usize == 50 - done
    })
    .await;
    assert!(!other.cancel(&begun.id, None).await.unwrap());
    centre.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_centre_leaves_is_done_by_the_next() {
    let site = Site::with_dead(30).await;
    let centre = site.centre("a");
    let asked = request(json!({ "all": true, "limit": 25, "rate": "25/s" }));
    let begun = centre.begin(OperationKind::Replay, &place(), asked, None, None).await.unwrap();
    eventually(PATIENCE, async || site.store.operation(&begun.id).await.unwrap().unwrap().progress.done > 0).await;
    centre.stop().await;
    let left = site.store.operation(&begun.id).await.unwrap().unwrap();
    assert_eq!(left.state, OperationState::Running);
    let next = site.centre("b");
    let ended = site.ended(&begun.id).await;
    assert_eq!((ended.state, ended.progress.done, ended.centre.as_str()), (OperationState::Done, 25, "b"));
    eventually(PATIENCE, async || site.vhost.ready("mail").await == 25).await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_dead_centre_all_is_finished_and_a_count_is_not_guessed() {
    let site = Site::with_dead(5).await;
    let abandoned = async |id: &str, queue: Option<&str>, request: Request| {
        let long_ago = Operation { request, created_at: UnixMillis(1), ..operation(id, queue, "dead") };
        assert!(site.store.begin_operation(&long_ago, None).await.unwrap());
    };
    abandoned("1", Some("mail"), request(json!({ "all": true }))).await;
    abandoned("2", None, request(json!({ "all": true, "limit": 3 }))).await;
    let next = site.centre("b");
    let all = site.ended("1").await;
    assert_eq!((all.state, all.progress.done, all.deaths), (OperationState::Done, 5, 1));
    let counted = site.ended("2").await;
    assert_eq!(counted.state, OperationState::Interrupted);
    assert!(counted.error.unwrap().contains("begin anew"));
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_grouped_shown_and_put_right() {
    let site = Site::with_dead(4).await;
    let centre = site.centre("a");
    let letters = centre.letters(&place(), &Conditions::default(), 3).await.unwrap();
    assert_eq!((letters.items.len(), letters.depth), (3, 4));
    assert_eq!(letters.items[0].id.as_deref(), Some("id-0"));
    let groups = centre.letter_groups(&place(), &Conditions::default(), 100).await.unwrap().items;
    let counts: Vec<_> = groups.iter().map(|group| (group.count, group.error.as_str())).collect();
    assert_eq!(counts, [(2, "no luck"), (2, "timeout")]);
    assert_eq!(centre.letter(&place(), "id-9").await.unwrap(), None);
    assert_eq!(centre.letter(&place(), "id-1").await.unwrap().unwrap().body, Some(json!({ "to": "hare" })));

    let right = LetterChange {
        body: Some(json!({ "to": "rabbit" })),
        headers: [("team".to_owned(), json!("a")), ("leveret-error".to_owned(), json!(null))].into(),
        then: Then::Stay,
        ..LetterChange::default()
    };
    assert!(centre.amend_letter(&place(), "id-1", right.clone()).await.unwrap());
    assert!(!centre.amend_letter(&place(), "id-9", right.clone()).await.unwrap());
    let stayed = centre.letter(&place(), "id-1").await.unwrap().unwrap();
    assert_eq!((stayed.body, stayed.letter.error), (Some(json!({ "to": "rabbit" })), None));
    assert_eq!((stayed.letter.reason.as_str(), &stayed.headers["team"]), ("exhausted", &json!("a")));
    assert_eq!(stayed.letter.attempt, 8);

    let run = LetterChange { then: Then::Run, task: Some("mail.post".to_owned()), ..LetterChange::default() };
    assert!(centre.amend_letter(&place(), "id-1", run).await.unwrap());
    eventually(PATIENCE, async || site.vhost.ready("mail").await == 1).await;
    let message = site.vhost.take("mail").await.unwrap();
    assert_eq!(message.id().as_deref(), Some("id-1"));
    assert_eq!(message.body, br#"{"to":"rabbit"}"#);
    assert_eq!(message.task().as_deref(), Some("mail.post"));
    let headers = message.properties.headers().clone().unwrap_or_default();
    let names = headers.inner().keys().map(|name| name.to_string());
    // The broker counts deliveries from 0 on.
    let names: Vec<_> = names.filter(|name| name != "x-delivery-count").collect();
    assert_eq!(names, ["leveret-replays", "team"], "nothing is left of its death but that it was replayed");
    let wrong = LetterChange { headers: [("a".to_owned(), json!([1]))].into(), ..LetterChange::default() };
    assert!(centre.amend_letter(&place(), "id-2", wrong).await.unwrap_err().to_string().contains("\"a\""));
    centre.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_counted_and_their_growth_measured() {
    let site = Site::with_dead(2).await;
    let pool = ChannelPool::new(site.link.clone());
    let queues = Queues::new(pool, site.topology.clone(), None, None);
    let report = &queues.all().await.unwrap().items[0];
    assert_eq!((report.queue.as_str(), report.ready, report.dead), ("mail", Some(0), Some(2)));
    assert_eq!((report.consumers, report.rates.growth), (Some(0), None));
    for _ in 0..5 {
        let named = BasicProperties::default().with_type("mail.send".into());
        site.vhost.publish("leveret.tasks", "mail", named, "{}").await;
    }
    eventually(PATIENCE, async || {
        let report = queues.one(&mail()).await.unwrap();
        report.ready == Some(5) && report.rates.growth.is_some_and(|growth| growth > 0.0 && growth <= 5.0)
    })
    .await;
    let none = queues.one(&QueueName::new("nowhere").unwrap()).await.unwrap();
    assert_eq!((none.ready, none.dead), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_management_interface_adds_what_workers_have_in_hand() {
    drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
    let site = Site::with_dead(1).await;
    let management = Management::new(site.vhost.management_url(), site.vhost.name()).unwrap();
    assert!(!format!("{management:?}").contains(":guest"));
    // Without any queue in the configuration: it tells which there are.
    let queues =
        Queues::new(ChannelPool::new(site.link.clone()), Topology::new("leveret").unwrap(), None, Some(management));
    eventually(PATIENCE, async || {
        let items = queues.all().await.unwrap().items;
        items.len() == 1 && items[0].unacknowledged == Some(0)
    })
    .await;
}
