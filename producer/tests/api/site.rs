//! A centre to be asked over HTTP.

use std::sync::Once;

use leveret_common::{
    clock::{Clock, UnixMillis},
    task::TaskId,
};
use leveret_producer::centre::{
    api::{Api, ApiSettings, RunningServer, Server, ServerSettings},
    database::Database,
    store::{Role, Store, Token},
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::Value;
use tempfile::TempDir;

/// A served interface on a database of its own.
pub(crate) struct Site {
    pub(crate) api: Api,
    pub(crate) server: RunningServer,
    pub(crate) http: reqwest::Client,
    pub(crate) admin: String,
    _folder: TempDir,
}

pub(crate) fn settings() -> ApiSettings {
    ApiSettings { wrong_tokens: 1_000_000, ..ApiSettings::default() }
}

/// A client; the one provider of cryptography there is has to be named once.
pub(crate) fn client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default()));
    reqwest::Client::builder().tls_certs_only([]).build().unwrap()
}

impl Site {
    /// Without a broker.
    pub(crate) async fn start() -> Self {
        Self::with(settings(), async |api| api).await
    }

    pub(crate) async fn with(settings: ApiSettings, change: impl AsyncFnOnce(Api) -> Api) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/centre.db", folder.path().display()).parse().unwrap();
        let database = Database::open(&url).await.unwrap();
        let api = change(Api::new(Store::new(database, Clock::system()), settings)).await;
        let listen = ServerSettings { listen: "127.0.0.1:0".to_owned(), ..ServerSettings::default() };
        let server = Server::start(api.clone(), listen).await.unwrap();
        let admin = server.first_token().map(str::to_owned).unwrap_or_default();
        Self { api, server, http: client(), admin, _folder: folder }
    }

    /// A token of a role in a namespace, made without asking the interface.
    pub(crate) async fn token(&self, role: Role, namespace: &str) -> String {
        let (id, secret) = (TaskId::new().to_string(), format!("test-{}", TaskId::new()));
        let token = Token {
            name: format!("{role} of {namespace}"),
            id,
            role,
            namespace: namespace.to_owned(),
            created_by: "test".to_owned(),
            created_at: UnixMillis(0),
            expires_at: None,
            last_used_at: None,
        };
        let mut transaction = self.api.store.database().begin().await.unwrap();
        assert!(self.api.store.add_token(&mut transaction, &token, &secret).await.unwrap());
        transaction.commit().await.unwrap();
        secret
    }

    /// A request of the admin.
    pub(crate) fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        self.ask_as(&self.admin, method, path)
    }

    pub(crate) fn ask_as(&self, token: &str, method: &str, path: &str) -> RequestBuilder {
        self.plain(method, path).bearer_auth(token)
    }

    pub(crate) fn plain(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.http.request(method, format!("{}{path}", self.server.url()))
    }

    /// What the admin gets at a path that is there.
    pub(crate) async fn get(&self, path: &str) -> Value {
        json(self.ask("GET", path).send().await.unwrap(), 200).await
    }

    /// What the admin is answered, which is to be `status`.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        json(self.ask(method, path).json(body).send().await.unwrap(), status).await
    }
}

/// The body of an answer with this status.
pub(crate) async fn json(response: Response, status: u16) -> Value {
    let (found, url) = (response.status(), response.url().clone());
    let text = response.text().await.unwrap();
    assert_eq!(found.as_u16(), status, "{url}: {text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

/// The answer is a problem of this status, as RFC 9457 has it.
pub(crate) async fn problem(response: Response, status: u16) -> Value {
    let (found, url) = (response.status(), response.url().clone());
    let media_type = response.headers().get(header::CONTENT_TYPE).cloned();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let text = response.text().await.unwrap();
    assert_eq!(found, StatusCode::from_u16(status).unwrap(), "{url}: {text}");
    assert_eq!(media_type.unwrap(), "application/problem+json", "{url}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["status"], status, "{url}: {text}");
    assert!(problem["type"].as_str().unwrap().starts_with("urn:leveret:problem:"), "{text}");
    assert_eq!(problem["instance"], format!("urn:uuid:{id}"));
    problem
}
