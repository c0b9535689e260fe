//! Schedules of a file live beside those of the API, in both databases.

#![expect(clippy::unwrap_used, reason = "a test reports by failing")]

mod centre;

use centre::{both, name};
use leveret_producer::{
    centre::store::{Expected, Source, Store},
    plan::{Definition, ScheduleName},
};
use serde_json::json;

fn every(period: &str) -> Definition {
    serde_json::from_value(json!({ "every": period, "task": "t" })).unwrap()
}

fn names(names: &[ScheduleName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_names_is_made_changed_and_removed() {
    both(async |store: Store, _| {
        store.save_schedule(&name("theirs"), &every("1h"), &[], Source::Api, Expected::Any, None).await.unwrap();
        let two = [(name("a"), every("1m")), (name("b"), every("1m"))];
        let applied = store.apply_declared(&two).await.unwrap();
        assert_eq!((names(&applied.made), applied.kept), (vec!["a".to_owned(), "b".to_owned()], 0));
        let again = store.apply_declared(&two).await.unwrap();
        assert_eq!((again.made.len(), again.changed.len(), again.removed.len(), again.kept), (0, 0, 0, 2));
        assert_eq!(store.schedule(&name("a")).await.unwrap().revision, 1);

        let changed = store.apply_declared(&[(name("a"), every("2m")), (name("c"), every("1m"))]).await.unwrap();
        let lists = (names(&changed.made), names(&changed.changed), names(&changed.removed));
        assert_eq!(lists, (vec!["c".to_owned()], vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!(store.schedule(&name("a")).await.unwrap().source, Source::File);
        store.apply_declared(&[]).await.unwrap();
        assert!(store.schedule(&name("a")).await.is_err());
        assert_eq!(store.schedule(&name("theirs")).await.unwrap().definition, every("1h"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_wrong_holds_up_none_and_the_apis_stay_theirs() {
    both(async |store: Store, _| {
        store.save_schedule(&name("theirs"), &every("1h"), &[], Source::Api, Expected::Any, None).await.unwrap();
        let mut lacking = every("1m");
        (lacking.every, lacking.cron, lacking.calendars) = (None, Some("@daily".to_owned()), vec!["cn".to_owned()]);
        let file = [(name("lacking"), lacking), (name("theirs"), every("1m")), (name("right"), every("1m"))];
        let applied = store.apply_declared(&file).await.unwrap();
        assert_eq!(names(&applied.made), ["right"]);
        let refused: Vec<_> = applied.refused.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        assert!(refused[0].starts_with("lacking: calendars: ") && refused[0].contains("cn"), "{refused:?}");
        assert!(refused[1].starts_with("theirs: one of this name was made over REST"), "{refused:?}");
        assert_eq!(store.schedule(&name("theirs")).await.unwrap().definition, every("1h"));
    })
    .await;
}
