//! What RabbitMQ's management interface knows and AMQP does not tell: rates, and what workers have in hand.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Deserialize;
use tracing::{info, warn};

/// How long it has to answer.
const PATIENCE: Duration = Duration::from_secs(3);
const COLUMNS: &str = "name,messages_unacknowledged,message_stats.publish_details.rate,\
                       message_stats.deliver_get_details.rate,message_stats.ack_details.rate";

/// The management interface of a broker. What it does not answer is not known, and nothing waits for it for long. Cheap to
/// clone.
#[derive(Clone)]
pub struct Management {
    http: reqwest::Client,
    /// Without user and password.
    url: String,
    user: String,
    password: Option<String>,
    answers: Arc<AtomicBool>,
}

/// What it says of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) unacknowledged: Option<u64>,
    pub(super) published: Option<f64>,
    pub(super) delivered: Option<f64>,
    pub(super) acknowledged: Option<f64>,
}

#[derive(Deserialize)]
struct Queue {
    name: String,
    messages_unacknowledged: Option<u64>,
    message_stats: Option<Stats>,
}

#[derive(Deserialize)]
struct Stats {
    publish_details: Option<Details>,
    deliver_get_details: Option<Details>,
    ack_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    rate: Option<f64>,
}

impl Management {
    /// The interface at `url`, such as `http://user:password@127.0.0.1:15672`, for the virtual host `vhost`.
    ///
    /// # Errors
    /// [`InvalidManagementUrl`].
    pub fn new(url: &str, vhost: &str) -> Result<Self, InvalidManagementUrl> {
        let mut url: reqwest::Url = url.parse().map_err(|_| InvalidManagementUrl)?;
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (decoded(url.username()), url.password().map(decoded));
        url.set_password(None).and_then(|()| url.set_username("")).map_err(|()| InvalidManagementUrl)?;
        let mut path = url.path_segments_mut().map_err(|()| InvalidManagementUrl)?;
        path.pop_if_empty().extend(["api", "queues", vhost]);
        drop(path);
        url.set_query(Some(&format!("columns={COLUMNS}")));
        let mut http = reqwest::Client::builder().timeout(PATIENCE).no_proxy();
        if url.scheme() == "http" {
            // Reading the system's authorities takes time, and may fail.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|_| InvalidManagementUrl)?;
        Ok(Self { http, url: url.into(), user, password, answers: Arc::new(AtomicBool::new(true)) })
    }

    /// What it says of each queue; nothing when it does not answer.
    pub(super) async fn queues(&self) -> BTreeMap<String, Seen> {
        let asking = async {
            let request = self.http.get(&self.url).basic_auth(&self.user, self.password.as_ref());
            request.send().await?.error_for_status()?.json::<Vec<Queue>>().await
        };
        match asking.await {
            Ok(queues) => {
                if !self.answers.swap(true, Ordering::Relaxed) {
                    info!("the management interface answers again");
                }
                queues.into_iter().map(|queue| (queue.name.clone(), Seen::from(queue))).collect()
            }
            Err(error) => {
                if self.answers.swap(false, Ordering::Relaxed) {
                    let why = super::chain(&error.without_url());
                    warn!(why, "the management interface does not answer: there are no rates of queues");
                }
                BTreeMap::new()
            }
        }
    }
}

impl From<Queue> for Seen {
    fn from(queue: Queue) -> Self {
        let stats = queue.message_stats.as_ref();
        let rate = |part: fn(&Stats) -> &Option<Details>| part(stats?).as_ref()?.rate;
        Self {
            unacknowledged: queue.messages_unacknowledged,
            published: rate(|stats| &stats.publish_details),
            delivered: rate(|stats| &stats.deliver_get_details),
            acknowledged: rate(|stats| &stats.ack_details),
        }
    }
}

impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Management").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

/// A text is no URL of a management interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no URL of a management interface: write http://user:password@127.0.0.1:15672")]
pub struct InvalidManagementUrl;
