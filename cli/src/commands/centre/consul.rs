//! Registration with the Consul agent of this machine, for sites that look services up there.

use std::{net::SocketAddr, time::Duration};

use leveret::common::telemetry::http::Health;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use crate::{
    failure::chain,
    settings::{ConsulSettings, InvalidConfig, Settings},
};

/// How long the agent has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the agent may be missed before it counts us as unwell.
const MISSED: u32 = 3;
/// How long we are unwell before the agent forgets us; it takes no less than a minute.
const FORGOTTEN: &str = "10m";

/// A centre's place in Consul's catalogue.
pub(super) struct Consul {
    http: Client,
    agent: Url,
    settings: ConsulSettings,
    /// Of this process: another start is another service, so that none is taken for the other.
    id: String,
    registration: Value,
    health: Health,
}

impl Consul {
    /// The place of the centre that listens at `address`, with TLS or without.
    pub(super) fn new(
        settings: &Settings,
        consul: &ConsulSettings,
        id: &str,
        address: SocketAddr,
        tls: bool,
        health: Health,
    ) -> Result<Self, InvalidConfig> {
        let wrong = |error: &dyn std::fmt::Display| settings.invalid(&["centre", "consul", "agent"], error);
        let agent: Url = consul.agent.parse().map_err(|error| wrong(&error))?;
        let mut http = Client::builder().timeout(PATIENCE).no_proxy();
        if agent.scheme() == "http" {
            // Reading the system's authorities takes time, and may fail.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|error| wrong(&error))?;
        let id = format!("{}-{id}", consul.service);
        let host = consul.host.clone().unwrap_or_else(|| address.ip().to_string());
        let registration = json!({
            "ID": id,
            "Name": consul.service,
            "Tags": consul.tags,
            "Address": host,
            "Port": address.port(),
            "Meta": { "version": env!("CARGO_PKG_VERSION"), "scheme": if tls { "https" } else { "http" } },
            "Check": {
                "CheckID": format!("service:{id}"),
                "Name": "leveret centre",
                "TTL": format!("{}s", consul.interval.saturating_mul(MISSED).as_secs()),
                "Status": "passing",
                "DeregisterCriticalServiceAfter": FORGOTTEN,
            },
        });
        Ok(Self { http, agent, settings: consul.clone(), id, registration, health })
    }

    /// Registers, and tells the agent again and again how the centre is, until `stop`; then takes the place away. An agent
    /// that does not answer holds nothing up.
    pub(super) fn keep(self, stop: CancellationToken) -> JoinHandle<()> {
        tokio::spawn(async move {
            let (mut registered, mut complained) = (false, false);
            loop {
                let told = if registered { self.tell().await } else { self.register().await };
                match told {
                    Ok(known) => {
                        if known && !registered {
                            info!(service = self.settings.service, id = self.id, "registered with Consul");
                        }
                        // An agent that was started anew knows nothing of us.
                        let forgotten = registered && !known;
                        (registered, complained) = (known, false);
                        if forgotten {
                            continue;
                        }
                    }
                    Err(error) => {
                        if !complained {
                            warn!(
                                agent = self.settings.agent,
                                why = chain(&error.without_url()),
                                "Consul cannot be told"
                            );
                        }
                        complained = true;
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(self.settings.interval) => {}
                    () = stop.cancelled() => break,
                }
            }
            if let Err(error) = self.send(&["service", "deregister", &self.id], &Value::Null).await {
                warn!(why = chain(&error.without_url()), "Consul cannot be told that the centre is gone");
            }
        })
    }

    async fn register(&self) -> reqwest::Result<bool> {
        let answer = self.send(&["service", "register"], &self.registration).await?;
        answer.error_for_status().map(|_| true)
    }

    /// Whether the agent knows us.
    async fn tell(&self) -> reqwest::Result<bool> {
        let failing = self.health.failing();
        let status = if failing.is_empty() { "passing" } else { "critical" };
        let why: Vec<_> = failing.iter().map(|(check, why)| format!("{check}: {why}")).collect();
        let check = format!("service:{}", self.id);
        let answer =
            self.send(&["check", "update", &check], &json!({ "Status": status, "Output": why.join("; ") })).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        answer.error_for_status().map(|_| true)
    }

    async fn send(&self, path: &[&str], body: &Value) -> reqwest::Result<reqwest::Response> {
        let mut url = self.agent.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["v1", "agent"]).extend(path);
        }
        let mut request = self.http.put(url).json(body);
        if let Some(token) = &self.settings.token {
            request = request.header("x-consul-token", token);
        }
        request.send().await
    }
}
