//! The note that the broker makes on a message that it dead-letters, and what it reads from one.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable},
};
use leveret_common::clock::UnixMillis;

use super::{
    queue::Stored,
    table::{long, number, short, text},
};

/// Why the broker moved a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Rejected,
    Expired,
    DeliveryLimit,
    MaxLength,
}

impl Why {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::DeliveryLimit => "delivery_limit",
            Self::MaxLength => "maxlen",
        }
    }
}

/// The properties of a message that died in `queue`: its deaths are noted, and its `expiration` has done its work.
pub(super) fn noted(message: &Stored, queue: &str, why: Why, now: UnixMillis) -> BasicProperties {
    let mut headers = message.properties.headers().clone().unwrap_or_default();
    let mut deaths = deaths(&headers);
    if deaths.is_empty() {
        for (name, value) in [("exchange", message.exchange.as_str()), ("queue", queue), ("reason", why.as_str())] {
            headers.insert(short(format!("x-first-death-{name}")), long(value));
        }
    }
    let before = deaths.iter().position(|death| is_of(death, queue) && text(death, "reason") == Some(why.as_str()));
    let mut death = match before {
        Some(place) => deaths.remove(place),
        None => FieldTable::default(),
    };
    let count = number(&death, "count").unwrap_or(0) + 1;
    death.insert(short("count"), AMQPValue::LongLongInt(count));
    if before.is_none() {
        death.insert(short("reason"), long(why.as_str()));
        death.insert(short("queue"), long(queue));
        death.insert(short("exchange"), long(message.exchange.as_str()));
        death.insert(short("time"), AMQPValue::Timestamp(u64::try_from(now.0 / 1000).unwrap_or_default()));
        let keys = vec![long(message.routing_key.as_str())];
        death.insert(short("routing-keys"), AMQPValue::FieldArray(FieldArray::from(keys)));
        if let Some(expiration) = message.properties.expiration() {
            death.insert(short("original-expiration"), long(expiration.as_str()));
        }
    }
    deaths.insert(0, death);
    let deaths = deaths.into_iter().map(AMQPValue::FieldTable).collect::<Vec<_>>();
    headers.insert(short("x-death"), AMQPValue::FieldArray(FieldArray::from(deaths)));
    without_expiration(&message.properties).with_headers(headers)
}

/// Whether a message that goes to `queue` has died there before, and no one has rejected it since: the broker drops it.
pub(super) fn is_cycle(properties: &BasicProperties, queue: &str) -> bool {
    let deaths = properties.headers().as_ref().map(deaths).unwrap_or_default();
    let Some(last) = deaths.iter().position(|death| is_of(death, queue)) else { return false };
    deaths[..=last].iter().all(|death| text(death, "reason") != Some(Why::Rejected.as_str()))
}

fn is_of(death: &FieldTable, queue: &str) -> bool {
    text(death, "queue") == Some(queue)
}

/// The deaths of a message, the last one first.
fn deaths(headers: &FieldTable) -> Vec<FieldTable> {
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else { return Vec::new() };
    let table = |death: &AMQPValue| match death {
        AMQPValue::FieldTable(table) => Some(table.clone()),
        _ => None,
    };
    deaths.as_slice().iter().filter_map(table).collect()
}

/// There is no way to take a property away, so the others are carried over.
fn without_expiration(from: &BasicProperties) -> BasicProperties {
    let mut to = BasicProperties::default();
    macro_rules! carry {
        ($($get:ident => $set:ident),*) => {
            $(if let Some(value) = from.$get() { to = to.$set(value.clone()); })*
        };
    }
    carry!(
        kind => with_type, content_type => with_content_type, content_encoding => with_content_encoding,
        delivery_mode => with_delivery_mode, priority => with_priority, correlation_id => with_correlation_id,
        reply_to => with_reply_to, message_id => with_message_id, timestamp => with_timestamp,
        user_id => with_user_id, app_id => with_app_id, cluster_id => with_cluster_id
    );
    to
}
