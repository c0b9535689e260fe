//! A worker process that is killed loses nothing, and attempts are counted by failures alone.

use std::collections::BTreeSet;

use leveret_testkit::{Depth, eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, probe, quick, start, victim::Victim};

/// The program of a [`Victim`].
const VICTIM: &str = env!("CARGO_BIN_EXE_victim");

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_had_begun_is_run_by_another() {
    let place = Place::new().await;
    let mut victim = Victim::start(VICTIM, &place, 4, 100).attached().await;
    let client = place.client().await;
    let published = client.publish_many((0..8).map(|_| probe("hang"))).await;
    let published: BTreeSet<_> = published.into_iter().map(|id| id.unwrap().to_string()).collect();
    let mut begun = BTreeSet::new();
    for _ in 0..4 {
        let (id, attempt, redelivered) = victim.run().await;
        assert_eq!((attempt, redelivered), (1, false));
        begun.insert(id);
    }
    victim.kill().await;

    let (worker, mut runs) = place.working(8).await;
    let runs = runs.take(8).await;
    assert_eq!(runs.iter().map(|run| run.id()).collect::<BTreeSet<_>>(), published);
    for run in &runs {
        assert_eq!(run.count(), (1, begun.contains(&run.id())), "a kill costs no attempt, and is told");
    }
    drop(runs);
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await + place.vhost.ready("default.dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_had_finished_is_not_run_again() {
    let place = Place::new().await;
    let mut victim = Victim::start(VICTIM, &place, 3, 100).attached().await;
    let client = place.client().await;
    // The first of them hangs, so that no acknowledgement can cover them all.
    let hanging = client.publish_message(probe("hang")).await.unwrap();
    client.publish_many((0..20).map(probe)).await.into_iter().for_each(|id| drop(id.unwrap()));
    for _ in 0..21 {
        victim.run().await;
    }
    let acknowledged = Depth { ready: 0, unacked: 1, consumers: 1 };
    eventually_eq(PATIENCE, acknowledged, async || place.vhost.depth("default").await).await;
    victim.kill().await;

    let (worker, mut runs) = place.working(8).await;
    let run = runs.next().await;
    assert_eq!((run.id(), run.count()), (hanging.to_string(), (1, true)));
    run.done();
    worker.stop().await;
    assert!(runs.begun().is_none(), "only the task that hung is run again");
    assert_eq!(place.vhost.ready("default").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_raises_the_attempt_and_a_kill_does_not() {
    let place = Place::new().await;
    let client = place.client().await;
    let (worker, mut runs) = place.working(1).await;
    let id = client.publish_message(probe("hang")).await.unwrap().to_string();
    let run = runs.next().await;
    assert_eq!(run.count(), (1, false));
    // It takes no more before the task fails, so that the next attempt is somebody else's.
    worker.stopper().stop();
    eventually(PATIENCE, async || place.consumers("default").await.is_empty()).await;
    run.fail("first");
    worker.wait().await;

    let mut victim = Victim::start(VICTIM, &place, 1, 100);
    assert_eq!(victim.run().await, (id.clone(), 2, false), "a failure raises the attempt");
    victim.kill().await;
    let mut victim = Victim::start(VICTIM, &place, 1, 100);
    assert_eq!(victim.run().await, (id.clone(), 2, true), "a kill does not");
    victim.kill().await;

    let (worker, mut runs) = place.working(1).await;
    let run = runs.next().await;
    assert_eq!((run.id(), run.count()), (id.clone(), (2, true)));
    run.fail("second");
    let run = runs.next().await;
    assert_eq!((run.id(), run.count()), (id, (3, false)));
    run.done();
    worker.stop().await;
    assert_eq!(place.vhost.ready("default").await, 0);
}

/// A task that takes its worker down with it: the broker itself ends that, and keeps the task.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_every_worker_ends_in_the_dead_letter_queue() {
    let place = Place::new().await;
    let (worker, _runs) = place.worker();
    let mut queue = quick(1);
    queue.settings.delivery_limit = 1;
    start(worker.queue("default", queue)).await.stop().await;
    let client = place.client().await;
    let id = client.publish_message(probe("hang")).await.unwrap().to_string();
    let mut killed = 0;
    while place.vhost.ready("default.dead").await == 0 {
        assert!(killed < 5, "given out {killed} times with a limit of 1");
        let mut victim = Victim::start(VICTIM, &place, 1, 1);
        assert_eq!(victim.run().await, (id.clone(), 1, killed > 0));
        victim.kill().await;
        killed += 1;
        let elsewhere = async || place.vhost.ready("default").await + place.vhost.ready("default.dead").await == 1;
        eventually(PATIENCE, elsewhere).await;
    }
    let dead = place.vhost.take("default.dead").await.unwrap();
    assert_eq!(dead.id(), Some(id));
    assert_eq!(dead.json(), "hang");
    assert_eq!(dead.header_text("x-first-death-reason").as_deref(), Some("delivery_limit"));
}
