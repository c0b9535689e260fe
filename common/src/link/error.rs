//! What can go wrong between us and the broker.

use lapin::ErrorKind;

use crate::{message::InvalidMessage, topology::TopologyError};

/// No connection to the broker could be had.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The broker answered and refused: the user, the password or the virtual host is wrong.
    #[error(
        "the broker at {host} refused the connection ({reason}): check user, password, permissions and virtual host"
    )]
    Refused {
        /// Host and port.
        host: String,
        /// What the broker said.
        reason: String,
    },
    /// Nothing answered, or not in time.
    #[error("no broker answers at {host} ({reason}): check that RabbitMQ runs there and that the port is open")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What failed.
        reason: String,
    },
    /// The encrypted connection could not be set up, or one is wanted where the URL asks for none.
    #[error("no TLS connection to {host} ({reason}): {fix}")]
    Tls {
        /// Host and port.
        host: String,
        /// What failed.
        reason: String,
        /// What to do about it.
        fix: &'static str,
    },
    /// The link was closed by its owner.
    #[error("the link to the broker is closed")]
    Closed,
}

impl ConnectError {
    /// Whether trying again later may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A task was not published, or nobody can say whether it was.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The message cannot be sent as it stands.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
    /// No queue takes the routing key: nothing was stored.
    #[error(
        "no queue takes {routing_key:?} at exchange {exchange:?}: start a worker for it, or run `leveret topology apply`"
    )]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
    /// The broker refused it, as it does when the queue is full: nothing was stored.
    #[error(
        "the broker refused the task: its queue is full (see `max_length`), or cannot store it now; publish it again later"
    )]
    Refused,
    /// The exchange is not there: nothing was stored.
    #[error("there is no exchange {exchange:?}: run `leveret topology apply`")]
    NoExchange {
        /// The exchange.
        exchange: String,
    },
    /// The user may not publish to the exchange: nothing was stored.
    #[error("may not publish to exchange {exchange:?} ({reason}): give the user permission to write to it")]
    Forbidden {
        /// The exchange.
        exchange: String,
        /// What the broker said.
        reason: String,
    },
    /// The broker closed the channel over this message: nothing was stored.
    #[error("the broker does not accept the message: {reason}")]
    Unacceptable {
        /// What the broker said.
        reason: String,
    },
    /// No confirm came in time. The task may be stored or not; publishing it again under the same id is safe.
    #[error("the broker did not confirm within {waited_ms} ms{}: publish it again under the same id", bracketed(.why))]
    Unconfirmed {
        /// How long was waited, in milliseconds.
        waited_ms: u64,
        /// What is known to stand in the way: the broker has blocked publishing, or does not answer.
        why: Option<String>,
    },
    /// The publisher was closed before the broker confirmed.
    #[error("the publisher was closed before the broker confirmed: publish the task again under the same id")]
    Closed,
    /// The exchanges could not be declared.
    #[error("{0}")]
    Topology(String),
}

impl From<TopologyError> for PublishError {
    fn from(error: TopologyError) -> Self {
        Self::Topology(error.to_string())
    }
}

fn bracketed(text: &Option<String>) -> String {
    text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
}

/// What went wrong, without lapin's own prefixes.
pub(crate) fn reason(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// The AMQP reply code, if the broker gave one: 403 refused, 404 not there, 406 different, 530 no such vhost.
pub(crate) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}
