//! A lost message, to be published again.

use lapin::{BasicProperties, types::ShortString};

use crate::{
    headers::Headers,
    topology::Names,
    wire::{Outgoing, TooLong, header, is_broker_note, short},
};

/// The message for our own way in, where the broker returns what still no queue takes. It stays as it came, less
/// what only its first publisher and the broker may say.
pub(super) fn outgoing(
    names: &Names,
    routing_key: ShortString,
    from: &BasicProperties,
    body: Vec<u8>,
) -> Result<Outgoing, TooLong> {
    let mut headers = from.headers().clone().map(Headers::from).unwrap_or_default();
    headers.retain(|name| !is_broker_note(name));
    if let Some(user) = from.user_id() {
        // The broker refuses a `user_id` that is not the connection's own user.
        headers.insert(header::USER_ID, user.as_str())?;
    }
    let mut properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers.into());
    macro_rules! carry {
        ($($get:ident => $set:ident),*) => {
            $(if let Some(value) = from.$get() { properties = properties.$set(value.clone()); })*
        };
    }
    carry!(
        kind => with_type, message_id => with_message_id, content_type => with_content_type,
        content_encoding => with_content_encoding, priority => with_priority,
        correlation_id => with_correlation_id, reply_to => with_reply_to, timestamp => with_timestamp,
        app_id => with_app_id
    );
    Ok(Outgoing {
        exchange: short("exchange", names.publish())?,
        routing_key,
        mandatory: true,
        properties,
        body: body.into(),
    })
}
