//! Tokens, the audit log, kept answers, calendars and kinds, in both databases.

#![expect(clippy::unwrap_used, reason = "a test reports by failing")]

mod centre;

use std::{collections::BTreeMap, time::Duration};

use centre::{NOON, both};
use leveret_common::clock::Clock;
use leveret_producer::{
    centre::store::{AuditEntry, AuditSearch, Begun, KEPT, KeptAnswer, Role, Store, StoredKind, Token},
    plan::{Calendar, CalendarDay, DayKind},
};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

fn token(id: &str, role: Role) -> Token {
    Token {
        id: id.to_owned(),
        name: format!("the {id}"),
        role,
        namespace: "billing".to_owned(),
        created_by: "ann".to_owned(),
        created_at: NOON,
        expires_at: None,
        last_used_at: None,
    }
}

#[test]
fn a_role_includes_those_below_it() {
    use Role::{Admin, Operator, Publisher, Viewer};
    let may = |role: Role| [Viewer, Publisher, Operator, Admin].map(|needed| role.allows(needed));
    assert_eq!(may(Viewer), [true, false, false, false]);
    assert_eq!(may(Publisher), [true, true, false, false]);
    assert_eq!(may(Operator), [true, false, true, false]);
    assert_eq!(may(Admin), [true; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_found_by_its_secret_until_it_ends() {
    both(async |store: Store, clock: Clock| {
        let mut short = token("2", Role::Operator);
        short.expires_at = Some(NOON + MINUTE);
        let mut transaction = store.database().begin().await.unwrap();
        assert!(store.add_token(&mut transaction, &token("1", Role::Viewer), "secret one").await.unwrap());
        assert!(store.add_token(&mut transaction, &short, "secret two").await.unwrap());
        assert!(!store.add_token(&mut transaction, &token("3", Role::Admin), "secret one").await.unwrap());
        transaction.commit().await.unwrap();
        assert_eq!(store.token_by_secret("secret one").await.unwrap().unwrap(), token("1", Role::Viewer));
        assert_eq!(store.token_by_secret("secret two").await.unwrap().unwrap(), short);
        assert_eq!(store.token_by_secret("secret").await.unwrap(), None);
        assert_eq!(store.tokens_after("1", 10).await.unwrap(), [short.clone()]);

        // Used again and again, it is written down once a minute.
        store.token_used(&short).await.unwrap();
        clock.advance(MINUTE / 2);
        store.token_used(&short).await.unwrap();
        assert_eq!(store.token("2").await.unwrap().unwrap().last_used_at, Some(NOON));
        clock.advance(MINUTE / 2);
        store.token_used(&short).await.unwrap();
        assert_eq!(store.token("2").await.unwrap().unwrap().last_used_at, Some(NOON));
        clock.advance(Duration::from_millis(1));
        store.token_used(&short).await.unwrap();
        assert_ne!(store.token("2").await.unwrap().unwrap().last_used_at, Some(NOON));
        assert_eq!(store.token_by_secret("secret two").await.unwrap(), None, "it has ended");

        let mut transaction = store.database().begin().await.unwrap();
        assert!(store.remove_token(&mut transaction, "1").await.unwrap());
        assert!(!store.remove_token(&mut transaction, "1").await.unwrap());
        transaction.commit().await.unwrap();
        assert_eq!(store.token_by_secret("secret one").await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_centres_that_start_at_once_one_makes_the_first_token() {
    both(async |store: Store, _| {
        let make = async |n: u32| store.add_first_token(&format!("secret {n}")).await.unwrap();
        let made = futures_util::future::join_all((0..8).map(make)).await;
        assert!(made.iter().any(|made| *made));
        assert!(!make(9).await, "there is one now");
        let first = store.tokens_after("", 10).await.unwrap();
        assert_eq!(made.iter().filter(|made| **made).count(), first.len());
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].role, first[0].namespace.as_str()), (Role::Admin, "*"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_searched_and_forgotten_in_time() {
    both(async |store: Store, clock: Clock| {
        for (n, action, object) in [(1, "schedule.save", "a"), (2, "schedule.pause", "a"), (3, "token.create", "b")] {
            let entry = AuditEntry {
                id: format!("{n}"),
                at: clock.now(),
                token_id: "t".to_owned(),
                token_name: "ann".to_owned(),
                request_id: "r".to_owned(),
                namespace: (n == 1).then(|| "billing".to_owned()),
                action: action.to_owned(),
                object: object.to_owned(),
                before: None,
                after: Some(json!({"n": n})),
            };
            store.audit(&entry).await.unwrap();
            clock.advance(MINUTE);
        }
        let find = async |search: AuditSearch, limit: u32| {
            let found = store.audit_log(&search, limit).await.unwrap();
            found.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>()
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(find(AuditSearch::default(), 2).await, ["3", "2"]);
        assert_eq!(find(AuditSearch { before: text("2"), ..AuditSearch::default() }, 9).await, ["1"]);
        assert_eq!(find(AuditSearch { action: text("schedule"), ..AuditSearch::default() }, 9).await, ["2", "1"]);
        assert_eq!(find(AuditSearch { action: text("sched"), ..AuditSearch::default() }, 9).await, [""; 0]);
        assert_eq!(find(AuditSearch { action: text("schedule.save"), ..AuditSearch::default() }, 9).await, ["1"]);
        assert_eq!(find(AuditSearch { object: text("b"), ..AuditSearch::default() }, 9).await, ["3"]);
        assert_eq!(find(AuditSearch { namespace: text("billing"), ..AuditSearch::default() }, 9).await, ["1"]);
        let between =
            AuditSearch { since: Some(NOON + MINUTE), until: Some(NOON + 2 * MINUTE), ..AuditSearch::default() };
        assert_eq!(find(between, 9).await, ["2"]);
        let all = AuditSearch {
            token: text("ann"),
            action: text("schedule"),
            object: text("a"),
            namespace: text("billing"),
            ..AuditSearch::default()
        };
        assert_eq!(store.audit_log(&all, 9).await.unwrap()[0].after, Some(json!({"n": 1})));
        // Three minutes have gone by.
        assert_eq!(store.retain_audit(clock.now() - 2 * MINUTE, u32::MAX, 500).await.unwrap(), 1);
        assert_eq!(find(AuditSearch::default(), 9).await, ["3", "2"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_for_a_day() {
    both(async |store: Store, clock: Clock| {
        let begin = async |key: &str, print: &str| store.begin_request("t", key, print).await.unwrap();
        assert_eq!(begin("k", "one").await, Begun::New);
        assert_eq!(begin("k", "one").await, Begun::UnderWay);
        assert_eq!(begin("k", "two").await, Begun::Other);
        assert_eq!(store.begin_request("other", "k", "two").await.unwrap(), Begun::New);
        let headers = BTreeMap::from([("etag".to_owned(), "\"1\"".to_owned())]);
        let answer = KeptAnswer { status: 201, headers, body: vec![0, 159, 255] };
        store.end_request("t", "k", &answer).await.unwrap();
        assert_eq!(begin("k", "one").await, Begun::Answered(answer));
        // What was answered is not given up any more.
        store.give_up_request("t", "k").await.unwrap();
        assert_eq!(begin("k", "two").await, Begun::Other);
        store.give_up_request("other", "k").await.unwrap();
        assert_eq!(store.begin_request("other", "k", "three").await.unwrap(), Begun::New);
        // Whoever worked on it was killed.
        clock.advance(3 * MINUTE);
        assert_eq!(store.begin_request("other", "k", "four").await.unwrap(), Begun::New);
        clock.advance(KEPT);
        assert_eq!(begin("k", "two").await, Begun::New);
        clock.advance(KEPT + MINUTE);
        assert_eq!(store.forget_answers().await.unwrap(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_requests_with_one_key_one_is_carried_out() {
    both(async |store: Store, _| {
        let begin = || store.begin_request("t", "k", "same");
        let begun = futures_util::future::join_all((0..16).map(|_| begin())).await;
        let new = begun.iter().filter(|begun| *begun.as_ref().unwrap() == Begun::New).count();
        assert_eq!(new, 1, "{begun:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calendar_is_changed_only_at_its_revision() {
    both(async |store: Store, clock: Clock| {
        let days = BTreeMap::from([("2027-01-01".to_owned(), CalendarDay { kind: DayKind::Off, note: None })]);
        let calendar = |name: &str| Calendar { name: name.to_owned(), days: days.clone() };
        let save = async |name: &str, expected: Option<i64>| {
            let mut transaction = store.database().begin().await.unwrap();
            let saved = store.save_calendar(&mut transaction, &calendar(name), expected).await.unwrap();
            transaction.commit().await.unwrap();
            saved
        };
        assert_eq!(save("a", None).await, Some(1));
        assert_eq!(save("a", None).await, None);
        assert_eq!(save("a", Some(2)).await, None);
        clock.advance(MINUTE);
        assert_eq!(save("a", Some(1)).await, Some(2));
        assert_eq!(save("b", Some(1)).await, None);
        assert_eq!(save("b", None).await, Some(1));
        let stored = store.calendar("a").await.unwrap().unwrap();
        assert_eq!((&stored.calendar, stored.revision), (&calendar("a"), 2));
        assert_eq!((stored.created_at, stored.changed_at), (NOON, NOON + MINUTE));
        let names = |found: Vec<leveret_producer::centre::store::StoredCalendar>| {
            found.into_iter().map(|stored| stored.calendar.name).collect::<Vec<_>>()
        };
        assert_eq!(names(store.calendars().await.unwrap()), ["a", "b"]);
        assert_eq!(names(store.calendars_after("a", 5).await.unwrap()), ["b"]);
        let named = ["b".to_owned(), "none".to_owned()];
        assert_eq!(names(store.calendars_named(&named).await.unwrap()), ["b"]);
        let mut transaction = store.database().begin().await.unwrap();
        assert!(!store.remove_calendar(&mut transaction, "a", 1).await.unwrap());
        assert!(store.remove_calendar(&mut transaction, "a", 2).await.unwrap());
        transaction.commit().await.unwrap();
        assert_eq!(store.calendar("a").await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_is_registered_and_changed() {
    both(async |store: Store, clock: Clock| {
        let mut kind = StoredKind {
            name: "mail.send".to_owned(),
            revision: 1,
            queue: Some("mail".to_owned()),
            description: None,
            arguments: Some(json!({"type": "object"})),
            created_at: NOON,
            changed_at: NOON,
        };
        let save = async |kind: &StoredKind| {
            let mut transaction = store.database().begin().await.unwrap();
            store.save_kind(&mut transaction, kind).await.unwrap();
            transaction.commit().await.unwrap();
        };
        save(&kind).await;
        assert_eq!(store.kinds().await.unwrap(), [kind.clone()]);
        clock.advance(MINUTE);
        kind = StoredKind { revision: 2, arguments: None, changed_at: NOON + MINUTE, ..kind };
        save(&kind).await;
        assert_eq!(store.kind("mail.send").await.unwrap(), Some(kind));
        let mut transaction = store.database().begin().await.unwrap();
        assert!(store.remove_kind(&mut transaction, "mail.send").await.unwrap());
        assert!(!store.remove_kind(&mut transaction, "mail.send").await.unwrap());
    })
    .await;
}
