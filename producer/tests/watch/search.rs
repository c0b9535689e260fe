//! Tasks are found, page by page.

use leveret_common::clock::Clock;
use leveret_producer::centre::store::tasks::{Cursor, RecordedState, TaskFilter, TaskState};

use crate::stage::*;

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_every_task_once_while_new_ones_come() {
    both(async |url| {
        let store = store(&url, Clock::held(START)).await;
        // Several of one millisecond, so that the id decides.
        let tasks: Vec<_> =
            (0..25).map(|task| record(&format!("t{task:02}"), task / 4, RecordedState::Published)).collect();
        store.record_published(&tasks).await.unwrap();
        let (mut seen, mut cursor): (Vec<String>, Option<Cursor>) = (Vec::new(), None);
        loop {
            let page = store.search(&TaskFilter::default(), cursor.as_ref(), 10).await.unwrap();
            seen.extend(page.items.iter().map(|task| task.id.to_string()));
            let late = record(&format!("new {}", seen.len()), 99, RecordedState::Published);
            store.record_published(&[late]).await.unwrap();
            let Some(next) = page.next else { break };
            cursor = Some(next.parse().unwrap());
        }
        let wanted: Vec<_> = (0..25).rev().map(|task| format!("t{task:02}")).collect();
        assert_eq!(seen, wanted);
        assert!("soon".parse::<Cursor>().is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_found_by_what_is_known_of_them() {
    both(async |url| {
        let clock = Clock::held(START);
        let store = store(&url, clock.clone()).await;
        let mut labelled = started("a", 10);
        labelled.event.labels =
            [("team", "post \"A\""), ("tier", "1")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        labelled.event.schedule = Some("billing/nightly".to_owned());
        let mut other = done("c", 30);
        (other.event.task, other.event.queue) = ("pdf.make".into(), "pdf".into());
        other.worker.as_mut().unwrap().0 = "pdf-1".into();
        store.apply(&[labelled, failed("b", 20, "No such Host (100%)"), other]).await.unwrap();
        clock.advance(PATIENCE);
        store.apply(&[attempt(2, started("b", 25))]).await.unwrap();

        let found = async |change: fn(&mut TaskFilter)| {
            let mut filter = TaskFilter::default();
            change(&mut filter);
            let page = store.search(&filter, None, 10).await.unwrap();
            let found: Vec<_> = page.items.iter().map(|task| task.id.to_string()).collect();
            let counted: u64 = store.count_by_state(&filter).await.unwrap().values().sum();
            assert_eq!(counted, found.len() as u64, "{filter:?}");
            found.join(" ")
        };
        assert_eq!(found(|_| {}).await, "c b a");
        assert_eq!(found(|filter| filter.states = vec![TaskState::Running]).await, "b a");
        assert_eq!(found(|filter| filter.states = vec![TaskState::Done, TaskState::Dead]).await, "c");
        assert_eq!(found(|filter| filter.task = Some("pdf.make".into())).await, "c");
        assert_eq!(found(|filter| filter.queue = Some("mail".into())).await, "b a");
        assert_eq!(found(|filter| filter.namespaces = vec!["billing".into(), "other".into()]).await, "a");
        assert_eq!(found(|filter| filter.namespaces = vec!["default".into()]).await, "c b");
        assert_eq!(found(|filter| filter.schedule = Some("billing/nightly".into())).await, "a");
        assert_eq!(found(|filter| filter.worker = Some("pdf-1".into())).await, "c");
        let instance = |filter: &mut TaskFilter| filter.worker = Some("0199aaaa-0000-7000-8000-000000000001".into());
        assert_eq!(found(instance).await, "c b a");
        assert_eq!(found(|filter| filter.labels = [("team".into(), "post \"A\"".into())].into()).await, "a");
        let both = |filter: &mut TaskFilter| {
            filter.labels = [("team".into(), "post \"A\"".into()), ("tier".into(), "2".into())].into();
        };
        assert_eq!(found(both).await, "");
        assert_eq!(found(|filter| filter.error = Some("such HOST (100%".into())).await, "b");
        assert_eq!(found(|filter| filter.error = Some("h_st".into())).await, "", "an underscore is an underscore");
        assert_eq!(
            found(|filter| filter.created_from = Some(START + std::time::Duration::from_millis(20))).await,
            "c b"
        );
        assert_eq!(
            found(|filter| filter.created_before = Some(START + std::time::Duration::from_millis(20))).await,
            "a"
        );
        assert_eq!(found(|filter| filter.changed_from = Some(START + PATIENCE)).await, "b");
        assert_eq!(found(|filter| filter.changed_before = Some(START + PATIENCE)).await, "c a");

        let counts = store.count_by_state(&TaskFilter::default()).await.unwrap();
        assert_eq!(counts, [(TaskState::Running, 2), (TaskState::Done, 1)].into());
    })
    .await;
}
