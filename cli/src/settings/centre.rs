//! The `[centre]` table.

use std::{path::PathBuf, time::Duration};

use leveret::{
    common::duration,
    producer::centre::{database::DatabaseUrl, watch::Retention},
};
use serde::{Deserialize, Serialize, Serializer};

/// How `leveret centre` works.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CentreSettings {
    /// Where schedules and tasks are kept: `sqlite:FILE`, or the URL of a PostgreSQL, which several centres may share.
    /// Default `sqlite:leveret.db`.
    #[serde(serialize_with = "without_password")]
    pub(crate) database: DatabaseUrl,
    /// Where REST is served: host and port. Default `127.0.0.1:9470`.
    pub(crate) address: String,
    /// Name in the list of centres and in logs. Default: host name and process id.
    pub(crate) name: Option<String>,
    /// How long requests and publishes under way may take once the centre was told to stop. Default 10 s.
    #[serde(with = "duration")]
    pub(crate) grace: Duration,
    /// Where RabbitMQ's management interface is, such as `http://user:password@127.0.0.1:15672`, for rates of queues as
    /// the broker counts them. Default: none; rates are then the differences of what is counted over AMQP.
    #[serde(serialize_with = "without_user")]
    pub(crate) management: Option<String>,
    /// `[centre.retention]`: how long things are kept.
    pub(crate) retention: Retention,
    /// `[centre.tls]`: REST over HTTPS. Default: plain HTTP.
    pub(crate) tls: Option<CentreTls>,
    /// `[centre.consul]`: registration with Consul. Default: none.
    pub(crate) consul: Option<ConsulSettings>,
}

/// A `[centre.tls]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CentreTls {
    /// The certificate and those between it and the root, as PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, as PEM.
    pub(crate) key: PathBuf,
}

/// A `[centre.consul]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConsulSettings {
    /// The agent on this machine. Default `http://127.0.0.1:8500`.
    pub(crate) agent: String,
    /// The agent's ACL token. Default: none.
    #[serde(serialize_with = "hidden")]
    pub(crate) token: Option<String>,
    /// The name of the service. Default `leveret`.
    pub(crate) service: String,
    /// Its tags. Default: none.
    pub(crate) tags: Vec<String>,
    /// The host that others reach the centre at. Default: that of `[centre] address`.
    pub(crate) host: Option<String>,
    /// How often the agent is told that the centre is well; it counts as unwell after three. Default 10 s.
    #[serde(with = "duration")]
    pub(crate) interval: Duration,
}

impl Default for CentreSettings {
    fn default() -> Self {
        Self {
            database: DatabaseUrl::default(),
            address: "127.0.0.1:9470".to_owned(),
            name: None,
            grace: Duration::from_secs(10),
            management: None,
            retention: Retention::default(),
            tls: None,
            consul: None,
        }
    }
}

impl Default for ConsulSettings {
    fn default() -> Self {
        Self {
            agent: "http://127.0.0.1:8500".to_owned(),
            token: None,
            service: "leveret".to_owned(),
            tags: Vec::new(),
            host: None,
            interval: Duration::from_secs(10),
        }
    }
}

impl CentreSettings {
    /// Checks what the types cannot; an error is the path of the key and what is wrong there.
    pub(super) fn check(&self) -> Result<(), (Vec<&'static str>, String)> {
        let has_port =
            self.address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !has_port {
            return Err((
                vec!["address"],
                format!("{:?} is no address: write host and port, such as \"127.0.0.1:9470\"", self.address),
            ));
        }
        let is_http = |text: &str| url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if self.management.as_deref().is_some_and(|text| !is_http(text)) {
            let text = "this is no URL of a management interface: write http://user:password@127.0.0.1:15672";
            return Err((vec!["management"], text.to_owned()));
        }
        let Some(consul) = &self.consul else { return Ok(()) };
        if !is_http(&consul.agent) {
            let text = "this is no URL of a Consul agent: write http://127.0.0.1:8500".to_owned();
            return Err((vec!["consul", "agent"], text));
        }
        if consul.interval < Duration::from_secs(1) {
            return Err((vec!["consul", "interval"], "write 1s or more".to_owned()));
        }
        if consul.service.is_empty() {
            return Err((vec!["consul", "service"], "a service has a name: write one, or leave it out".to_owned()));
        }
        Ok(())
    }
}

fn without_password<S: Serializer>(url: &DatabaseUrl, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(url)
}

fn without_user<S: Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_deref().map(super::without_user).serialize(serializer)
}

fn hidden<S: Serializer>(secret: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "***").serialize(serializer)
}
