//! The message of a tick: its payload with the facts in it, and everything else that the definition says.

use leveret_common::{
    clock::{Clock, UnixMillis},
    message::StoredMessage,
};
use leveret_producer::plan::{Facts, Plan, TickKind};
use serde_json::{Value, json};

use crate::{check, moment, plan, refused};

fn facts(plan: &Plan) -> Facts {
    Facts {
        schedule: plan.name().clone(),
        scheduled_at: moment("2026-11-01T05:30:00Z"),
        kind: TickKind::Tick,
        number: 42,
        last_success: Some(moment("2026-10-31T05:30:02.125Z")),
        payload: None,
    }
}

fn stored(plan: &Plan, facts: &Facts) -> StoredMessage {
    plan.message(facts).unwrap().to_stored(&Clock::held(UnixMillis(1_000))).unwrap()
}

fn payload(plan: &Plan, facts: &Facts) -> Value {
    serde_json::from_slice(&stored(plan, facts).body).unwrap()
}

#[test]
fn facts_stand_in_for_placeholders() {
    let wanted = json!({
        "cron": "30 1 * * *", "timezone": "America/New_York",
        "payload": {
            "at": "{{scheduled_at}}", "ms": "{{scheduled_at_ms}}", "number": "{{ number }}", "last": "{{last_success}}",
            "text": "run {{number}} of {{namespace}}/{{schedule}} ({{kind}})", "id": ["{{id}}", 1, true, null],
            "{{kept}}": "{{{{number}} and }} stay", "plain": "no braces",
        },
    });
    let plan = check("billing/nightly", wanted, &[]).unwrap();
    let facts = facts(&plan);
    let expected = json!({
        "at": "2026-11-01T01:30:00-04:00", "ms": 1_793_511_000_000_i64, "number": 42, "last": "2026-10-31T01:30:02.125-04:00",
        "text": "run 42 of billing/nightly (tick)", "id": [facts.task_id(), 1, true, null],
        "{{kept}}": "{{number}} and }} stay", "plain": "no braces",
    });
    assert_eq!(payload(&plan, &facts), expected);
}

#[test]
fn a_first_run_has_no_last_success() {
    let plan = plan(json!({ "every": "1m", "payload": ["{{last_success}}", "since {{last_success}}."] }));
    let first = Facts { last_success: None, ..facts(&plan) };
    assert_eq!(payload(&plan, &first), json!([null, "since ."]));
}

#[test]
fn other_arguments_have_placeholders_as_well() {
    let plan = plan(json!({ "every": "1m", "payload": 1 }));
    let wanted = json!({ "kind": "{{kind}}", "odd": "{{unheard_of}} and {{open" });
    let now = Facts { payload: Some(wanted), kind: TickKind::Now, ..facts(&plan) };
    // What nobody checked is passed on as it is.
    assert_eq!(payload(&plan, &now), json!({ "kind": "now", "odd": "{{unheard_of}} and {{open" }));
    assert!(Plan::check_payload(&json!(["{{unheard_of}}"])).is_err());
    assert!(Plan::check_payload(&json!(["{{number}}"])).is_ok());
}

#[test]
fn unknown_placeholders_are_refused_when_saved() {
    let refusal = |payload: Value| refused(json!({ "every": "1m", "payload": payload }));
    assert_eq!(
        refusal(json!({ "a": [{ "b": "{{scheduledAt}}" }] })),
        "payload: there is no placeholder {{scheduledAt}}: use one of scheduled_at, scheduled_at_ms, number, last_success, \
         schedule, namespace, id, kind, or write {{{{ for two braces"
    );
    assert_eq!(
        refusal(json!("{{number")),
        "payload: a placeholder has no end: close it with two braces, or write {{{{ for two that mean nothing"
    );
    assert!(refused(json!({ "every": "1m", "key": "{{x}}" })).starts_with("key: there is no placeholder {{x}}"));
}

#[test]
fn the_message_has_all_that_the_definition_says() {
    let plan = plan(json!({
        "cron": "@hourly", "task": "report.hourly", "queue": "reports", "payload": { "a": 1 },
        "max_attempts": 3, "backoff": "2s..1h", "timeout": "5m", "expires": "1h", "priority": 7,
        "key": "customer-{{number}}", "route": "sticky:mail",
    }));
    let stored = stored(&plan, &facts(&plan));
    assert_eq!((stored.task.as_str(), stored.queue.as_str()), ("report.hourly", "reports"));
    assert_eq!(stored.id, facts(&plan).task_id().as_str());
    assert_eq!(stored.properties.priority, Some(7));
    let expected = json!({
        "leveret-schedule": "nightly", "leveret-scheduled-at": 1_793_511_000_000_i64, "leveret-track": "always",
        "leveret-max-attempts": 3, "leveret-backoff": "2s..1h", "leveret-timeout-ms": 300_000,
        "leveret-expires-at": 3_601_000, "leveret-key": "customer-42", "leveret-route": "sticky:mail",
    });
    assert_eq!(Value::Object(stored.headers), expected);
}

#[test]
fn the_id_tells_the_same_tick_from_others() {
    let plan = plan(json!({ "every": "1m" }));
    let tick = facts(&plan);
    let id = |facts: &Facts| stored(&plan, facts).id;
    assert_eq!(id(&tick), id(&Facts { number: 43, ..tick.clone() }));
    assert_ne!(id(&tick), id(&Facts { kind: TickKind::Now, ..tick.clone() }));
    assert_ne!(id(&tick), id(&Facts { scheduled_at: tick.scheduled_at + std::time::Duration::from_millis(1), ..tick }));
}
