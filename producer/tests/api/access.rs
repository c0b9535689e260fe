//! Tokens, keys of requests, calendars and kinds over HTTP.

use leveret_producer::centre::store::Role;
use serde_json::{Value, json};

use crate::site::{Site, json, problem};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_used_and_removed() {
    let site = Site::start().await;
    let wanted = json!({"name": "deploy", "role": "publisher", "namespace": "billing"});
    let made = site.send("POST", "/api/v1/tokens", &wanted, 201).await;
    let (secret, id) = (made["secret"].as_str().unwrap(), made["token"]["id"].as_str().unwrap());
    let own = json(site.ask_as(secret, "GET", "/api/v1/token").send().await.unwrap(), 200).await;
    assert_eq!(
        (&own["id"], &own["role"], &own["created_by"]),
        (&json!(id), &json!("publisher"), &json!("first admin"))
    );
    let listed = site.get("/api/v1/tokens").await;
    assert!(!listed.to_string().contains(secret));
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    assert!(site.get(&format!("/api/v1/tokens/{id}")).await["last_used_at"].is_string());
    json(site.ask("DELETE", &format!("/api/v1/tokens/{id}")).send().await.unwrap(), 204).await;
    problem(site.ask_as(secret, "GET", "/api/v1/token").send().await.unwrap(), 401).await;
    let admin = site.get("/api/v1/token").await["id"].as_str().unwrap().to_owned();
    problem(site.ask("DELETE", &format!("/api/v1/tokens/{admin}")).send().await.unwrap(), 409).await;
    let log = site.get("/api/v1/audit?action=token").await;
    assert_eq!(log["items"][0]["action"], "token.remove");
    assert!(!log.to_string().contains(secret), "the log has no secrets");
    for wrong in [json!({"role": "king"}), json!({"namespace": "a b"}), json!({"expires_at": "2020-01-01T00:00:00Z"})] {
        let mut body = wanted.clone();
        body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        problem(site.ask("POST", "/api/v1/tokens").json(&body).send().await.unwrap(), 422).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_key_takes_effect_once() {
    let site = Site::start().await;
    let definition = json!({"every": "1h", "task": "report"});
    site.send("PUT", "/api/v1/schedules/hourly", &definition, 201).await;
    let run = async |key: &str, body: Value| {
        let request = site.ask("POST", "/api/v1/schedules/hourly/run").header("idempotency-key", key);
        request.json(&body).send().await.unwrap()
    };
    let first = json(run("one", json!({"payload": 1})).await, 202).await;
    let second = run("one", json!({"payload": 1})).await;
    assert_eq!(second.headers()["idempotency-replayed"], "true");
    assert_eq!(second.headers()["content-type"], "application/json");
    assert_eq!(json(second, 202).await, first);
    problem(run("one", json!({"payload": 2})).await, 422).await;
    assert_ne!(json(run("two", json!({"payload": 1})).await, 202).await, first);
    assert_eq!(site.get("/api/v1/schedules/hourly/ticks").await["items"].as_array().unwrap().len(), 2);
    // Another token has keys of its own.
    let other = site.token(Role::Operator, "default").await;
    let request = site.ask_as(&other, "POST", "/api/v1/schedules/hourly/run").header("idempotency-key", "one");
    assert_ne!(json(request.json(&json!({"payload": 1})).send().await.unwrap(), 202).await, first);
    // What cannot be carried out is answered the same, too.
    let wrong = problem(run("three", json!({"wrong": 1})).await, 422).await;
    let again = run("three", json!({"wrong": 1})).await;
    assert_eq!(again.status().as_u16(), 422);
    assert_eq!(again.json::<Value>().await.unwrap()["detail"], wrong["detail"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_one_key_at_one_time_take_effect_once() {
    let site = Site::start().await;
    site.send("PUT", "/api/v1/schedules/hourly", &json!({"every": "1h", "task": "report"}), 201).await;
    let ask = || site.ask("POST", "/api/v1/schedules/hourly/run").header("idempotency-key", "same").send();
    let all = futures_util::future::join_all((0..20).map(|_| ask())).await;
    let statuses: Vec<_> = all.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    assert!(statuses.iter().all(|status| [202, 409].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&202), "{statuses:?}");
    assert_eq!(site.get("/api/v1/schedules/hourly/ticks").await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_that_has_gone_asked_for_is_done_and_written_down() {
    let site = Site::start().await;
    site.send("PUT", "/api/v1/schedules/hourly", &json!({"every": "1h", "task": "report"}), 201).await;
    for _ in 0..20 {
        // Not a single answer is waited for.
        let request = site.ask("POST", "/api/v1/schedules/hourly/run").send();
        let gone = tokio::time::timeout(std::time::Duration::from_millis(3), request).await;
        drop(gone);
    }
    let count = async |path: &str| site.get(path).await["items"].as_array().unwrap().len();
    // Every tick that was made has its line. The last ones may still be on their way.
    leveret_testkit::eventually(std::time::Duration::from_secs(30), async || {
        let ticks = count("/api/v1/schedules/hourly/ticks?limit=100").await;
        let lines = count("/api/v1/audit?action=schedule.run&limit=100").await;
        if ticks == lines { Ok(()) } else { Err(format!("{ticks} ticks, {lines} lines")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused() {
    let settings = leveret_producer::centre::api::ApiSettings { body_limit: 1_000, ..crate::site::settings() };
    let site = Site::with(settings, async |api| api).await;
    let long = json!({"every": "1h", "task": "report", "description": "d".repeat(2_000)});
    for request in [
        site.ask("PUT", "/api/v1/schedules/long").json(&long),
        site.ask("POST", "/api/v1/preview").header("idempotency-key", "k").json(&long),
        // Without a length, it is counted while it comes.
        site.ask("PUT", "/api/v1/schedules/long").header("content-type", "application/json").body(stream(&long)),
    ] {
        problem(request.send().await.unwrap(), 413).await;
    }
}

fn stream(json: &Value) -> reqwest::Body {
    let parts: Vec<_> =
        json.to_string().into_bytes().chunks(100).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
    reqwest::Body::wrap_stream(futures_util::stream::iter(parts))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calendar_is_imported_and_schedules_follow_it() {
    let site = Site::start().await;
    let path = "/api/v1/calendars/holidays";
    let days = json!({"days": {"2027-01-01": {"kind": "off", "note": "New Year"}}});
    let made = site.ask("PUT", path).header("if-none-match", "*").json(&days).send().await.unwrap();
    assert_eq!(made.headers()["etag"], "\"1\"");
    assert_eq!(json(made, 201).await["days"], 1);
    let definition = json!({"cron": "0 9 * * *", "task": "t", "calendars": ["holidays"]});
    site.send("PUT", "/api/v1/schedules/daily", &definition, 201).await;
    let times = site.get("/api/v1/schedules/daily/preview?after=2026-12-31T12:00:00Z&count=1").await;
    assert_eq!(times["times"][0]["local"], "2027-01-02T09:00:00+00:00");

    let csv = site.ask("PUT", path).header("content-type", "text/csv").body("2027-01-02,off,Bridge\n2027-01-03,work\n");
    let answer = json(csv.send().await.unwrap(), 200).await;
    assert_eq!((&answer["days"], &answer["revision"]), (&json!(2), &json!(2)));
    let ical = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART;VALUE=DATE:20270501\r\n\
        SUMMARY:Labour Day\r\nRRULE:FREQ=YEARLY\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    let request = site.ask("PUT", &format!("{path}?first_year=2027&last_year=2029"));
    let answer = json(request.header("content-type", "text/calendar").body(ical).send().await.unwrap(), 200).await;
    assert_eq!(answer["days"], 3);
    let found = site.get(path).await;
    assert_eq!(found["days"]["2028-05-01"], json!({"kind": "off", "note": "Labour Day"}));
    assert_eq!(site.get("/api/v1/calendars").await["items"][0]["last"], "2029-05-01");

    problem(site.ask("DELETE", path).send().await.unwrap(), 409).await;
    json(site.ask("DELETE", "/api/v1/schedules/daily").send().await.unwrap(), 204).await;
    problem(site.ask("DELETE", path).header("if-match", "\"1\"").send().await.unwrap(), 412).await;
    json(site.ask("DELETE", path).send().await.unwrap(), 204).await;
    let log = site.get("/api/v1/audit?action=calendar").await;
    let actions: Vec<_> = log["items"].as_array().unwrap().iter().map(|line| line["action"].clone()).collect();
    assert_eq!(actions, ["calendar.remove", "calendar.save", "calendar.save", "calendar.save"]);
    for (media_type, body) in [
        ("text/csv", "2027-13-01,off"),
        ("text/calendar", "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART:soon\r\nEND:VEVENT\r\nEND:VCALENDAR"),
        ("application/json", r#"{"days": {"2027-02-30": {"kind": "off"}}}"#),
    ] {
        let request = site.ask("PUT", path).header("content-type", media_type).body(body);
        problem(request.send().await.unwrap(), 422).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_follow_a_calendar_holds_up_no_other() {
    let site = Site::start().await;
    let days = json!({"days": {"2027-01-01": {"kind": "off"}}});
    for calendar in ["holidays", "gone"] {
        site.send("PUT", &format!("/api/v1/calendars/{calendar}"), &days, 201).await;
    }
    let schedule = |calendars: Value| json!({"cron": "0 9 * * *", "task": "t", "calendars": calendars});
    for (name, calendars) in
        [("a", json!(["holidays"])), ("b", json!(["holidays", "gone"])), ("c", json!(["holidays"]))]
    {
        site.send("PUT", &format!("/api/v1/schedules/{name}?namespace=n"), &schedule(calendars), 201).await;
    }
    // Over REST a calendar that is referred to stays.
    let store = &site.api.store;
    let mut transaction = store.database().begin().await.unwrap();
    assert!(store.remove_calendar(&mut transaction, "gone", 1).await.unwrap());
    transaction.commit().await.unwrap();

    let answer = site.send("PUT", "/api/v1/calendars/holidays", &json!({"days": {}}), 200).await;
    assert_eq!((&answer["schedules"], &answer["not_followed"]), (&json!(2), &json!(["n/b"])));
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.contains("n/b") && warning.contains("gone"), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_is_registered_with_the_schema_of_its_arguments() {
    let site = Site::start().await;
    let path = "/api/v1/task-kinds/mail.send";
    let kind = json!({"queue": "mail", "arguments": {"type": "object", "required": ["to"]}});
    let saved = site.send("PUT", path, &kind, 200).await;
    assert_eq!((&saved["registered"], &saved["workers"], &saved["queue"]), (&json!(true), &json!(0), &json!("mail")));
    assert_eq!(site.get("/api/v1/task-kinds").await["items"].as_array().unwrap().len(), 1);
    // Kept until it is due, so that no broker is needed for this.
    let publish = async |arguments: Value| {
        let body = json!({"task": "mail.send", "arguments": arguments, "delay": "1h"});
        site.ask("POST", "/api/v1/tasks").json(&body).send().await.unwrap()
    };
    let wrong = problem(publish(json!({"from": "me"})).await, 422).await;
    assert_eq!(wrong["errors"][0]["pointer"], "/arguments");
    assert_eq!(json(publish(json!({"to": "you"})).await, 201).await["queue"], "mail");
    for wrong in
        [json!({"type": 7}), json!({"$ref": "http://127.0.0.1:1/schema"}), json!({"$ref": "file:///etc/passwd"})]
    {
        let body = json!({"arguments": wrong});
        problem(site.ask("PUT", path).json(&body).send().await.unwrap(), 422).await;
    }
    json(site.ask("DELETE", path).send().await.unwrap(), 204).await;
    problem(site.ask("GET", path).send().await.unwrap(), 404).await;
}
