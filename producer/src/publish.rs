//! Where ticks go.

use std::future::Future;

use leveret_common::{client::Client, link::PublishError, message::Message};

/// Takes the messages of ticks: a [`Client`], or a stand-in for a test.
pub trait Publish: Send + Sync + 'static {
    /// Publishes a message. It is done when the broker has confirmed it.
    fn publish(&self, message: Message) -> impl Future<Output = Result<(), PublishError>> + Send;
}

impl Publish for Client {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.publish_message(message).await.map(drop)
    }
}
