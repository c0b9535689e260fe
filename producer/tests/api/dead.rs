//! Queues and dead letters over REST, on a real broker.

use std::{sync::Arc, time::Duration};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use leveret_common::{
    config::BrokerSettings,
    link::{ChannelPool, Link, Role},
    topology::{QueueName, QueueSettings, Topology, declare},
};
use leveret_producer::centre::operations::{Operations, Queues};
use leveret_testkit::{Broker, Vhost, eventually};
use serde_json::{Value, json};

use crate::site::{Site, problem, settings};

const PATIENCE: Duration = Duration::from_secs(30);

/// A centre on a vhost with a queue `mail`, and so many dead letters in it.
async fn with_dead(letters: usize) -> (Site, Vhost) {
    let vhost = Broker::shared().await.vhost().await;
    let mut broker = BrokerSettings::default();
    broker.url = vec![vhost.url().parse().unwrap()];
    let link = Link::open(Arc::new(broker), Role::Admin);
    let topology = Topology::new("leveret").unwrap().queue(QueueName::new("mail").unwrap(), QueueSettings::default());
    declare(&ChannelPool::new(link.clone()), &topology).await.unwrap();
    for number in 0..letters {
        let mut headers = FieldTable::default();
        headers.insert("leveret-dead-reason".into(), AMQPValue::LongString("exhausted".into()));
        headers.insert("leveret-error".into(), AMQPValue::LongString("no luck".into()));
        let named = BasicProperties::default().with_type("mail.send".into()).with_headers(headers);
        let named = named.with_message_id(format!("id-{number}").try_into().unwrap());
        vhost.publish("leveret.dead", "mail", named, r#"{"to":"hare"}"#).await;
    }
    let site = Site::with(settings(), async |api| {
        let operations = Operations::start(api.store.clone(), link.clone(), "here");
        let queues = Queues::new(ChannelPool::new(link.clone()), topology, None, None);
        api.operations(operations).queues(queues)
    });
    (site.await, vhost)
}

async fn ended(site: &Site, operation: &Value) -> Value {
    let path = format!("/api/v1/operations/{}", operation["id"].as_str().unwrap());
    eventually(PATIENCE, async || Some(site.get(&path).await).filter(|found| found["state"] != "running")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_looked_at_and_put_right() {
    let (site, vhost) = with_dead(3).await;
    let listed = site.get("/api/v1/queues/mail/dead?limit=2&error=LUCK").await;
    assert_eq!((&listed["depth"], listed["items"].as_array().unwrap().len()), (&json!(3), 2));
    let groups = site.get("/api/v1/queues/mail/dead/groups").await;
    assert_eq!((&groups["items"][0]["count"], &groups["items"][0]["error"]), (&json!(3), &json!("no luck")));
    let letter = site.get("/api/v1/queues/mail/dead/id-1").await;
    assert_eq!((&letter["body"], &letter["task"]), (&json!({ "to": "hare" }), &json!("mail.send")));

    let change = json!({ "body": { "to": "ann" } });
    site.send("PATCH", "/api/v1/queues/mail/dead/id-1", &change, 204).await;
    eventually(PATIENCE, async || vhost.ready("mail").await == 1).await;
    assert_eq!(vhost.take("mail").await.unwrap().json(), json!({ "to": "ann" }));
    let audit = site.get("/api/v1/audit?action=dead.amend").await;
    assert_eq!(audit["items"][0]["object"], "mail/id-1");
    assert!(!audit.to_string().contains("ann"), "{audit}");

    for (path, status) in [
        ("/api/v1/queues/mail/dead/id-1", 404),
        ("/api/v1/queues/nowhere/dead", 404),
        ("/api/v1/queues/a.b/dead", 404),
        ("/api/v1/queues/mail/dead?limit=0", 400),
        ("/api/v1/queues/mail/dead?limit=1001", 400),
    ] {
        problem(site.ask("GET", path).send().await.unwrap(), status).await;
    }
    let wrong = site.ask("PATCH", "/api/v1/queues/mail/dead/id-2").json(&json!({ "headers": { "a": [] } }));
    assert_eq!(problem(wrong.send().await.unwrap(), 422).await["errors"][0]["pointer"], "/headers");
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_and_purges_are_operations_that_are_followed() {
    let (site, vhost) = with_dead(30).await;
    let replay = "/api/v1/queues/mail/dead/replay";
    let slowly = json!({ "all": true, "rate": "10/s" });
    let begun = site.send("POST", replay, &slowly, 202).await;
    assert_eq!(
        (&begun["state"], &begun["queue"], &begun["request"]["rate"]),
        (&json!("running"), &json!("mail"), &json!("10/s"))
    );
    problem(site.ask("POST", replay).json(&slowly).send().await.unwrap(), 409).await;
    let cancel = format!("/api/v1/operations/{}/cancel", begun["id"].as_str().unwrap());
    site.send("POST", &cancel, &Value::Null, 202).await;
    assert_eq!(ended(&site, &begun).await["state"], "cancelled");
    problem(site.ask("POST", &cancel).send().await.unwrap(), 409).await;

    let one = site.send("POST", replay, &json!({ "only": { "ids": ["id-29"] } }), 202).await;
    assert_eq!(ended(&site, &one).await["done"], 1);
    let purge = site.send("POST", "/api/v1/queues/mail/dead/purge", &json!({ "all": true }), 202).await;
    assert_eq!(ended(&site, &purge).await["state"], "done");
    assert_eq!(vhost.ready("mail.dead").await, 0);

    let page = site.get("/api/v1/operations?limit=2&queue=mail").await;
    assert_eq!((&page["items"][0]["kind"], &page["items"][1]["id"]), (&json!("purge"), &one["id"]));
    let next = page["next"].as_str().unwrap();
    let last = site.get(&format!("/api/v1/operations?queue=mail&cursor={next}")).await;
    assert_eq!((&last["items"][0]["id"], last.get("next")), (&begun["id"], None));
    assert_eq!(site.get("/api/v1/operations?state=failed").await["items"], json!([]));
    let audit = site.get("/api/v1/audit?action=dead").await;
    assert_eq!(audit["items"].as_array().unwrap().len(), 3, "{audit}");

    let purge = "/api/v1/queues/mail/dead/purge";
    for wrong in [json!({}), json!({ "all": true, "limit": 0 }), json!({ "all": true, "rate": "1/s" })] {
        problem(site.ask("POST", purge).json(&wrong).send().await.unwrap(), 422).await;
    }
    problem(site.ask("GET", "/api/v1/operations/nothing").send().await.unwrap(), 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_listed_with_their_counts() {
    let (site, _vhost) = with_dead(2).await;
    let listed = site.get("/api/v1/queues").await;
    let mail = &listed["items"][0];
    assert_eq!((&mail["queue"], &mail["ready"], &mail["dead"]), (&json!("mail"), &json!(0), &json!(2)));
    assert_eq!((&listed["lost"], &mail["rates"]["published"]), (&json!(0), &Value::Null));
    assert_eq!(site.get("/api/v1/queues/mail").await["dead"], 2);
    problem(site.ask("GET", "/api/v1/queues/nowhere").send().await.unwrap(), 404).await;
    let without = Site::start().await;
    problem(without.ask("GET", "/api/v1/queues").send().await.unwrap(), 503).await;
}
