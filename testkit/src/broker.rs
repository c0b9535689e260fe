//! The broker that the tests share.

use std::{path::Path, time::Duration};

use tokio::process::Command;

use crate::{
    management::{Management, encode, expect},
    script,
    vhost::Vhost,
};

/// Long enough to install RabbitMQ on a fresh machine.
const START_DEADLINE: Duration = Duration::from_secs(600);

/// A RabbitMQ with its management API. A cheap clone refers to the same one.
#[derive(Debug, Clone)]
pub struct Broker {
    url: String,
    management: Management,
}

impl Broker {
    /// The broker that all tests share: the one at `AMQP_URL`, or the one that `rabbitmq/up` finds or starts. Outside of
    /// Leveret's own tree there is no such script: set `MANAGEMENT_URL` as well.
    ///
    /// # Panics
    /// If there is none and none can be started, with what `rabbitmq/up` says about it.
    pub async fn shared() -> Self {
        let state = script::project().join(".leveret/rabbitmq/env");
        #[expect(clippy::disallowed_methods, reason = "tests have no binary in front of them that could read it")]
        let named = std::env::var("AMQP_URL").ok();
        if let Some(known) = Self::recorded(&state)
            && named.as_ref().is_none_or(|url| *url == known.url)
            && known.management.get("whoami").await.is_ok()
        {
            return known;
        }
        let script = script::project().join("rabbitmq/up");
        if !script.exists() {
            return Self::named(named);
        }
        let mut up = Command::new(script);
        up.arg("--quiet");
        script::run(up, "", START_DEADLINE).await;
        Self::recorded(&state).unwrap_or_else(|| {
            panic!("tests need the management API of the broker: set MANAGEMENT_URL=http://user:password@host:port beside AMQP_URL")
        })
    }

    /// The broker of somebody who has this crate alone, without the tree that it comes from.
    fn named(url: Option<String>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "tests have no binary in front of them that could read it")]
        let management = std::env::var("MANAGEMENT_URL").ok();
        match (url, management) {
            (Some(url), Some(management)) => Self { url, management: Management::new(&management) },
            _ => panic!(
                "tests with a broker need AMQP_URL=amqp://user:password@host:port/%2f and \
                 MANAGEMENT_URL=http://user:password@host:port"
            ),
        }
    }

    /// A broker whose state file `rabbitmq/up` has written.
    pub(crate) fn recorded(state: &Path) -> Option<Self> {
        let value = |name| Self::recorded_value(state, name);
        Some(Self { url: value("AMQP_URL")?, management: Management::new(&value("MANAGEMENT_URL")?) })
    }

    /// One value of such a file.
    pub(crate) fn recorded_value(state: &Path, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(state).ok()?;
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// The AMQP URL of the broker, in the virtual host it was given with.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `http://user:password@host:port` of the management API.
    #[must_use]
    pub fn management_url(&self) -> &str {
        self.management.url()
    }

    pub(crate) fn management(&self) -> &Management {
        &self.management
    }

    /// A fresh virtual host for one test, deleted with everything in it when the value is dropped.
    ///
    /// # Panics
    /// If the broker refuses it.
    pub async fn vhost(&self) -> Vhost {
        let name = format!("leveret-test-{}", uuid::Uuid::now_v7().simple());
        let path = format!("vhosts/{}", encode(&name));
        expect(self.management.call(reqwest::Method::PUT, &path, Some(&serde_json::json!({}))).await);
        let vhost = Vhost::new(self.clone(), name);
        // Whoever creates a virtual host may use it, but AMQP_URL and MANAGEMENT_URL may name different users.
        let amqp = url::Url::parse(&self.url).unwrap_or_else(|error| panic!("'{}' is no AMQP URL: {error}", self.url));
        let user = if amqp.username().is_empty() { "guest" } else { amqp.username() };
        let path = format!("permissions/{}/{user}", encode(vhost.name()));
        let all = serde_json::json!({"configure": ".*", "write": ".*", "read": ".*"});
        expect(self.management.call(reqwest::Method::PUT, &path, Some(&all)).await);
        vhost
    }
}
