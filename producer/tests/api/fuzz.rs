//! schemathesis asks whatever the OpenAPI document allows, and what it does not.

use std::time::Duration;

use leveret_common::{
    client::Client,
    clock::Clock,
    config::BrokerSettings,
    control::Control,
    link::{ChannelPool, Link, Role},
    registry::Registry,
    topology::{QueueSettings, Topology, declare},
};
use leveret_producer::centre::{
    api::{Api, ApiSettings, Broker as Way},
    operations::{Operations, Queues},
};
use leveret_testkit::{Broker, foreign};
use serde_json::json;

use crate::site::{Site, settings};

/// What is looked at in each answer. Left out is only whether whatever fits the schema is accepted: which expressions run,
/// and which references lead somewhere, a schema cannot say.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
    response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method,ignored_auth,\
    use_after_free";

async fn fuzz(examples: &str, deadline: Duration) {
    let vhost = Broker::shared().await.vhost().await;
    let broker = BrokerSettings::new(vhost.url()).unwrap();
    let client = Client::connect(broker.clone()).await.unwrap();
    let link = Link::open(broker.into(), Role::Admin);
    let topology = Topology::new("leveret").unwrap().queue("default".parse().unwrap(), QueueSettings::default());
    let pool = ChannelPool::new(link.clone());
    declare(&pool, &topology).await.unwrap();
    let registry = Registry::on(link.clone(), Clock::system()).unwrap();
    let queues = Queues::new(pool, topology, Some(registry.clone()), None);
    let way = Way { client, control: Control::on(link.clone()).unwrap(), registry };
    let patience = Duration::from_millis(100);
    let site = Site::with(ApiSettings { patience, ..settings() }, async |api: Api| {
        let operations = Operations::start(api.store.clone(), link, "fuzz");
        api.broker(way).operations(operations).queues(queues)
    });
    let site = site.await;
    // Something to be found.
    let definition = json!({"every": "1h", "task": "report"});
    site.send("PUT", "/api/v1/schedules/hourly", &definition, 201).await;
    site.send("PUT", "/api/v1/calendars/holidays", &json!({"days": {}}), 201).await;
    let url = format!("{}/api/v1/openapi.json", site.server.url());
    let token = format!("Authorization: Bearer {}", site.admin);
    let arguments = [
        "--header",
        &token,
        "--checks",
        CHECKS,
        "--max-examples",
        examples,
        "--seed",
        "1",
        "--generation-deterministic",
        // A stream has no end.
        "--exclude-path",
        "/api/v1/events",
        "--phases",
        "examples,coverage,fuzzing",
        "--workers",
        "1",
        "--request-timeout",
        "20",
        &url,
    ];
    foreign::schemathesis(&arguments, deadline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_answers_are_as_the_document_has_them() {
    fuzz("15", Duration::from_secs(300)).await;
}

/// The same with many more examples, and not with every run of the tests.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes many minutes"]
async fn all_answers_are_as_the_document_has_them_by_the_thousand() {
    fuzz("400", Duration::from_secs(3_600)).await;
}
