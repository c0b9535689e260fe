//! A message as it lies in a queue.

use lapin::{BasicProperties, message::Delivery, types::AMQPValue};
use serde_json::Value;

/// A message that was looked at or taken out of a queue.
#[derive(Debug, Clone)]
pub struct Message {
    /// The exchange it was published to last.
    pub exchange: String,
    /// The routing key it was published with last.
    pub routing_key: String,
    /// Whether the broker has delivered it before.
    pub redelivered: bool,
    /// All properties, headers included, with their AMQP types.
    pub properties: BasicProperties,
    /// The body as bytes.
    pub body: Vec<u8>,
}

impl Message {
    /// A header as it came.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name)
    }

    /// A header as text, whatever whole number or string type it came in. `None` for other types, too.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<String> {
        match self.header(name)? {
            AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
            AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
            AMQPValue::Boolean(value) => Some(value.to_string()),
            AMQPValue::ShortShortInt(value) => Some(value.to_string()),
            AMQPValue::ShortShortUInt(value) => Some(value.to_string()),
            AMQPValue::ShortInt(value) => Some(value.to_string()),
            AMQPValue::ShortUInt(value) => Some(value.to_string()),
            AMQPValue::LongInt(value) => Some(value.to_string()),
            AMQPValue::LongUInt(value) => Some(value.to_string()),
            AMQPValue::LongLongInt(value) => Some(value.to_string()),
            AMQPValue::Timestamp(value) => Some(value.to_string()),
            _ => None,
        }
    }

    /// The property `message_id`.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.properties.message_id().as_ref().map(|id| id.as_str().to_owned())
    }

    /// The property `type`: the task's name.
    #[must_use]
    pub fn task(&self) -> Option<String> {
        self.properties.kind().as_ref().map(|kind| kind.as_str().to_owned())
    }

    /// Why it is a dead letter, as Leveret noted it or, where it did not, the broker: `exhausted`, `delivery_limit` and
    /// so on. `None` if it is none.
    #[must_use]
    pub fn dead_reason(&self) -> Option<String> {
        self.header_text("leveret-dead-reason").or_else(|| {
            let AMQPValue::FieldArray(deaths) = self.header("x-death")? else { return None };
            let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else { return None };
            let AMQPValue::LongString(reason) = last.inner().get("reason")? else { return None };
            Some(String::from_utf8_lossy(reason.as_bytes()).into_owned())
        })
    }

    /// The body read as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("a body that should be JSON is not ({error}): {:?}", String::from_utf8_lossy(&self.body))
        })
    }
}

impl From<Delivery> for Message {
    fn from(delivery: Delivery) -> Self {
        Self {
            exchange: delivery.exchange.as_str().to_owned(),
            routing_key: delivery.routing_key.as_str().to_owned(),
            redelivered: delivery.redelivered,
            properties: delivery.properties,
            body: delivery.data,
        }
    }
}
