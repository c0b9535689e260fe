//! A message as a database keeps it until it is published.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{InvalidMessage, Message, When};
use crate::{
    clock::Clock,
    headers::{HeaderValue, Headers},
    task::TaskId,
    topology::Names,
    wire::Limits,
};

/// The parts of a message in the terms of the wire contract, for a table whose rows any program may write.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMessage {
    /// The task's id, the AMQP `message_id`.
    pub id: String,
    /// The task's name, the AMQP `type`.
    pub task: String,
    /// The queue.
    pub queue: String,
    /// The body's media type.
    pub content_type: String,
    /// What only some messages have.
    pub properties: StoredProperties,
    /// The headers: texts, whole numbers and booleans by their names.
    pub headers: Map<String, Value>,
    /// The body.
    pub body: Bytes,
}

/// Properties that only some messages have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoredProperties {
    /// What the routing key has after `<queue>.`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_suffix: Option<String>,
    /// How the body is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// The AMQP priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The queue for the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// What the result is marked with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

impl Message {
    /// The message as a database keeps it. Delays begin now, and the trace context is that of the caller.
    ///
    /// # Errors
    /// [`InvalidMessage`] for what could never be published, by the limits that hold unless set otherwise.
    pub fn to_stored(&self, clock: &Clock) -> Result<StoredMessage, InvalidMessage> {
        let limits = Limits::default();
        InvalidMessage::check_size(self, &limits)?;
        // On its way out everything is checked, and written into the headers.
        let outgoing = self.clone().into_outgoing(&Names::new("leveret")?, clock)?;
        outgoing.check_headers(limits.headers)?;
        let headers = outgoing.properties().headers().clone().map(Headers::from).unwrap_or_default();
        let (reply_to, correlation_id) = self.reply_to.clone().unzip();
        Ok(StoredMessage {
            id: self.id.to_string(),
            task: self.task.clone(),
            queue: self.queue.clone(),
            content_type: self.content_type.clone(),
            properties: StoredProperties {
                routing_suffix: self.suffix.clone(),
                content_encoding: self.content_encoding.as_deref().map(str::to_owned),
                priority: self.priority,
                reply_to,
                correlation_id: correlation_id.flatten(),
            },
            headers: headers.to_json(),
            body: self.body.clone(),
        })
    }
}

impl TryFrom<StoredMessage> for Message {
    type Error = InvalidMessage;

    fn try_from(stored: StoredMessage) -> Result<Self, InvalidMessage> {
        let StoredMessage { id, task, queue, content_type, properties, headers, body } = stored;
        let mut read = Headers::default();
        for (name, value) in headers {
            let value: HeaderValue = match value {
                Value::String(text) => text.into(),
                Value::Bool(flag) => flag.into(),
                Value::Number(number) if number.is_i64() => number.as_i64().unwrap_or_default().into(),
                _ => return Err(InvalidMessage::Header { name }),
            };
            read.insert(&name, value)?;
        }
        let correlation_id = properties.correlation_id;
        Ok(Self {
            id: TaskId::try_from(id)?,
            id_is_chosen: true,
            task,
            queue,
            suffix: properties.routing_suffix,
            content_type,
            content_encoding: properties.content_encoding.map(Into::into),
            priority: properties.priority,
            reply_to: properties.reply_to.map(|queue| (queue, correlation_id)),
            // The headers say so already.
            not_before: When::Unset,
            expires_at: When::Unset,
            headers: read,
            wrong: None,
            // How large it was before it was compressed was looked at when it was stored.
            inflated: body.len(),
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{clock::UnixMillis, topology::QueueName, wire::Outgoing};

    fn wire(message: Message, clock: &Clock) -> Outgoing {
        message.into_outgoing(&Names::new("leveret").unwrap(), clock).unwrap()
    }

    #[test]
    fn a_message_that_was_stored_is_the_same_on_the_wire() {
        let clock = Clock::held(UnixMillis(1_700_000_000_000));
        let message = Message::raw("image.scale", vec![0, 159, 255], "image/png")
            .queue("images")
            .routing_suffix("large.eu")
            .content_encoding("gzip")
            .priority(5)
            .delay(Duration::from_secs(60))
            .expires_in(Duration::from_secs(3_600))
            .reply_to("answers", Some("call-1"))
            .key("customer-7")
            .max_attempts(3)
            .header("x-flag", true);
        let stored = message.to_stored(&clock).unwrap();
        let expected = wire(message, &clock);
        // A delay begins when the message is stored.
        clock.advance(Duration::from_secs(10));
        let sent = wire(stored.try_into().unwrap(), &clock);
        assert_eq!(sent.routing_key(), "images.large.eu");
        assert_eq!(sent.body(), expected.body());
        let at = *expected.properties().timestamp();
        assert_eq!(sent.properties().clone().with_timestamp(at.unwrap()), *expected.properties());
    }

    #[test]
    fn what_could_never_be_published_is_not_stored() {
        let clock = Clock::system();
        let store = |message: Message| message.to_stored(&clock).map(drop);
        assert!(matches!(store(Message::raw("t", "", "a/b").queue("no.dots")), Err(InvalidMessage::Queue(_))));
        assert!(QueueName::new("no.dots").is_err());
        assert!(store(Message::raw("", "", "a/b")).is_err());
        assert!(store(Message::raw("t", vec![0; 17 << 20], "a/b")).is_err());
        assert!(store(Message::raw("t", "", "a/b").header("big", "b".repeat(200_000).as_str())).is_err());
        assert!(store(Message::raw("t", "", "a/b")).is_ok());
    }

    #[test]
    fn a_header_that_no_message_can_have_is_named() {
        let mut stored = Message::raw("t", "", "a/b").to_stored(&Clock::system()).unwrap();
        stored.headers.insert("list".to_owned(), Value::Array(Vec::new()));
        assert_eq!(Message::try_from(stored).unwrap_err(), InvalidMessage::Header { name: "list".to_owned() });
    }
}
