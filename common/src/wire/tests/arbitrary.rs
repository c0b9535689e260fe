//! Any message that AMQP can carry.

use lapin::{
    BasicProperties,
    types::{AMQPValue, DecimalValue, FieldTable, ShortString},
};
use proptest::{collection, option, prelude::*};

/// Texts that fit where AMQP has room for 255 bytes, those that just fit among them.
pub(crate) fn short_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "\\PC{1,40}",
        2 => any::<String>().prop_map(|text| format!("a{}", fitting(&text, 254))),
        1 => (250_usize..=255).prop_map(|bytes| "b".repeat(bytes)),
        // 85 characters of three bytes each.
        1 => Just("€".repeat(85)),
    ]
}

/// Texts, from none to longer than a short string.
pub(crate) fn long_text() -> impl Strategy<Value = String> {
    prop_oneof![4 => short_text(), 1 => Just(String::new()), 1 => (256_usize..2_000).prop_map(|bytes| "l".repeat(bytes))]
}

fn fitting(text: &str, bytes: usize) -> String {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned()
}

pub(crate) fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap()
}

/// A header value of any type that can be on the wire; numbers that are equal to themselves.
pub(crate) fn value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<i16>().prop_map(|number| AMQPValue::Float(number.into())),
        any::<i32>().prop_map(|number| AMQPValue::Double(number.into())),
        any::<(u8, u32)>().prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
        long_text().prop_map(|text| AMQPValue::LongString(text.into())),
        collection::vec(any::<u8>(), 0..40).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        collection::vec(any::<u8>(), 0..40).prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(|values| AMQPValue::FieldArray(values.into())),
            collection::btree_map(short_text(), inner, 0..4).prop_map(|entries| AMQPValue::FieldTable(table(entries))),
        ]
    })
}

/// Headers that nobody has a meaning for.
pub(crate) fn unknown_headers() -> impl Strategy<Value = FieldTable> {
    let name = short_text().prop_filter("a name with a meaning", |name| {
        !name.starts_with("leveret-") && !name.starts_with("x-") && name != "CC" && name != "BCC"
    });
    collection::btree_map(name, value(), 0..6).prop_map(table)
}

fn table(entries: impl IntoIterator<Item = (String, AMQPValue)>) -> FieldTable {
    entries.into_iter().map(|(name, value)| (short(&name), value)).collect::<std::collections::BTreeMap<_, _>>().into()
}

/// Any properties, with unknown headers.
pub(crate) fn properties() -> impl Strategy<Value = BasicProperties> {
    let texts = collection::vec(option::of(short_text()), 10);
    let numbers = (option::of(any::<u8>()), option::of(any::<u8>()), option::of(any::<u64>()));
    (texts, numbers, option::of(unknown_headers())).prop_map(|(texts, (mode, priority, timestamp), headers)| {
        let mut properties = BasicProperties::default();
        let set: [fn(BasicProperties, ShortString) -> BasicProperties; 10] = [
            BasicProperties::with_content_type,
            BasicProperties::with_content_encoding,
            BasicProperties::with_correlation_id,
            BasicProperties::with_reply_to,
            BasicProperties::with_expiration,
            BasicProperties::with_message_id,
            BasicProperties::with_type,
            BasicProperties::with_user_id,
            BasicProperties::with_app_id,
            BasicProperties::with_cluster_id,
        ];
        for (set, text) in set.into_iter().zip(texts) {
            if let Some(text) = text {
                properties = set(properties, short(&text));
            }
        }
        if let Some(mode) = mode {
            properties = properties.with_delivery_mode(mode);
        }
        if let Some(priority) = priority {
            properties = properties.with_priority(priority);
        }
        if let Some(timestamp) = timestamp {
            properties = properties.with_timestamp(timestamp);
        }
        match headers {
            Some(headers) => properties.with_headers(headers),
            None => properties,
        }
    })
}
