//! Order and repetition do not matter, whatever is told.

use leveret_common::wire::DeadReason;
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::centre::store::tasks::{Task, TaskState};

fn event(attempt: u32, at: i64, what: Happening) -> TaskEvent {
    TaskEvent {
        id: "order-17".parse().unwrap(),
        task: "mail.send".to_owned(),
        queue: "mail".to_owned(),
        attempt,
        at: UnixMillis(at),
        trace_id: None,
        replays: 0,
        schedule: None,
        scheduled_at: None,
        labels: BTreeMap::new(),
        what,
    }
}

fn instance(number: u8) -> Instance {
    format!("00000000-0000-7000-8000-0000000000{number:02x}").parse().unwrap()
}

fn told(event: &TaskEvent) -> Life {
    Life::told(&Told::by("mail-1", instance(1), event.clone()))
}

fn joined(lives: impl IntoIterator<Item = Life>) -> Task {
    let mut lives = lives.into_iter();
    let mut all = lives.next().unwrap();
    lives.for_each(|life| all.join(life));
    all.summary(UnixMillis(0))
}

fn failed(retry_at: i64) -> Happening {
    Happening::Failed {
        ran_ms: 5,
        error_kind: "error".to_owned(),
        error: "no such host".to_owned(),
        retry_at: UnixMillis(retry_at),
    }
}

fn dead() -> Happening {
    Happening::Dead {
        ran_ms: Some(5),
        reason: DeadReason::Exhausted,
        error_kind: "error".to_owned(),
        error: "no such host".to_owned(),
    }
}

#[test]
fn a_late_start_does_not_bring_back_what_is_done() {
    let started = event(1, 100, Happening::Started { waited_ms: Some(40) });
    let done = event(1, 150, Happening::done(50, Some(&serde_json::json!({ "sent": true }))));
    let task = joined([told(&done), told(&started)]);
    assert_eq!((task.state, task.attempt, task.waited_ms, task.ran_ms), (TaskState::Done, 1, Some(40), Some(50)));
    assert_eq!((task.created_at, task.ended_at), (UnixMillis(60), Some(UnixMillis(150))));
    assert_eq!(task.result, Some(serde_json::json!({ "sent": true })));
}

#[test]
fn the_attempt_decides_before_the_clock_of_a_worker() {
    // The second worker's clock is behind by a minute.
    let first = [event(1, 100_000, Happening::Started { waited_ms: None }), event(1, 100_100, failed(100_200))];
    let second = event(2, 40_300, Happening::Started { waited_ms: None });
    let task = joined([&second, &first[0], &first[1]].map(told));
    assert_eq!((task.state, task.attempt, task.due_at), (TaskState::Running, 2, None));
    assert_eq!(task.error.as_deref(), Some("no such host"), "what went wrong last is still of interest");
    let task = joined([told(&event(2, 40_400, Happening::done(1, None))), told(&first[1])]);
    assert_eq!((task.state, task.error), (TaskState::Done, None));
    assert_eq!(task.attempts[0].error.as_deref(), Some("no such host"));
}

#[test]
fn a_replay_begins_anew() {
    let replayed = TaskEvent { replays: 1, ..event(1, 300, Happening::Started { waited_ms: None }) };
    let task = joined([told(&replayed), told(&event(8, 200, dead()))]);
    assert_eq!((task.state, task.attempt, task.replays), (TaskState::Running, 1, 1));
    assert_eq!((task.reason.as_deref(), task.ended_at), (Some("exhausted"), None));
}

#[test]
fn a_task_that_was_put_off_waits() {
    let snoozed = Happening::Snoozed { ran_ms: 5, retry_at: UnixMillis(9_000) };
    let first = [event(1, 100, Happening::Started { waited_ms: None }), event(1, 105, snoozed)];
    let task = joined([told(&first[1]), told(&first[0])]);
    assert_eq!((task.state, task.due_at, task.error), (TaskState::Retrying, Some(UnixMillis(9_000)), None));
    let again = event(1, 9_001, Happening::Started { waited_ms: None });
    assert_eq!(joined([&again, &first[1], &first[0]].map(told)).state, TaskState::Running);
}

#[test]
fn the_centre_says_more_than_events_and_comes_late() {
    let record = |state, at| {
        let record = TaskRecord {
            id: "order-17".parse().unwrap(),
            namespace: "billing".to_owned(),
            task: "mail.send".to_owned(),
            queue: "mail".to_owned(),
            state,
            at: UnixMillis(at),
            created_at: UnixMillis(1_234),
            due_at: Some(UnixMillis(at + 10)),
            schedule: None,
            labels: BTreeMap::new(),
            trace_id: None,
            reason: None,
        };
        Life::recorded(&record)
    };
    let held = [record(RecordedState::Scheduled, 20), record(RecordedState::Scheduled, 30)];
    let [first, second] = held.clone();
    assert_eq!(joined([second, first]).due_at, Some(UnixMillis(40)), "it was rescheduled");
    let started = told(&event(1, 2_000, Happening::Started { waited_ms: Some(900) }));
    let task = joined([started, record(RecordedState::Published, 1_500)].into_iter().chain(held));
    assert_eq!((task.state, task.created_at), (TaskState::Running, UnixMillis(1_234)));
    assert_eq!(task.namespace, "billing");
}

