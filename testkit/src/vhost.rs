//! One test's virtual host.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, ConnectionProperties,
    options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use serde_json::Value;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    Broker, Message,
    management::{delete_at_last, encode, expect},
    user::{Permissions, User},
};

/// Anything asked over AMQP. A quorum queue needs a moment after its node has started.
const DEADLINE: Duration = Duration::from_secs(20);
/// Our own connection, told apart from the ones under test by this name.
const OWN_NAME: &str = "leveret-testkit";

/// Messages and consumers of a queue, as the management API counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Messages waiting for a consumer.
    pub ready: u64,
    /// Messages delivered and not yet acknowledged.
    pub unacked: u64,
    /// Consumers.
    pub consumers: u64,
}

/// A client's connection to this virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The broker's name for it, made of addresses and ports.
    pub name: String,
    /// What the client calls itself; empty if it does not.
    pub client_name: String,
    /// The user it logged in as.
    pub user: String,
    /// Channels open on it.
    pub channels: u64,
}

/// A virtual host that one test has to itself. Dropping it deletes it, with its queues and connections.
#[derive(Debug)]
pub struct Vhost {
    broker: Broker,
    name: String,
    url: String,
    link: Mutex<Option<lapin::Connection>>,
}

impl Vhost {
    pub(crate) fn new(broker: Broker, name: String) -> Self {
        let base = broker.url();
        let authority_end = base.find("://").map_or(0, |at| at + 3);
        let end = base[authority_end..].find('/').map_or(base.len(), |at| authority_end + at);
        let url = format!("{}/{name}", &base[..end]);
        Self { broker, name, url, link: Mutex::new(None) }
    }

    /// Its name on the broker; no character of it needs encoding.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The AMQP URL of this virtual host.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `http://user:password@host:port` of the management API.
    #[must_use]
    pub fn management_url(&self) -> &str {
        self.broker.management_url()
    }

    /// A new user who may do these things here, deleted when the value is dropped.
    ///
    /// # Panics
    /// If the broker refuses it.
    pub async fn user(&self, permissions: Permissions) -> User {
        let name = format!("leveret-test-{}", uuid::Uuid::now_v7().simple());
        let user = User::new(self.broker.clone(), &self.url, name).await;
        user.may(self, permissions).await;
        user
    }

    /// A new channel with publisher confirms on, for what a test wants to say in plain AMQP.
    ///
    /// # Panics
    /// If the broker does not let us in.
    pub async fn channel(&self) -> Channel {
        self.within("open a channel", async {
            let mut link = self.link.lock().await;
            let usable = link.take().filter(|link| link.status().connected());
            let connection = match usable {
                Some(connection) => connection,
                None => {
                    let properties = ConnectionProperties::default().with_connection_name(OWN_NAME.into());
                    let runtime = async_rs::Runtime::tokio_current();
                    lapin::Connection::connect_with_runtime(&self.url, properties, runtime).await?
                }
            };
            let channel = connection.create_channel().await?;
            *link = Some(connection);
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        })
        .await
    }

    /// Declares a durable quorum queue without any further argument.
    ///
    /// # Panics
    /// If a queue of that name exists with other arguments.
    pub async fn declare(&self, queue: &str) {
        let channel = self.channel().await;
        let mut arguments = FieldTable::default();
        arguments.insert(short("x-queue-type"), AMQPValue::LongString("quorum".into()));
        let asked = channel.queue_declare(short(queue), QueueDeclareOptions::durable(), arguments);
        self.within("declare a queue", asked).await;
        close(&channel).await;
    }

