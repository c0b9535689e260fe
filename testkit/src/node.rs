//! A broker that one test has to itself.

use std::{path::PathBuf, time::Duration};

use tokio::process::Command;

use crate::{Broker, script};

const DEADLINE: Duration = Duration::from_secs(300);

/// A RabbitMQ node of its own, for a test that stops, kills and restarts its broker. It keeps its ports and its data
/// through all of that. Starting it takes about seven seconds; dropping it stops it and deletes its data.
#[derive(Debug)]
pub struct Node {
    name: String,
    broker: Broker,
}

impl Node {
    /// Starts a node. `name` says in the process list which test it belongs to (a-z, 0-9, `-`, at most 20).
    ///
    /// # Panics
    /// If it does not start, with what `rabbitmq/up` says about it.
    pub async fn private(name: &str) -> Self {
        let name = format!("{name}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        // From here on, because a start that fails half way leaves something to clean up, too.
        let cleaner = Cleaner(name.clone());
        script("up", &name, &["--quiet"]).await;
        let broker = Broker::recorded(&script::project().join(".leveret/nodes").join(&name).join("env"))
            .unwrap_or_else(|| panic!("rabbitmq/up has not written where node '{name}' is"));
        std::mem::forget(cleaner);
        Self { name, broker }
    }

    /// The AMQP URL of the node, default virtual host.
    #[must_use]
    pub fn url(&self) -> &str {
        self.broker.url()
    }

    /// The node as a broker, to make virtual hosts on.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Shuts the node down in good order; its clients are told.
    pub async fn stop(&self) {
        script("down", &self.name, &["--quiet"]).await;
    }

    /// Ends the node as a power cut would (SIGKILL). It stays down until [`start`](Self::start).
    pub async fn kill(&self) {
        script("down", &self.name, &["--quiet", "--kill"]).await;
    }

    /// Starts the node again and waits until it serves. Harmless if it runs.
    pub async fn start(&self) {
        script("up", &self.name, &["--quiet"]).await;
    }

    /// Shuts the node down in good order, starts it again and waits until it serves.
    pub async fn restart(&self) {
        script("restart", &self.name, &["--quiet"]).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(Cleaner(std::mem::take(&mut self.name)));
    }
}

/// Takes a node and its data away.
struct Cleaner(String);

impl Drop for Cleaner {
    fn drop(&mut self) {
        let mut down = std::process::Command::new(path("down"));
        down.args(["--node", &self.0, "--kill", "--wipe", "--quiet"]);
        drop(down.status());
    }
}

fn path(script: &str) -> PathBuf {
    script::project().join("rabbitmq").join(script)
}

async fn script(script: &str, node: &str, options: &[&str]) {
    let mut command = Command::new(path(script));
    command.args(["--node", node]).args(options);
    script::run(command, "", DEADLINE).await;
}