#[test]
fn a_request_to_cancel_holds_until_the_task_has_ended_or_lives_anew() {
    let started = |replays| told(&TaskEvent { replays, ..event(1, 100, Happening::Started { waited_ms: None }) });
    let request = |task: &Task, at| Life::to_be_cancelled(task, Some("not wanted"), UnixMillis(at));
    let running = joined([started(0)]);
    let open = joined([started(0), request(&running, 150)]);
    assert_eq!((open.state, open.cancel_requested_at), (TaskState::Running, Some(UnixMillis(150))));
    assert_eq!((open.cancel_reason.as_deref(), open.created_at), (Some("not wanted"), running.created_at));
    let later = [started(0), told(&event(1, 160, failed(200))), request(&running, 150)];
    let retrying = joined(later.clone());
    assert_eq!((retrying.state, retrying.cancel_requested_at), (TaskState::Retrying, Some(UnixMillis(150))));
    let never_begun = Happening::Cancelled { ran_ms: None, reason: Some("not wanted".to_owned()) };
    let ended = joined(later.into_iter().chain([told(&event(2, 210, never_begun))]));
    assert_eq!((ended.state, ended.cancel_requested_at), (TaskState::Cancelled, None));
    assert_eq!((ended.started_at, ended.error.as_deref()), (None, Some("not wanted")));
    // What was asked for of one life says nothing of the next.
    let anew = joined([started(0), request(&running, 150), told(&event(1, 160, dead())), started(1)]);
    assert_eq!((anew.state, anew.cancel_requested_at), (TaskState::Running, None));
    let again = joined([started(0), request(&running, 150), request(&anew, 170), started(1)]);
    assert_eq!(again.cancel_requested_at, Some(UnixMillis(170)));
}

#[test]
fn many_attempts_are_bounded_and_so_are_texts() {
    let long = |attempt| TaskEvent {
        labels: (0..100).map(|label| (format!("label {label}"), "v".repeat(1_000))).collect(),
        task: "ü".repeat(300),
        ..event(attempt, i64::from(attempt), failed(9))
    };
    let mut life = told(&long(1));
    (1..1_000).rev().for_each(|attempt| life.join(told(&long(attempt))));
    assert_eq!((life.attempts.len(), life.attempts[0].attempt), (ATTEMPTS, 984));
    assert_eq!((life.labels.len(), life.task.len()), (LABELS, 254));
}

fn happenings() -> impl Strategy<Value = Happening> {
    let progress = |cursor| Happening::Progress(Progress { cursor, total: Some(10), note: None });
    prop_oneof![
        proptest::option::of(0_u64..50).prop_map(|waited_ms| Happening::Started { waited_ms }),
        (0_u64..10).prop_map(progress),
        (0_u64..5, 0_i64..3).prop_map(|(ran_ms, result)| Happening::done(ran_ms, Some(&result.into()))),
        (0_i64..100).prop_map(failed),
        Just(dead()),
        select(vec![None, Some("a person".to_owned())])
            .prop_map(|reason| Happening::Cancelled { ran_ms: Some(1), reason }),
        Just(Happening::Discarded { ran_ms: 1, reason: None }),
        (0_u64..5, 0_i64..50)
            .prop_map(|(ran_ms, retry_at)| Happening::Snoozed { ran_ms, retry_at: UnixMillis(retry_at) }),
    ]
}

fn lives() -> impl Strategy<Value = Life> {
    // Few times and attempts, so that many are the same.
    let parts = (1_u32..20, 0_u32..2, 0_i64..20, 0_u8..3, happenings());
    let events = parts.prop_map(|(attempt, replays, at, worker, what)| {
        let schedule = (attempt % 5 == 0).then(|| format!("billing/{at}"));
        let labels = BTreeMap::from([(format!("l{}", at % 40), worker.to_string())]);
        let event = TaskEvent { replays, schedule, labels, ..event(attempt, at, what) };
        // Some of them the broker tells.
        let worker = (worker > 0).then(|| (format!("mail-{worker}"), instance(worker)));
        Life::told(&Told { worker, event, follows: true })
    });
    let states = vec![RecordedState::Scheduled, RecordedState::Published, RecordedState::Cancelled];
    let record = (select(states), 0_i64..20).prop_map(|(state, at)| {
        Life::recorded(&TaskRecord {
            id: "order-17".parse().unwrap(),
            namespace: "billing".to_owned(),
            task: "mail.send".to_owned(),
            queue: "mail".to_owned(),
            state,
            at: UnixMillis(at),
            created_at: UnixMillis(5),
            due_at: Some(UnixMillis(at)),
            schedule: None,
            labels: BTreeMap::new(),
            trace_id: Some(at.to_string()),
            reason: None,
        })
    });
    let cancel = (0_u32..2, 0_i64..20).prop_map(|(replays, at)| {
        let task = joined([told(&event(1, at, Happening::Started { waited_ms: None }))]);
        Life::to_be_cancelled(&Task { replays, ..task }, Some("a person"), UnixMillis(at))
    });
    prop_oneof![8 => events, 1 => record, 1 => cancel]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn order_and_repetition_do_not_matter(
        (first, second, again) in vec(lives(), 1..40).prop_flat_map(|lives| {
            (Just(lives.clone()), Just(lives.clone()).prop_shuffle(), proptest::sample::subsequence(lives.clone(), 0..=lives.len()))
        }),
    ) {
        prop_assert_eq!(joined(first.clone()), joined(second.clone().into_iter().chain(again.clone())));
        // Nor does it matter what was joined with what first, nor that it was stored in between.
        let middle = second.len() / 2;
        let half = |lives: &[Life]| {
            let mut lives = lives.iter().cloned();
            let mut all = lives.next()?;
            lives.for_each(|life| all.join(life));
            let mut stored: Life = serde_json::from_str(&serde_json::to_string(&all).unwrap()).unwrap();
            stored.id = all.id.clone();
            stored.set_result(all.result().map(str::to_owned));
            Some(stored)
        };
        let halves: Vec<_> = [half(&second[middle..]), half(&second[..middle])].into_iter().flatten().collect();
        prop_assert_eq!(joined(first), joined(halves));
    }
}
