//! Schedules over HTTP: made, changed, steered, looked at.

use leveret_producer::centre::store::Role;
use serde_json::{Value, json};

use crate::site::{Site, json, problem};

fn nightly() -> Value {
    json!({"cron": "30 2 * * *", "timezone": "Europe/Berlin", "task": "report.nightly", "queue": "reports"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_made_changed_and_removed() {
    let site = Site::start().await;
    let path = "/api/v1/schedules/nightly";
    let made = site.ask("PUT", path).json(&nightly()).send().await.unwrap();
    assert_eq!(made.headers()["etag"], "\"1\"");
    let made = json(made, 201).await;
    assert_eq!((&made["is_new"], &made["revision"], &made["dry_run"]), (&json!(true), &json!(1), &json!(false)));
    assert_eq!(made["times"].as_array().unwrap().len(), 5);
    assert!(made["times"][0]["local"].as_str().unwrap().contains("T02:30:00+0"), "{made}");

    let found = site.get(path).await;
    assert_eq!(
        (&found["name"], &found["namespace"], &found["source"]),
        (&json!("nightly"), &json!("default"), &json!("api"))
    );
    assert_eq!(found["definition"]["cron"], "30 2 * * *");
    assert_eq!(found["next"]["scheduled_at"], made["times"][0]["at"]);

    // The same again changes nothing.
    let again = site.send("PUT", path, &nightly(), 200).await;
    assert_eq!((&again["has_changed"], &again["revision"]), (&json!(false), &json!(1)));
    let mut other = nightly();
    other["overlap"] = "skip".into();
    let changed = site.send("PUT", path, &other, 200).await;
    assert_eq!((&changed["has_changed"], &changed["revision"]), (&json!(true), &json!(2)));

    json(site.ask("DELETE", path).send().await.unwrap(), 204).await;
    problem(site.ask("GET", path).send().await.unwrap(), 404).await;
    let actions: Vec<_> = site.get("/api/v1/audit?action=schedule").await["items"].as_array().unwrap().clone();
    let actions: Vec<_> = actions.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["schedule.remove", "schedule.save", "schedule.save"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_made_only_to_the_revision_it_is_based_on() {
    let site = Site::start().await;
    let path = "/api/v1/schedules/nightly";
    let put = async |header: &str, value: &str| {
        let mut body = nightly();
        body["description"] = format!("{header} {value}").into();
        site.ask("PUT", path).header(header, value).json(&body).send().await.unwrap()
    };
    problem(put("if-match", "*").await, 412).await;
    json(put("if-none-match", "*").await, 201).await;
    problem(put("if-none-match", "*").await, 412).await;
    json(put("if-match", "\"1\"").await, 200).await;
    problem(put("if-match", "\"1\"").await, 412).await;
    let known = site.ask("GET", path).header("if-none-match", "\"2\"").send().await.unwrap();
    assert_eq!((known.status().as_u16(), &known.headers()["etag"]), (304, &"\"2\"".parse().unwrap()));
    problem(site.ask("DELETE", path).header("if-match", "\"1\"").send().await.unwrap(), 412).await;
    json(site.ask("DELETE", path).header("if-match", "\"2\"").send().await.unwrap(), 204).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_with_the_part_that_is_wrong() {
    let site = Site::start().await;
    for (change, pointer) in [
        (json!({"cron": "61 2 * * *"}), "/cron"),
        (json!({"timezone": "Mars/Olympus"}), "/timezone"),
        (json!({"every": "soon"}), "/every"),
        (json!({"calendars": ["none-such"]}), "/calendars"),
        (json!({"retries": 3}), "/retries"),
    ] {
        let mut body = nightly();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let response = site.ask("PUT", "/api/v1/schedules/wrong").json(&body).send().await.unwrap();
        let problem = problem(response, 422).await;
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    problem(site.ask("GET", "/api/v1/schedules/wrong").send().await.unwrap(), 404).await;
    problem(site.ask("PUT", "/api/v1/schedules/two%20words").json(&nightly()).send().await.unwrap(), 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_saves_nothing_and_shows_what_would_come() {
    let site = Site::start().await;
    let path = "/api/v1/schedules/nightly?dry_run=true";
    let answer = site.send("PUT", path, &nightly(), 200).await;
    assert_eq!((&answer["dry_run"], &answer["is_new"]), (&json!(true), &json!(true)));
    problem(site.ask("GET", "/api/v1/schedules/nightly").send().await.unwrap(), 404).await;
    let draft = json!({"definition": nightly(), "after": "2027-03-27T12:00:00Z", "count": 2});
    let times = site.send("POST", "/api/v1/preview", &draft, 200).await["times"].clone();
    // On that night the clock leaps over half past two.
    assert_eq!(times[0]["local"], "2027-03-28T03:00:00+02:00");
    assert_eq!(times[0]["clock"], "put-forward");
    assert_eq!(times[1]["local"], "2027-03-29T02:30:00+02:00");
    site.send("PUT", "/api/v1/schedules/nightly", &nightly(), 201).await;
    let stored = site.get("/api/v1/schedules/nightly/preview?after=2027-03-27T12:00:00Z&count=2").await;
    assert_eq!(stored["times"], times);
    problem(site.ask("GET", "/api/v1/schedules/nightly/preview?count=0").send().await.unwrap(), 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_paused_resumed_run_and_backfilled() {
    let site = Site::start().await;
    site.send("PUT", "/api/v1/schedules/nightly", &nightly(), 201).await;
    let steer = async |verb: &str, body: Value, status: u16| {
        site.send("POST", &format!("/api/v1/schedules/nightly/{verb}"), &body, status).await
    };
    let paused = steer("pause", json!({"reason": "moving"}), 200).await;
    assert_eq!((&paused["paused"], paused.get("next")), (&json!("moving"), None));
    assert_eq!(site.get("/api/v1/schedules?paused=true").await["items"].as_array().unwrap().len(), 1);
    let resumed = json(site.ask("POST", "/api/v1/schedules/nightly/resume").send().await.unwrap(), 200).await;
    assert!(resumed.get("paused").is_none() && resumed["next"].is_object(), "{resumed}");
    let ran = steer("run", json!({"payload": {"day": "today"}}), 202).await;
    let range = json!({"from": "2026-01-01T00:00:00Z", "until": "2026-01-04T00:00:00Z"});
    assert_eq!(steer("backfill", range.clone(), 202).await["ticks"], 3);
    assert_eq!(steer("backfill", range, 202).await["ticks"], 0, "the same ticks are there already");
    let ticks = site.get("/api/v1/schedules/nightly/ticks?limit=3").await;
    let kinds: Vec<_> = ticks["items"].as_array().unwrap().iter().map(|tick| tick["kind"].clone()).collect();
    assert_eq!(kinds, ["now", "backfill", "backfill"]);
    assert_eq!(ticks["items"][0]["task_id"], ran["task_id"]);
    let next = format!("/api/v1/schedules/nightly/ticks?cursor={}", ticks["next"].as_str().unwrap());
    assert_eq!(site.get(&next).await["items"].as_array().unwrap().len(), 1);
    let backwards = json!({"from": "2026-01-04T00:00:00Z", "until": "2026-01-01T00:00:00Z"});
    steer("backfill", backwards, 422).await;
    problem(site.ask("GET", "/api/v1/schedules/other/ticks").send().await.unwrap(), 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_arguments_that_could_not_be_published_is_refused() {
    let site = Site::start().await;
    site.send("PUT", "/api/v1/schedules/nightly", &nightly(), 201).await;
    let run = async |payload: Value| {
        let request = site.ask("POST", "/api/v1/schedules/nightly/run");
        request.json(&json!({"payload": payload})).send().await.unwrap()
    };
    let pointer = async |payload: Value| problem(run(payload).await, 422).await["errors"][0]["pointer"].clone();
    assert_eq!(pointer(json!({"day": "{{unheard_of}}"})).await, "/payload");
    assert_eq!(pointer(json!({"day": "{{scheduled_at"})).await, "/payload");
    // The kind's schema is for what is published, with the placeholders filled in.
    let schema = json!({"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]});
    site.send("PUT", "/api/v1/task-kinds/report.nightly", &json!({"arguments": schema}), 200).await;
    assert_eq!(pointer(json!({"at": "{{scheduled_at}}"})).await, "/payload/at");
    assert_eq!(pointer(json!(7)).await, "/payload");
    assert_eq!(site.get("/api/v1/schedules/nightly/ticks").await["items"], json!([]));
    assert_eq!(site.get("/api/v1/audit?action=schedule.run").await["items"], json!([]));
    json(run(json!({"at": "{{scheduled_at_ms}}"})).await, 202).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_listed_by_pages_and_found() {
    let site = Site::start().await;
    for name in ["a", "b", "c"] {
        let mut body = nightly();
        body["labels"] = json!({"team": name});
        site.send("PUT", &format!("/api/v1/schedules/{name}"), &body, 201).await;
    }
    let names = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = site.get("/api/v1/schedules?limit=2").await;
    assert_eq!(names(&first), ["a", "b"]);
    let second = site.get(&format!("/api/v1/schedules?limit=2&cursor={}", first["next"].as_str().unwrap())).await;
    assert_eq!((names(&second), second.get("next")), (vec!["c".to_owned()], None));
    assert_eq!(names(&site.get("/api/v1/schedules?label=team=b").await), ["b"]);
    assert_eq!(names(&site.get("/api/v1/schedules?label=team").await).len(), 3);
    assert_eq!(names(&site.get("/api/v1/schedules?text=REPORT.night&source=file").await).len(), 0);
    problem(site.ask("GET", "/api/v1/schedules?cursor=nonsense").send().await.unwrap(), 400).await;
    problem(site.ask("GET", "/api/v1/schedules?limit=1001").send().await.unwrap(), 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_sees_and_touches_its_own_namespace_alone() {
    let site = Site::start().await;
    let billing = site.token(Role::Operator, "billing").await;
    let ask = |method: &str, path: &str| site.ask_as(&billing, method, path);
    json(ask("PUT", "/api/v1/schedules/nightly").json(&nightly()).send().await.unwrap(), 201).await;
    let mine = json(ask("GET", "/api/v1/schedules").send().await.unwrap(), 200).await;
    assert_eq!(mine["items"][0]["namespace"], "billing");
    problem(site.ask("GET", "/api/v1/schedules/nightly").send().await.unwrap(), 404).await;
    json(site.ask("GET", "/api/v1/schedules/nightly?namespace=billing").send().await.unwrap(), 200).await;
    site.send("PUT", "/api/v1/schedules/other", &nightly(), 201).await;
    problem(ask("GET", "/api/v1/schedules/other").send().await.unwrap(), 404).await;
    for query in ["?namespace=default", "?namespace=*"] {
        problem(ask("GET", &format!("/api/v1/schedules{query}")).send().await.unwrap(), 403).await;
    }
    assert_eq!(site.get("/api/v1/schedules?namespace=*").await["items"].as_array().unwrap().len(), 2);
}
