//! How many bytes the properties and headers of a message take: AMQP wants them in a single frame, and a broker that
//! gets a larger one closes the whole connection.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

/// Type, channel and size of a frame, the end mark behind it, and what a content header begins with: class, weight,
/// size of the body, flags.
const FRAME: usize = 8 + 14;

/// The size of the content header frame with these properties, in bytes.
pub(crate) fn header_frame(properties: &BasicProperties) -> usize {
    let short = |text: &Option<ShortString>| text.as_ref().map_or(0, |text| 1 + text.as_str().len());
    let texts = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
        properties.kind(),
        properties.user_id(),
        properties.app_id(),
        properties.cluster_id(),
    ];
    FRAME
        + texts.into_iter().map(short).sum::<usize>()
        + properties.headers().as_ref().map_or(0, table)
        + usize::from(properties.delivery_mode().is_some())
        + usize::from(properties.priority().is_some())
        + if properties.timestamp().is_some() { 8 } else { 0 }
}

pub(super) fn table(table: &FieldTable) -> usize {
    4 + table.into_iter().map(|(name, value)| 1 + name.as_str().len() + self::value(value)).sum::<usize>()
}

fn value(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::Void => 0,
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::LongString(text) => 4 + text.len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldArray(values) => 4 + values.as_slice().iter().map(self::value).sum::<usize>(),
        AMQPValue::FieldTable(inner) => table(inner),
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame};
    use proptest::prelude::*;

    use super::{super::tests::arbitrary, *};

    proptest! {
        #[test]
        fn the_size_is_that_of_the_frame_that_is_sent(properties in arbitrary::properties()) {
            let size = header_frame(&properties);
            let header = AMQPContentHeader { class_id: 60, body_size: 5, properties };
            let written = gen_frame(&AMQPFrame::Header(1, header))(Vec::new().into()).unwrap();
            prop_assert_eq!(size, written.write.len());
        }
    }
}
