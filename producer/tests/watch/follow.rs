//! A task is followed from its publish to its result, by real workers at a real broker.

use leveret_common::{client::Client, clock::Clock, message::Message, task::TaskId};
use leveret_producer::centre::store::{
    Store,
    tasks::{RecordedState, Task, TaskState},
};
use leveret_testkit::eventually;
use serde_json::json;

use crate::stage::*;

async fn ended(store: &Store, id: &TaskId) -> Task {
    eventually(PATIENCE, async || store.task(id).await.unwrap().filter(|task| task.state.is_ended())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_is_followed_from_publish_to_result() {
    both(async |url| {
        let (vhost, store) = (vhost().await, store(&url, Clock::system()).await);
        let watcher = watch(&store, &vhost).await;
        let mut changes = watcher.subscribe();
        let worker = start(worker(settings(vhost.url()).name("mail-1"))).await;
        let client = Client::connect(settings(vhost.url())).await.unwrap();
        let publish = async |message: Message| client.publish_message(message).await.unwrap();

        let labels = [("team".to_owned(), "post".to_owned())].into();
        let message = Message::json("probe", &json!({ "then": "result" })).unwrap();
        let message = message.schedule("billing/nightly", START).labels(&labels);
        let mut published = record(message.task_id().as_str(), 0, RecordedState::Published);
        (published.namespace, published.task, published.queue) = ("billing".into(), "probe".into(), "default".into());
        published.created_at = Clock::system().now();
        let id = publish(message).await;
        store.record_published(&[published]).await.unwrap();
        let task = ended(&store, &id).await;
        assert_eq!((task.state, task.result), (TaskState::Done, Some(json!({ "pages": 3 }))));
        assert_eq!((task.task.as_str(), task.queue.as_str(), task.namespace.as_str()), ("probe", "default", "billing"));
        assert_eq!((task.schedule.as_deref(), task.scheduled_at), (Some("billing/nightly"), Some(START)));
        assert_eq!((task.labels, task.worker.as_deref()), (labels, Some("mail-1")));
        assert!(task.waited_ms.is_some() && task.ran_ms.is_some() && task.started_at.is_some(), "{:?}", task.attempts);

        let id = publish(Message::json("probe", &json!({ "then": "fail once" })).unwrap()).await;
        let task = ended(&store, &id).await;
        assert_eq!((task.state, task.attempt, task.error), (TaskState::Done, 2, None));
        assert_eq!(task.attempts[0].error.as_deref(), Some("no such host"));

        let id = publish(Message::json("probe", &json!({ "then": "fail" })).unwrap()).await;
        let task = ended(&store, &id).await;
        assert_eq!((task.state, task.reason.as_deref()), (TaskState::Dead, Some("exhausted")));
        let id = publish(Message::json("probe", &json!({ "then": "discard" })).unwrap()).await;
        let task = ended(&store, &id).await;
        assert_eq!((task.state, task.error.as_deref()), (TaskState::Discarded, Some("too old")));

        // What never reached a handler is told as well.
        let id = publish(Message::json("nobody.knows", &json!(null)).unwrap()).await;
        let task = ended(&store, &id).await;
        assert_eq!((task.reason.as_deref(), task.started_at), (Some("unknown-task"), None));
        let id = publish(Message::json("probe", &json!({})).unwrap().expires_at(START - PATIENCE)).await;
        store.task(&id).await.unwrap();
        let mut seen = Vec::new();
        while let Ok(change) = changes.try_recv() {
            seen.push((change.id.clone(), change.state));
        }
        assert!(seen.iter().any(|(_, state)| *state == TaskState::Dead), "{seen:?}");
        assert!(seen.iter().filter(|(_, state)| *state == TaskState::Done).count() >= 2, "{seen:?}");
        worker.stop().await;
        watcher.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_expired_or_unreadable_is_told_as_dead() {
    let (_folder, url) = sqlite();
    let (vhost, store) = (vhost().await, store(&url, Clock::system()).await);
    let watcher = watch(&store, &vhost).await;
    let worker = start(worker(settings(vhost.url()))).await;
    let client = Client::connect(settings(vhost.url())).await.unwrap();
    let expired = Message::json("probe", &json!({})).unwrap().expires_at(leveret_common::clock::UnixMillis(1));
    let id = client.publish_message(expired).await.unwrap();
    let task = ended(&store, &id).await;
    assert_eq!(
        (task.state, task.reason.as_deref(), task.error_kind.as_deref()),
        (TaskState::Dead, Some("expired"), Some("expired"))
    );
    let unreadable = Message::json("probe", &json!({})).unwrap().header("leveret-max-attempts", "many");
    let id = client.publish_message(unreadable).await.unwrap();
    let task = ended(&store, &id).await;
    assert_eq!((task.reason.as_deref(), task.error_kind.as_deref()), (Some("undecodable"), Some("header")));
    worker.stop().await;
    watcher.stop().await;
}

/// A replayed dead letter begins anew, whatever number its last attempt had.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_followed_as_well() {
    let (_folder, url) = sqlite();
    let (vhost, store) = (vhost().await, store(&url, Clock::system()).await);
    let watcher = watch(&store, &vhost).await;
    let running = start(worker(settings(vhost.url()))).await;
    let client = Client::connect(settings(vhost.url())).await.unwrap();
    let id = client.publish_message(Message::json("probe", &json!({ "then": "fail" })).unwrap()).await.unwrap();
    assert_eq!(ended(&store, &id).await.attempt, 2);
    // By any client: a dead letter that is rejected goes back to its queue.
    let channel = vhost.channel().await;
    let get = lapin::options::BasicGetOptions { no_ack: false };
    let letter = channel.basic_get("default.dead".into(), get).await.unwrap().unwrap();
    let reject = lapin::options::BasicRejectOptions { requeue: false };
    channel.basic_reject(letter.delivery.delivery_tag, reject).await.unwrap();
    let again = async || store.task(&id).await.unwrap().filter(|task| task.replays == 1 && task.state.is_ended());
    let task = eventually(PATIENCE, again).await;
    assert_eq!((task.state, task.attempt, task.attempts.len()), (TaskState::Dead, 2, 4));
    running.stop().await;
    watcher.stop().await;
}
