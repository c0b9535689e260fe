//! A broker that one test has to itself.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use crate::{Broker, Vhost, script};

const DEADLINE: Duration = Duration::from_secs(300);

/// A RabbitMQ node of its own, for a test that stops, kills and restarts its broker. It keeps its ports and its data
/// through all of that. Starting it takes about seven seconds; dropping it stops it and deletes its data.
#[derive(Debug)]
pub struct Node {
    name: String,
    broker: Broker,
    /// `amqps://user:password@host:port/` and a virtual host, for a node that listens for it.
    encrypted: Option<String>,
}

/// Whether a node that listens for `amqps://` wants to know who its clients are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// It does not ask.
    Ignored,
    /// It lets nobody in without a certificate that its authority has signed.
    Required,
}

impl Node {
    /// Starts a node. `name` says in the process list which test it belongs to (a-z, 0-9, `-`, at most 20).
    ///
    /// # Panics
    /// If it does not start, with what `rabbitmq/up` says about it.
    pub async fn private(name: &str) -> Self {
        Self::started(name, &[]).await
    }

    /// Starts a node that listens for `amqps://` as well. `certificates` is a folder with its `certificate.pem` and
    /// `key.pem`, and with the `ca.pem` that the certificates of its clients are to be signed with.
    ///
    /// # Panics
    /// If it does not start, with what `rabbitmq/up` says about it.
    pub async fn encrypted(name: &str, certificates: &Path, clients: ClientCertificates) -> Self {
        let folder = certificates.to_string_lossy();
        let options = ["--tls", &*folder, "--tls-clients"];
        Self::started(name, if clients == ClientCertificates::Required { &options } else { &options[..2] }).await
    }

    async fn started(name: &str, options: &[&str]) -> Self {
        let name = format!("{name}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        // From here on, because a start that fails half way leaves something to clean up, too.
        let cleaner = Cleaner(name.clone());
        script("up", &name, &[&["--quiet"], options].concat()).await;
        let env = script::project().join(".leveret/nodes").join(&name).join("env");
        let broker =
            Broker::recorded(&env).unwrap_or_else(|| panic!("rabbitmq/up has not written where node '{name}' is"));
        let encrypted = Broker::recorded_value(&env, "AMQPS_URL");
        std::mem::forget(cleaner);
        Self { name, broker, encrypted }
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

    /// The `amqps://` URL of a virtual host on this node.
    ///
    /// # Panics
    /// If the node was not started by [`encrypted`](Self::encrypted).
    #[must_use]
    pub fn encrypted_url(&self, vhost: &Vhost) -> String {
        let default = self.encrypted.as_deref().unwrap_or_else(|| panic!("node '{}' has no TLS listener", self.name));
        default.replace("%2f", vhost.name())
    }

    /// Raises the memory alarm: the node stops reading from connections that publish, until
    /// [`unblock_publishers`](Self::unblock_publishers).
    pub async fn block_publishers(&self) {
        self.ctl(&["set_vm_memory_high_watermark", "0"]).await;
    }

    /// Ends the memory alarm.
    pub async fn unblock_publishers(&self) {
        self.ctl(&["set_vm_memory_high_watermark", "0.9"]).await;
    }

    /// Runs `rabbitmqctl` on the node. What it prints is returned.
    ///
    /// # Panics
    /// If it fails, with what it says.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(path("ctl"));
        command.args(["--node", &self.name]).args(arguments);
        script::run(command, "", DEADLINE).await.stdout
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
