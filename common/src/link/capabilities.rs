//! What the broker at the other end can do, from the version that it states when a connection opens.

use lapin::types::{AMQPValue, FieldTable};

/// Product and version of a broker, and what follows from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `RabbitMQ`, or the product that stands in for it.
    pub product: String,
    /// Its version as stated, such as `3.10.8`.
    pub version: String,
    /// Name of the cluster, if stated.
    pub cluster: Option<String>,
    parsed: (u32, u32),
}

impl Capabilities {
    /// What is assumed of a broker that states nothing: the least.
    pub(super) fn unknown() -> Self {
        Self { product: "unknown".to_owned(), version: "unknown".to_owned(), cluster: None, parsed: (0, 0) }
    }

    pub(super) fn from_server_properties(properties: &FieldTable) -> Self {
        let text = |name: &str| match properties.inner().get(name) {
            Some(AMQPValue::LongString(text)) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
            _ => None,
        };
        let unknown = Self::unknown();
        let product = text("product").unwrap_or(unknown.product);
        let version = text("version").unwrap_or(unknown.version);
        let parsed = if product == "RabbitMQ" { parse(&version) } else { (0, 0) };
        Self { product, version, cluster: text("cluster_name"), parsed }
    }

    /// Whether `basic.nack` with requeue costs a message none of its deliveries (RabbitMQ 4.3 and later).
    /// Before, each return counts towards the delivery limit.
    pub fn returns_are_free(&self) -> bool {
        self.parsed >= (4, 3)
    }

    /// Whether a queue may set its own consumer timeout (RabbitMQ 3.12 and later).
    pub fn queue_consumer_timeout(&self) -> bool {
        self.parsed >= (3, 12)
    }

    /// Whether quorum queues heed message priorities (RabbitMQ 4.0 and later).
    pub fn quorum_priorities(&self) -> bool {
        self.parsed >= (4, 0)
    }

    /// Whether the ring of a consistent-hash exchange surely outlasts a stop of all nodes (RabbitMQ 4.3 and later, which
    /// has no Mnesia any more).
    pub fn keeps_rings(&self) -> bool {
        self.parsed >= (4, 3)
    }

    /// Whether dead-lettering at least once is there (RabbitMQ 3.10 and later), without which a task could be
    /// lost between a tier and its queue.
    pub fn dead_letters_at_least_once(&self) -> bool {
        self.parsed >= (3, 10)
    }
}

fn parse(version: &str) -> (u32, u32) {
    let mut numbers = version.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(product: &str, version: &str) -> Capabilities {
        let mut properties = FieldTable::default();
        for (name, value) in [("product", product), ("version", version)] {
            properties.insert(lapin::types::ShortString::try_new(name).unwrap(), AMQPValue::LongString(value.into()));
        }
        Capabilities::from_server_properties(&properties)
    }

    #[test]
    fn abilities_follow_the_stated_version() {
        assert!(!stated("RabbitMQ", "3.9.29").dead_letters_at_least_once());
        assert!(stated("RabbitMQ", "3.10.8").dead_letters_at_least_once());
        assert!(!stated("RabbitMQ", "4.2.1").returns_are_free());
        assert!(stated("RabbitMQ", "4.3.0-rc.1").returns_are_free());
    }

    #[test]
    fn another_product_or_no_version_is_taken_to_do_the_least() {
        assert!(!stated("LavinMQ", "9.9").quorum_priorities());
        assert!(!stated("RabbitMQ", "next").quorum_priorities());
    }
}
