//! The messages of `tests/fixtures` are read, made and moved as they say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports by failing")]

#[path = "../../tests/fixtures/calls.rs"]
mod calls;

use std::{collections::BTreeMap, path::Path, time::Duration};

use lapin::{
    BasicProperties,
    types::{AMQPValue, DecimalValue, FieldTable, ShortString},
};
use leveret_common::{
    clock::{Clock, UnixMillis},
    headers::{HeaderValue, Headers},
    message::Message,
    retry::Backoff,
    task::Unique,
    topology::Names,
    wire::{self, DeadReason, Envelope, Facts, Failure, Limits, Outgoing, Unreadable},
};
use serde_json::{Map, Value, json};

fn fixtures(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(file);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn base64(text: &Value) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("{text} is no base64"),
    };
    let text = text.as_str().unwrap().trim_end_matches('=');
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes() {
        (bits, held) = (bits << 6 | u32::from(digit(byte)), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

fn body(value: &Value) -> Vec<u8> {
    match value.get("text") {
        Some(text) => text.as_str().unwrap().into(),
        None => base64(&value["base64"]),
    }
}

fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap()
}

fn header(value: &Value) -> AMQPValue {
    let object = match value {
        Value::Null => return AMQPValue::Void,
        Value::Bool(flag) => return AMQPValue::Boolean(*flag),
        Value::String(text) => return AMQPValue::LongString(text.as_str().into()),
        Value::Object(object) => object,
        other => panic!("no header value: {other}"),
    };
    let (kind, value) = object.iter().next().unwrap();
    let number = || value.as_i64().unwrap();
    match kind.as_str() {
        "int8" => AMQPValue::ShortShortInt(number().try_into().unwrap()),
        "uint8" => AMQPValue::ShortShortUInt(number().try_into().unwrap()),
        "int16" => AMQPValue::ShortInt(number().try_into().unwrap()),
        "uint16" => AMQPValue::ShortUInt(number().try_into().unwrap()),
        "int32" => AMQPValue::LongInt(number().try_into().unwrap()),
        "uint32" => AMQPValue::LongUInt(number().try_into().unwrap()),
        "int64" => AMQPValue::LongLongInt(number()),
        "float" => AMQPValue::Float(value.as_f64().unwrap() as f32),
        "double" => AMQPValue::Double(value.as_f64().unwrap()),
        "timestamp" => AMQPValue::Timestamp(value.as_u64().unwrap()),
        "decimal" => {
            let part = |at: usize| value[at].as_u64().unwrap();
            let (scale, value) = (part(0).try_into().unwrap(), part(1).try_into().unwrap());
            AMQPValue::DecimalValue(DecimalValue { scale, value })
        }
        "bytes" => AMQPValue::ByteArray(base64(value).into()),
        "text" => AMQPValue::LongString(base64(value).into()),
        "array" => AMQPValue::FieldArray(value.as_array().unwrap().iter().map(header).collect::<Vec<_>>().into()),
        "table" => AMQPValue::FieldTable(table(value.as_object().unwrap())),
        other => panic!("no type of a header: {other}"),
    }
}

fn table(headers: &Map<String, Value>) -> FieldTable {
    headers.iter().map(|(name, value)| (short(name), header(value))).collect::<BTreeMap<_, _>>().into()
}

/// The properties and headers of an entry, or of a part of one.
fn properties(entry: &Value) -> BasicProperties {
    let mut properties = BasicProperties::default();
    for (name, value) in entry["properties"].as_object().into_iter().flatten() {
        let number = || value.as_u64().unwrap();
        let text = || short(value.as_str().unwrap());
        properties = match name.as_str() {
            "content_type" => properties.with_content_type(text()),
            "content_encoding" => properties.with_content_encoding(text()),
            "delivery_mode" => properties.with_delivery_mode(number().try_into().unwrap()),
            "priority" => properties.with_priority(number().try_into().unwrap()),
            "correlation_id" => properties.with_correlation_id(text()),
            "reply_to" => properties.with_reply_to(text()),
            "expiration" => properties.with_expiration(text()),
            "message_id" => properties.with_message_id(text()),
            "timestamp" => properties.with_timestamp(number()),
            "type" => properties.with_type(text()),
            "user_id" => properties.with_user_id(text()),
            "app_id" => properties.with_app_id(text()),
            "cluster_id" => properties.with_cluster_id(text()),
            other => panic!("no property: {other}"),
        };
    }
    match entry.get("headers") {
        Some(headers) => properties.with_headers(table(headers.as_object().unwrap())),
        None => properties,
    }
}

fn decode(entry: &Value) -> Result<Envelope, Unreadable> {
    Envelope::decode("default", false, properties(entry), body(&entry["body"]), &Limits::default())
}

/// The facts of a message with nothing in it, and what `read` says of this one.
fn facts(read: &Value, found: &Facts) -> Facts {
    let text = |name: &str| read.get(name).map(|text| text.as_str().unwrap().to_owned());
    let time = |name: &str| read.get(name).map(|time| UnixMillis(time.as_i64().unwrap()));
    let count = |name: &str| read.get(name).map(|count| count.as_u64().unwrap().try_into().unwrap());
    let length = |name: &str| read.get(name).map(|ms| Duration::from_millis(ms.as_u64().unwrap()));
    let id = text("id");
    Facts {
        id_was_given: id.is_some(),
        id: id.map_or_else(|| found.id.clone(), |id| id.parse().unwrap()),
        task: text("task").unwrap(),
        content_type: text("content_type").unwrap_or_else(|| "application/json".to_owned()),
        reply_to: text("reply_to"),
        correlation_id: text("correlation_id"),
        timestamp: read.get("timestamp").map(|seconds| seconds.as_u64().unwrap()),
        attempt: count("attempt").unwrap_or(1),
        max_attempts: count("max_attempts"),
        backoff: text("backoff").map(|backoff| backoff.parse().unwrap()),
        give_up_after: length("give_up_after_ms"),
        timeout: length("timeout_ms"),
        not_before: time("not_before"),
        expires_at: time("expires_at"),
        limited_since: time("limited_since"),
        key: text("key"),
        unique: read
            .get("unique")
            .map(|unique| Unique::new(unique[0].as_str().unwrap(), Duration::from_millis(unique[1].as_u64().unwrap()))),
        route: text("route").map(|route| route.parse().unwrap()),
        forwards: count("forwards").unwrap_or(0),
        share: read.get("share").map(|share| serde_json::from_value(share.clone()).unwrap()),
        schedule: read
            .get("schedule")
            .map(|tick| (tick[0].as_str().unwrap().to_owned(), UnixMillis(tick[1].as_i64().unwrap()))),
        first_failed_at: time("first_failed_at"),
        lost_leases: count("lost_leases").unwrap_or(0),
        redelivered: false,
        replayed: read["replayed"].as_bool().unwrap_or(false),
        replays: count("replays").unwrap_or(0),
    }
}

#[test]
fn what_comes_in_is_read_or_parked() {
    for entry in fixtures("in.json") {
        let name = &entry["name"];
        let parked = entry.get("parked").filter(|parked| parked["reason"] == "undecodable");
        match (decode(&entry), parked) {
            (Ok(envelope), None) => {
                // What is parked for another reason is read first.
                let Some(read) = entry.get("read") else { continue };
                assert_eq!(envelope.facts, facts(read, &envelope.facts), "{name}");
                assert_eq!(envelope.body, body(read.get("body").unwrap_or(&entry["body"])), "{name}");
                let headers = entry["headers"].as_object().map(table).unwrap_or_default();
                assert_eq!(envelope.headers, Headers::from(headers), "{name}");
            }
            (Err(unreadable), Some(parked)) => {
                assert_eq!(unreadable.kind, parked["kind"], "{name}");
                if !parked["error"].is_null() {
                    assert_eq!(unreadable.error, parked["error"], "{name}");
                }
            }
            (Ok(envelope), Some(_)) => panic!("{name}: read as {:?}", envelope.facts),
            (Err(unreadable), None) => panic!("{name}: {unreadable}"),
        }
    }
}

#[test]
fn a_backoff_is_what_it_says() {
    for entry in fixtures("backoffs.json") {
        let text = entry["text"].as_str().unwrap();
        match (text.parse::<Backoff>(), entry["error"].as_str()) {
            (Ok(backoff), None) => {
                assert_eq!(backoff.to_string(), entry["written"].as_str().unwrap_or(text));
                let bounds = (1..=5).map(|attempt| backoff.bound_after(attempt).as_millis() as u64);
                assert_eq!(json!(bounds.collect::<Vec<_>>()), entry["bounds_ms"], "{text}");
            }
            (Err(error), Some(expected)) => {
                assert_eq!(error.to_string(), format!("{text:?} is no backoff: {expected}"));
            }
            (Ok(_), Some(_)) => panic!("{text:?} should be refused"),
            (Err(error), None) => panic!("{error}"),
        }
    }
}

#[test]
fn what_goes_out_looks_as_it_says() {
    for entry in fixtures("out.json") {
        let message = calls::message(&entry["calls"]);
        let clock = Clock::held(UnixMillis(1_700_000_000_123));
        let outgoing = message.into_outgoing(&Names::new("leveret").unwrap(), &clock).unwrap();
        compare(&outgoing, &entry, &entry);
        assert_eq!(outgoing.body(), entry["body"].as_str().unwrap().as_bytes(), "{}", entry["name"]);
    }
}

#[test]
fn what_is_moved_keeps_and_loses_what_it_says() {
    for entry in fixtures("moved.json") {
        let envelope = decode(&entry).unwrap_or_else(|unreadable| *unreadable.envelope);
        let failure = |of: &Value| {
            of.get("failure").map(|failure| Failure {
                error: failure["error"].as_str().unwrap().to_owned(),
                kind: failure["kind"].as_str().unwrap().to_owned(),
                at: UnixMillis(failure["at"].as_i64().unwrap()),
                worker: failure["worker"].as_str().unwrap().to_owned(),
            })
        };
        let moved = match (entry["move"].get("retry"), entry["move"].get("dead")) {
            (Some(retry), _) => {
                let attempt = retry["attempt"].as_u64().unwrap().try_into().unwrap();
                let not_before = UnixMillis(retry["not_before"].as_i64().unwrap());
                let tier = retry["tier"].as_str().unwrap();
                let since = retry.get("limited_since").map(|since| UnixMillis(since.as_i64().unwrap()));
                match since {
                    Some(since) => wire::limited(&envelope, "default", tier, not_before, since),
                    None => wire::retry(&envelope, "default", tier, attempt, not_before, failure(retry).as_ref()),
                }
            }
            (_, Some(dead)) => {
                let reason: DeadReason = serde_json::from_value(dead["reason"].clone()).unwrap();
                wire::dead(&envelope, "default", "leveret.dead", reason, &failure(dead).unwrap())
            }
            _ => panic!("no move: {entry}"),
        };
        let moved = moved.unwrap();
        compare(&moved, &entry, &entry["moved"]);
        assert_eq!(moved.body(), body(&entry["body"]), "{}", entry["name"]);
    }
}

fn compare(outgoing: &Outgoing, entry: &Value, message: &Value) {
    let way = json!({ "exchange": outgoing.exchange(), "routing_key": outgoing.routing_key() });
    assert_eq!(way, json!({ "exchange": entry["exchange"], "routing_key": entry["routing_key"] }), "{}", entry["name"]);
    assert_eq!(outgoing.properties(), &properties(message), "{}", entry["name"]);
}