    /// Publishes one message and waits until a queue has it.
    ///
    /// # Panics
    /// If the broker refuses it, or no queue is bound for it.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: impl AsRef<[u8]>,
    ) {
        let channel = self.channel().await;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirmation = self
            .within("publish", async {
                channel
                    .basic_publish(short(exchange), short(routing_key), options, body.as_ref(), properties)
                    .await?
                    .await
            })
            .await;
        assert!(
            confirmation.is_ack() && confirmation.take_message().is_none(),
            "a message for '{routing_key}' at exchange '{exchange}' was refused or has no queue to go to"
        );
        close(&channel).await;
    }

    /// Messages waiting in a queue: exact, now.
    ///
    /// # Panics
    /// If there is no such queue.
    pub async fn ready(&self, queue: &str) -> u32 {
        self.count(queue).await.unwrap_or_else(|| panic!("there is no queue '{queue}'")).0
    }

    /// Consumers of a queue: exact, now.
    ///
    /// # Panics
    /// If there is no such queue.
    pub async fn consumers(&self, queue: &str) -> u32 {
        self.count(queue).await.unwrap_or_else(|| panic!("there is no queue '{queue}'")).1
    }

    /// Whether a queue exists. An exclusive queue of somebody else counts as not there.
    pub async fn exists(&self, queue: &str) -> bool {
        self.count(queue).await.is_some()
    }

    async fn count(&self, queue: &str) -> Option<(u32, u32)> {
        let channel = self.channel().await;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = channel.queue_declare(short(queue), passive, FieldTable::default());
        match timeout(DEADLINE, asked).await {
            Ok(Ok(found)) => {
                close(&channel).await;
                Some((found.message_count(), found.consumer_count()))
            }
            // The refusal has closed the channel.
            Ok(Err(_)) => None,
            Err(_) => panic!("the broker has not counted queue '{queue}' within {DEADLINE:?}"),
        }
    }

    /// Messages and consumers of a queue as the management API counts them: up to a second old on a node of ours, five
    /// on another. The only way to see unacknowledged messages; ask inside [`eventually`](crate::eventually).
    ///
    /// # Panics
    /// If there is no such queue.
    pub async fn depth(&self, queue: &str) -> Depth {
        let found = self.api(&format!("queues/{{vhost}}/{}", encode(queue))).await;
        let number = |name: &str| found[name].as_u64().unwrap_or(0);
        Depth {
            ready: number("messages_ready"),
            unacked: number("messages_unacknowledged"),
            consumers: number("consumers"),
        }
    }

    /// The names of all queues, sorted.
    pub async fn queues(&self) -> Vec<String> {
        let list = self.api("queues/{vhost}?columns=name").await;
        let mut names: Vec<String> = list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|queue| queue["name"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    /// Looks at up to `at_most` messages from the head of a queue and puts them back.
    ///
    /// The broker counts that as a delivery (`x-delivery-count`), and a quorum queue without a delivery limit takes
    /// them back at its end.
    ///
    /// # Panics
    /// If there is no such queue.
    pub async fn peek(&self, queue: &str, at_most: usize) -> Vec<Message> {
        self.get(queue, at_most, false).await
    }

    /// Removes the message at the head of a queue. `None` if it is empty.
    ///
    /// # Panics
    /// If there is no such queue.
    pub async fn take(&self, queue: &str) -> Option<Message> {
        self.get(queue, 1, true).await.pop()
    }

    /// Removes all messages of a queue, head first.
    ///
    /// # Panics
    /// If there is no such queue.
    pub async fn take_all(&self, queue: &str) -> Vec<Message> {
        self.get(queue, usize::MAX, true).await
    }

    async fn get(&self, queue: &str, at_most: usize, remove: bool) -> Vec<Message> {
        let channel = self.channel().await;
        let mut found = Vec::new();
        let mut last_tag = None;
        while found.len() < at_most {
            let got = channel.basic_get(short(queue), BasicGetOptions::default());
            let Some(message) = self.within("get a message", got).await else { break };
            last_tag = Some(message.delivery.delivery_tag);
            found.push(Message::from(message.delivery));
        }
        if remove && let Some(tag) = last_tag {
            self.within("remove messages", channel.basic_ack(tag, BasicAckOptions { multiple: true })).await;
        }
        // What is not acknowledged goes back when the channel closes.
        close(&channel).await;
        found
    }

    /// The connections to this virtual host, our own excepted.
    pub async fn connections(&self) -> Vec<Connection> {
        let list = self.api("vhosts/{vhost}/connections").await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        list.as_array()
            .into_iter()
            .flatten()
            .map(|connection| Connection {
                name: text(&connection["name"]),
                client_name: text(&connection["client_properties"]["connection_name"]),
                user: text(&connection["user"]),
                channels: connection["channels"].as_u64().unwrap_or(0),
            })
            .filter(|connection| connection.client_name != OWN_NAME)
            .collect()
    }

    /// Closes the connections to this virtual host as an operator does in the console, our own excepted. How many.
    pub async fn close_connections(&self) -> usize {
        let mut closed = 0;
        for connection in self.connections().await {
            let path = format!("connections/{}", encode(&connection.name));
            closed += usize::from(expect(self.broker.management().delete(&path).await));
        }
        closed
    }

    /// `GET /api/<path>` of the management API; `{vhost}` in the path stands for this virtual host.
    ///
    /// # Panics
    /// If the answer is no success.
    pub async fn api(&self, path: &str) -> Value {
        let path = path.replace("{vhost}", &encode(&self.name));
        expect(self.broker.management().get(&path).await)
    }

    async fn within<T>(&self, what: &str, asked: impl Future<Output = lapin::Result<T>>) -> T {
        match timeout(DEADLINE, asked).await {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => panic!("cannot {what} in {}: {error}", self.name),
            Err(_) => panic!("cannot {what} in {}: no answer within {DEADLINE:?}", self.name),
        }
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        delete_at_last(self.broker.management(), format!("vhosts/{}", encode(&self.name)));
    }
}

async fn close(channel: &Channel) {
    // The answer is waited for, so that what the channel held is back in its queue; a failure leaves nothing to close.
    drop(timeout(DEADLINE, channel.close(200, ShortString::default())).await);
}

fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_else(|error| panic!("'{text}' does not fit into an AMQP name: {error}"))
}
