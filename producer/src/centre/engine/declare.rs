//! Declares queues that are not there: a schedule may be the first that publishes to one.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use leveret_common::{
    client::Client,
    topology::{QueueName, QueueSettings, Topology},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A queue that could not be declared is not asked for again before that.
const PATIENCE: Duration = Duration::from_secs(1);

/// The settings of queues, by their names.
#[derive(Clone)]
pub struct QueueSettingsOf(Arc<dyn Fn(&QueueName) -> QueueSettings + Send + Sync>);

impl QueueSettingsOf {
    /// As this function says.
    pub fn new(settings: impl Fn(&QueueName) -> QueueSettings + Send + Sync + 'static) -> Self {
        Self(Arc::new(settings))
    }
}

impl Default for QueueSettingsOf {
    /// The defaults for each.
    fn default() -> Self {
        Self::new(|_| QueueSettings::default())
    }
}

impl fmt::Debug for QueueSettingsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueSettingsOf")
    }
}

/// Declares what publishes turn out to lack.
#[derive(Debug)]
pub(crate) struct Declarer {
    client: Client,
    settings: QueueSettingsOf,
    asked: HashMap<String, Instant>,
}

impl Declarer {
    pub(crate) fn new(client: Client, settings: QueueSettingsOf) -> Self {
        Self { client, settings, asked: HashMap::new() }
    }

    /// Declares a queue that no publish has reached, in the background.
    pub(crate) fn declare(&mut self, queue: &str) {
        let now = Instant::now();
        if self.asked.get(queue).is_some_and(|asked| now < *asked + PATIENCE) {
            return;
        }
        self.asked.insert(queue.to_owned(), now);
        let Ok(name) = QueueName::new(queue) else { return };
        let (client, settings) = (self.client.clone(), (self.settings.0)(&name));
        tokio::spawn(async move {
            let Ok(topology) = Topology::new(&client.link().settings().namespace) else { return };
            match client.apply(&topology.queue(name.clone(), settings)).await {
                Ok(()) => info!(queue = %name, "declared a queue that a schedule publishes to"),
                Err(error) => warn!(queue = %name, %error, "a queue that a schedule publishes to cannot be declared"),
            }
        });
    }

    /// Declares the exchanges on each new connection, for the broker may have lost them.
    pub(crate) async fn keep_exchanges(client: Client, stop: CancellationToken) {
        let Ok(topology) = Topology::new(&client.link().settings().namespace) else { return };
        let keep = async {
            while let Ok(live) = client.link().live().await {
                if let Err(error) = client.apply(&topology).await
                    && !live.lost.is_cancelled()
                {
                    warn!(%error, "the exchanges cannot be declared");
                }
                live.lost.cancelled().await;
            }
        };
        tokio::select! {
            () = keep => {}
            () = stop.cancelled() => {}
        }
    }
}
