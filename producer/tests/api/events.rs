//! Events, as they happen.

use leveret_producer::centre::store::Role;
use reqwest::Response;
use serde_json::{Value, json};

use crate::{
    broker::{PATIENCE, Place},
    site::{Site, json, problem},
};

/// Reads events from a stream until one is as wanted.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn next(&mut self, wanted: impl Fn(&str, &Value) -> bool) -> Value {
        let reading = async {
            loop {
                while let Some((event, rest)) = self.text.split_once("\n\n") {
                    let field = |name: &str| {
                        let found = event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                        found.unwrap_or_default().to_owned()
                    };
                    let (kind, data) = (field("event"), serde_json::from_str(&field("data")).unwrap_or(Value::Null));
                    self.text = rest.to_owned();
                    if wanted(&kind, &data) {
                        return data;
                    }
                }
                let chunk = self.response.chunk().await.unwrap().unwrap();
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap()
    }
}

async fn events(site: &Site, token: &str, query: &str) -> Events {
    let response = site.ask_as(token, "GET", &format!("/api/v1/events{query}")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Events { response, text: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_is_told_once_with_what_was_decided_about_it() {
    // No broker is needed: ticks are looked for in the database.
    let site = Site::start().await;
    for (name, overlap) in [("free", "allow"), ("alone", "skip")] {
        let definition = json!({"every": "1h", "task": "report", "overlap": overlap});
        site.send("PUT", &format!("/api/v1/schedules/{name}"), &definition, 201).await;
    }
    site.send("PUT", "/api/v1/schedules/theirs?namespace=n", &json!({"every": "1h", "task": "report"}), 201).await;
    let mut ticks = events(&site, &site.admin, "?kinds=tick").await;
    let mut of_one = events(&site, &site.admin, "?kinds=tick&schedule=alone").await;
    let run = async |name: &str| site.send("POST", &format!("/api/v1/schedules/{name}/run"), &json!({}), 202).await;
    json(site.ask("POST", "/api/v1/schedules/theirs/run?namespace=n").send().await.unwrap(), 202).await;
    let made = run("free").await;
    let free = ticks.next(|kind, _| kind == "tick").await;
    assert_eq!((&free["schedule"], &free["namespace"]), (&json!("free"), &json!("default")));
    assert_eq!((&free["task_id"], &free["state"], &free["kind"]), (&made["task_id"], &json!("pending"), &json!("now")));
    let made = run("alone").await;
    let alone = ticks.next(|kind, _| kind == "tick").await;
    assert_eq!((&alone["task_id"], &alone["state"]), (&made["task_id"], &json!("buffered")));
    assert_eq!(of_one.next(|kind, _| kind == "tick").await, alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_as_they_happen_and_begin_with_how_things_are() {
    let place = Place::new().await;
    let (_worker, instance) = place.working().await;
    let mut all = events(&place.site, &place.site.admin, "").await;
    let snapshot = all.next(|kind, _| kind == "snapshot").await;
    assert_eq!(snapshot["workers"][0]["instance"], instance);
    let other = place.site.token(Role::Viewer, "billing").await;
    let mut billing = events(&place.site, &other, "?kinds=task,schedule").await;
    assert!(billing.next(|kind, _| kind == "snapshot").await.get("workers").is_none());

    let made = place.publish(json!({"task": "probe", "arguments": {"do": "echo"}})).await;
    let done = all.next(|kind, data| kind == "task" && data["state"] == "done").await;
    assert_eq!(done["id"], made["id"]);
    let definition = json!({"every": "1h", "task": "report"});
    place.site.send("PUT", "/api/v1/schedules/hourly", &definition, 201).await;
    let saved = all.next(|kind, _| kind == "schedule").await;
    assert_eq!((&saved["action"], &saved["name"]), (&json!("schedule.save"), &json!("hourly")));
    place.site.send("PUT", "/api/v1/schedules/daily?namespace=billing", &definition, 201).await;
    // The first that the other namespace hears of is its own.
    let saved = billing.next(|kind, _| kind != "snapshot" && !kind.is_empty()).await;
    assert_eq!(saved["name"], "daily");
    let drain = format!("/api/v1/workers/{instance}/drain");
    json(place.site.ask("POST", &drain).send().await.unwrap(), 200).await;
    let draining = all.next(|kind, data| kind == "worker" && data["worker"]["state"] == "draining").await;
    assert_eq!(draining["what"], "changed");

    problem(place.site.ask_as(&other, "GET", "/api/v1/events?kinds=worker").send().await.unwrap(), 403).await;
    problem(place.site.ask("GET", "/api/v1/events?kinds=weather").send().await.unwrap(), 400).await;
    // A server that stops ends its streams.
    let stop = tokio::spawn(place.site.server.stop());
    tokio::time::timeout(PATIENCE, async { while all.response.chunk().await.is_ok_and(|chunk| chunk.is_some()) {} })
        .await
        .unwrap();
    stop.await.unwrap();
}
