//! What holds for every operation of the OpenAPI document: walked, so that none is forgotten.

use std::collections::BTreeSet;

use leveret_producer::centre::{api::openapi, store::Role};
use reqwest::{RequestBuilder, header};
use serde_json::Value;

use crate::site::{Site, problem};

struct Operation {
    method: String,
    path: String,
    about: Value,
}

impl Operation {
    fn all() -> Vec<Self> {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut all = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, about) in item.as_object().unwrap() {
                all.push(Self { method: method.to_uppercase(), path: path.clone(), about: about.clone() });
            }
        }
        assert!(all.len() > 40, "{}", all.len());
        all
    }

    /// Those that anybody may ask.
    fn is_open(&self) -> bool {
        self.about.get("security").is_some()
    }

    fn role(&self) -> Role {
        let role = self.about["x-role"].as_str().unwrap_or_else(|| panic!("{} says no x-role", self.name()));
        role.parse().unwrap()
    }

    fn is_everywhere(&self) -> bool {
        self.about["x-everywhere"] == true
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Something for each part of the path.
    fn filled(&self) -> String {
        let parts = self.path.split('/').map(|part| if part.starts_with('{') { "probe" } else { part });
        parts.collect::<Vec<_>>().join("/")
    }

    fn has_json_body(&self) -> bool {
        self.about["requestBody"]["content"]["application/json"].is_object()
    }

    fn request(&self, site: &Site, token: &str) -> RequestBuilder {
        self.request_with(site, token, "")
    }

    fn request_with(&self, site: &Site, token: &str, query: &str) -> RequestBuilder {
        site.ask_as(token, &self.method, &format!("{}{query}", self.filled()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_answered_but_health() {
    let site = Site::start().await;
    for operation in Operation::all().iter().filter(|operation| !operation.is_open()) {
        let without = site.plain(&operation.method, &operation.filled()).body("{").send().await.unwrap();
        assert_eq!(without.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"leveret\"", "{}", operation.name());
        problem(without, 401).await;
        problem(operation.request(&site, "leveret_wrong").send().await.unwrap(), 401).await;
    }
    let open: BTreeSet<_> =
        Operation::all().iter().filter(|operation| operation.is_open()).map(Operation::name).collect();
    assert_eq!(open, BTreeSet::from(["GET /api/v1/live".to_owned(), "GET /api/v1/ready".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_it_is_for_and_no_more() {
    let site = Site::start().await;
    let roles = [Role::Viewer, Role::Publisher, Role::Operator];
    let mut tokens = Vec::new();
    for role in roles {
        tokens.push((role, site.token(role, "*").await));
    }
    for operation in Operation::all().iter().filter(|operation| !operation.is_open()) {
        for (role, token) in &tokens {
            // The body is wrong, so that nothing is done; who may not ask is not told that.
            let response = operation.request(&site, token).body("{").send().await.unwrap();
            let status = response.status().as_u16();
            let refused = status == 403;
            assert_eq!(refused, !role.allows(operation.role()), "{role}: {} {status}", operation.name());
            if refused {
                problem(response, 403).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_no_namespace_takes_a_token_for_all() {
    let site = Site::start().await;
    let token = site.token(Role::Admin, "billing").await;
    for operation in Operation::all().iter().filter(|operation| !operation.is_open()) {
        let response = operation.request(&site, &token).body("{").send().await.unwrap();
        let refused = response.status().as_u16() == 403;
        assert_eq!(refused, operation.is_everywhere(), "{}: {}", operation.name(), response.status());
        // And each that takes a namespace takes no other one.
        let parameters = operation.about["parameters"].as_array().cloned().unwrap_or_default();
        if parameters.iter().any(|parameter| parameter["name"] == "namespace" && parameter["in"] == "query") {
            let request = operation.request_with(&site, &token, "?namespace=other");
            let body = if operation.has_json_body() { request.json(&sample(operation)) } else { request };
            let status = body.send().await.unwrap().status().as_u16();
            // Of audit entries, which take a token for all, the namespace is a filter.
            assert_eq!(status, 403, "{}", operation.name());
        }
    }
}

/// The body that the document has as its example.
fn sample(operation: &Operation) -> Value {
    let content = &operation.about["requestBody"]["content"]["application/json"];
    if let Some(example) = content.get("example") {
        return example.clone();
    }
    let document = serde_json::to_value(openapi()).unwrap();
    let text = content["schema"].to_string();
    let name = text.split("#/components/schemas/").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    document["components"]["schemas"][name]["example"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_to_be_so() {
    let site = Site::start().await;
    for operation in Operation::all() {
        let parameters = operation.about["parameters"].as_array().cloned().unwrap_or_default();
        if parameters.iter().any(|parameter| parameter["in"] == "query") {
            let request = operation.request_with(&site, &site.admin, "?surely-not=1");
            let body = if operation.has_json_body() { request.json(&sample(&operation)) } else { request };
            problem(body.send().await.unwrap(), 400).await;
        }
        if operation.has_json_body() {
            let ask = || operation.request(&site, &site.admin);
            let json = |body: &'static str| ask().header("content-type", "application/json").body(body);
            problem(json("{").send().await.unwrap(), 400).await;
            problem(json(r#"{"surely-not": 1}"#).send().await.unwrap(), 422).await;
            problem(json("[7]").send().await.unwrap(), 422).await;
            problem(ask().header("content-type", "text/html").body("<p>").send().await.unwrap(), 415).await;
        }
        if operation.method == "POST" {
            let request = operation.request(&site, &site.admin).header("idempotency-key", "");
            problem(request.send().await.unwrap(), 400).await;
        }
    }
}

#[test]
fn every_operation_is_described() {
    for operation in Operation::all() {
        let name = operation.name();
        assert!(operation.about["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}: no summary");
        assert!(operation.about["tags"][0].is_string(), "{name}: no tag");
        for parameter in operation.about["parameters"].as_array().into_iter().flatten() {
            let described = parameter["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described, "{name}: {} is not described", parameter["name"]);
        }
        if operation.has_json_body() {
            assert!(sample(&operation).is_object(), "{name}: no example of its body");
        }
        if !operation.is_open() {
            operation.role();
        }
    }
}

#[test]
fn names_of_schemas_are_used_once() {
    // Two types of one name would overwrite each other without a word.
    let document = serde_json::to_value(openapi()).unwrap();
    let ids: Vec<_> = Operation::all().iter().map(|operation| operation.about["operationId"].to_string()).collect();
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    assert!(document["components"]["schemas"].as_object().unwrap().len() > 30);
}
