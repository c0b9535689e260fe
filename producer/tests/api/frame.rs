//! What holds for every request.

use std::time::Duration;

use leveret_producer::centre::{
    api::{ApiSettings, Server, ServerError, ServerSettings, TlsFiles},
    store::Role,
};
use serde_json::json;

use crate::site::{Site, client, json, problem, settings};

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_is_a_problem_that_names_its_request() {
    let site = Site::start().await;
    let missing = problem(site.ask("GET", "/api/v1/nothing").send().await.unwrap(), 404).await;
    assert_eq!(missing["detail"], "there is no path /api/v1/nothing");
    let wrong = site.ask("DELETE", "/api/v1/version").send().await.unwrap();
    assert_eq!(wrong.headers()["allow"], "GET,HEAD");
    problem(wrong, 405).await;
    let id = "0199c2a5-5f0c-7c3e-8f3a-2f9d6f2f1f10";
    let named = site.plain("GET", "/api/v1/version").header("x-request-id", id).send().await.unwrap();
    assert_eq!(problem(named, 401).await["instance"], format!("urn:uuid:{id}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_makes_an_admin_and_no_later_one_does() {
    let site = Site::start().await;
    assert!(site.admin.len() > 40);
    assert_eq!(site.get("/api/v1/version").await["database"], "sqlite");
    let again = ServerSettings { listen: "127.0.0.1:0".to_owned(), ..ServerSettings::default() };
    let second = Server::start(site.api.clone(), again).await.unwrap();
    assert_eq!(second.first_token(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_settings_takes_the_place_of_the_one_before() {
    let site = Site::start().await;
    let start = async |token: &str| {
        let admin_token = Some(token.to_owned());
        let settings = ServerSettings { listen: "127.0.0.1:0".to_owned(), admin_token, ..ServerSettings::default() };
        Server::start(site.api.clone(), settings).await
    };
    let (one, two) = ("1".repeat(32), "2".repeat(32));
    start(&one).await.unwrap();
    start(&one).await.unwrap();
    json(site.ask_as(&one, "GET", "/api/v1/version").send().await.unwrap(), 200).await;
    start(&two).await.unwrap();
    json(site.ask_as(&two, "GET", "/api/v1/version").send().await.unwrap(), 200).await;
    problem(site.ask_as(&one, "GET", "/api/v1/version").send().await.unwrap(), 401).await;
    assert!(matches!(start("short").await.unwrap_err(), ServerError::WeakToken));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_refused_and_soon_held_back() {
    let site = Site::with(ApiSettings { wrong_tokens: 3, ..settings() }, async |api| api).await;
    for header in ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer \u{fc}"] {
        let request = site.plain("GET", "/api/v1/version").header("authorization", header.as_bytes());
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"leveret\"");
        problem(response, 401).await;
    }
    for _ in 0..3 {
        problem(site.ask_as("wrong", "GET", "/api/v1/version").send().await.unwrap(), 401).await;
    }
    let held = site.ask_as("wrong", "GET", "/api/v1/version").send().await.unwrap();
    assert!(held.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() <= 60);
    problem(held, 429).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_it_serves_this_machine_alone() {
    let site = Site::with(ApiSettings { insecure_loopback: true, ..settings() }, async |api| api).await;
    assert_eq!(site.admin, "", "no token is made");
    json(site.plain("GET", "/api/v1/version").send().await.unwrap(), 200).await;
    for (header, value) in [("host", "rebound.example"), ("origin", "https://evil.example"), ("origin", "null")] {
        let request = site.plain("GET", "/api/v1/version").header(header, value);
        problem(request.send().await.unwrap(), 403).await;
    }
    let everywhere = ServerSettings { listen: "0.0.0.0:0".to_owned(), ..ServerSettings::default() };
    let refused = Server::start(site.api.clone(), everywhere).await.unwrap_err();
    assert!(matches!(refused, ServerError::Insecure { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_needs_no_token_and_metrics_need_one_for_everything() {
    let site = Site::start().await;
    for path in ["/live", "/ready", "/api/v1/live", "/api/v1/ready"] {
        let answer = json(site.plain("GET", path).send().await.unwrap(), 200).await;
        assert_eq!(answer, json!({"failing": {}}));
    }
    site.api.health.check("broker", || Err("away".to_owned()));
    let answer = json(site.plain("GET", "/api/v1/ready").send().await.unwrap(), 503).await;
    assert_eq!(answer, json!({"failing": {"broker": "away"}}));
    let counter = prometheus::IntCounter::new("probe_total", "A probe.").unwrap();
    site.api.metrics.register(Box::new(counter)).unwrap();
    let text = site.ask("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(text.contains("probe_total 0"), "{text}");
    let one = site.token(Role::Viewer, "billing").await;
    problem(site.ask_as(&one, "GET", "/metrics").send().await.unwrap(), 403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_and_its_page_are_there() {
    let site = Site::start().await;
    let document = json(site.plain("GET", "/api/v1/openapi.json").send().await.unwrap(), 200).await;
    assert!(document["paths"]["/api/v1/version"]["get"]["responses"]["401"].is_object(), "{document}");
    let page = site.plain("GET", "/docs/").send().await.unwrap();
    assert!(page.status().is_success());
    assert!(page.text().await.unwrap().contains("swagger-ui"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_takes_a_renewed_certificate_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    let renew = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
    };
    let site = Site::start().await;
    let first = renew();
    let listen =
        ServerSettings { listen: "127.0.0.1:0".to_owned(), tls: Some(files.clone()), ..ServerSettings::default() };
    let server = Server::start(site.api.clone(), listen).await.unwrap();
    let url = format!("https://localhost:{}/live", server.address().port());
    let ask = async |trusted: reqwest::Certificate| {
        drop(client());
        let http = reqwest::Client::builder().tls_certs_only([trusted]).build().unwrap();
        http.get(&url).send().await.map(|response| response.status().as_u16())
    };
    assert_eq!(ask(first).await.unwrap(), 200);
    let second = renew();
    leveret_testkit::eventually(Duration::from_secs(15), async || ask(second.clone()).await.is_ok()).await;
    // What cannot be used changes nothing.
    std::fs::write(&files.certificate, "broken").unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(ask(second).await.unwrap(), 200);
    let broken = ServerSettings { listen: "127.0.0.1:0".to_owned(), tls: Some(files), ..ServerSettings::default() };
    assert!(matches!(Server::start(site.api.clone(), broken).await.unwrap_err(), ServerError::Tls(_)));
    server.stop().await;
}
