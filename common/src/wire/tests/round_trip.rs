//! What is published is what is read; what is moved loses nothing that it came with.

use std::time::Duration;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame, parse_frame};
use lapin::BasicProperties;
use proptest::{collection, option, prelude::*};

use super::{
    super::{DeadReason, Encoding, Envelope, Failure, Limits, Outgoing, dead, header, retry},
    arbitrary::{long_text, properties, short_text, unknown_headers},
};
use crate::{
    clock::{Clock, UnixMillis},
    message::{InvalidMessage, Message},
    retry::any_backoff,
    task::{TaskId, Unique},
    topology::Names,
};

/// As a broker passes it on: written to bytes and read from them.
fn transported(properties: BasicProperties) -> BasicProperties {
    let header = AMQPContentHeader { class_id: 60, body_size: 0, properties };
    let bytes = gen_frame(&AMQPFrame::Header(1, header))(Vec::new().into()).unwrap().write;
    match parse_frame(bytes.as_slice()).unwrap() {
        (_, AMQPFrame::Header(_, header)) => header.properties,
        (_, other) => panic!("{other:?}"),
    }
}

fn arrived(outgoing: &Outgoing) -> Envelope {
    let properties = transported(outgoing.properties().clone());
    Envelope::decode("mail", false, properties, outgoing.body().to_vec(), &Limits::default()).unwrap()
}

fn outgoing(message: Message) -> Result<Outgoing, InvalidMessage> {
    message.into_outgoing(&Names::new("leveret").unwrap(), &Clock::held(UnixMillis(1_700_000_000_999)))
}

fn failure(error: String) -> Failure {
    Failure { error, kind: "error".to_owned(), at: UnixMillis(77), worker: "w1".to_owned() }
}

proptest! {
    #[test]
    fn a_published_message_is_read_as_it_was_meant(
        (task, id, content_type, reply_to, correlation) in
            (short_text(), short_text(), short_text(), short_text(), option::of(short_text())),
        (key, schedule) in (long_text(), long_text()),
        (not_before, expires_at, tick) in any::<(i64, i64, i64)>(),
        (attempts, timeout_ms, priority) in (1_u32.., 1_u64..=i64::MAX as u64, any::<u8>()),
        (backoff, limit_ms) in (any_backoff(), 1_u64..=i64::MAX as u64),
        (unique, window_ms) in (long_text(), 1_u64..=i64::MAX as u64),
        headers in collection::btree_map(short_text().prop_filter("ours", |name| !name.starts_with("leveret-")), long_text(), 0..5),
        body in collection::vec(any::<u8>(), 0..200),
    ) {
        let mut message = Message::raw(&task, body.clone(), &content_type)
            .id(id.parse().unwrap())
            .queue("mail")
            .reply_to(&reply_to, correlation.as_deref())
            .key(&key)
            .schedule(&schedule, UnixMillis(tick))
            .not_before(UnixMillis(not_before))
            .expires_at(UnixMillis(expires_at))
            .max_attempts(attempts)
            .timeout(Duration::from_millis(timeout_ms))
            .backoff(backoff)
            .give_up_after(Duration::from_millis(limit_ms))
            .unique(&unique, Duration::from_millis(window_ms))
            .priority(priority);
        for (name, value) in &headers {
            message = message.header(name, value.as_str());
        }
        let sent = outgoing(message).unwrap();
        prop_assert_eq!(sent.properties().priority(), &Some(priority));
        prop_assert_eq!(sent.properties().delivery_mode(), &Some(2));
        let envelope = arrived(&sent);
        let facts = &envelope.facts;
        prop_assert_eq!((facts.id.as_str(), facts.id_was_given), (id.as_str(), true));
        prop_assert_eq!(&facts.task, &task);
        prop_assert_eq!(&facts.content_type, &content_type);
        prop_assert_eq!(facts.reply_to.as_deref(), Some(reply_to.as_str()));
        prop_assert_eq!(facts.correlation_id.as_deref(), Some(correlation.as_deref().unwrap_or(&id)));
        prop_assert_eq!(facts.timestamp, Some(1_700_000_000));
        prop_assert_eq!((facts.attempt, facts.max_attempts), (1, Some(attempts)));
        prop_assert_eq!(facts.timeout.map(|timeout| timeout.as_millis()), Some(timeout_ms.into()));
        prop_assert_eq!((facts.not_before, facts.expires_at), (Some(UnixMillis(not_before)), Some(UnixMillis(expires_at))));
        prop_assert_eq!((facts.backoff, facts.give_up_after), (Some(backoff), Some(Duration::from_millis(limit_ms))));
        prop_assert_eq!(facts.unique.as_ref(), Some(&Unique::new(&unique, Duration::from_millis(window_ms))));
        prop_assert_eq!(facts.key.as_deref(), Some(key.as_str()));
        prop_assert_eq!(facts.schedule.as_ref(), Some(&(schedule, UnixMillis(tick))));
        for (name, value) in &headers {
            prop_assert_eq!(envelope.headers.get_str(name), Some(value.as_str()), "{}", name);
        }
        prop_assert_eq!(&envelope.body[..], &body[..]);
    }

    #[test]
    fn a_compressed_body_is_read_as_it_was(
        text in "\\PC{0,300}",
        times in 1_usize..50,
        encoding in prop_oneof![Just(Encoding::Zstd), Just(Encoding::Gzip)],
    ) {
        let body = text.repeat(times);
        let sent = outgoing(Message::raw("task", body.clone(), "text/plain").compress(encoding).compress(encoding)).unwrap();
        let compressed = sent.properties().content_encoding().is_some();
        prop_assert_eq!(compressed, sent.body().len() < body.len());
        prop_assert!(compressed || text.is_empty() || times < 20);
        prop_assert_eq!(&arrived(&sent).body[..], body.as_bytes());
    }

    #[test]
    fn a_text_is_refused_exactly_when_it_has_no_room(bytes in 250_usize..260, which in 0..4) {
        let text = "t".repeat(bytes);
        let message = Message::json("task", &()).unwrap();
        let message = match which {
            0 => Message::json(&text, &()).unwrap(),
            1 => Message::raw("task", "", &text),
            2 => message.reply_to(&text, None),
            _ => message.reply_to("answers", Some(&text)),
        };
        prop_assert_eq!(outgoing(message).is_ok(), bytes <= 255);
        prop_assert_eq!(text.parse::<TaskId>().is_ok(), bytes <= 255);
        prop_assert_eq!(outgoing(Message::json("task", &()).unwrap().header(&text, 1)).is_ok(), bytes <= 255);
    }

    #[test]
    fn whatever_is_moved_keeps_its_unknown_headers_its_body_and_its_id(
        properties in properties(),
        body in collection::vec(any::<u8>(), 0..100),
        error in long_text(),
    ) {
        let properties = transported(properties);
        let decoded = Envelope::decode("mail", false, properties.clone(), body.clone(), &Limits::default());
        let envelope = decoded.unwrap_or_else(|unreadable| *unreadable.envelope);
        let failure = failure(error.clone());
        let moves = [
            retry(&envelope, "mail", "mail.retry.1s", 2, UnixMillis(5), Some(&failure)).unwrap(),
            retry(&envelope, "mail", "mail.retry.1s", 1, UnixMillis(5), None).unwrap(),
            dead(&envelope, "mail", "leveret.dead", DeadReason::Exhausted, &failure).unwrap(),
            dead(&envelope, "mail", "leveret.dead", DeadReason::Undecodable, &failure).unwrap(),
        ];
        for moved in moves {
            let kept = transported(moved.properties().clone());
            for (name, value) in properties.headers().iter().flat_map(|headers| headers.inner()) {
                prop_assert_eq!(kept.headers().as_ref().unwrap().inner().get(name), Some(value), "{}", name);
            }
            prop_assert_eq!(moved.body(), &body[..]);
            prop_assert_eq!(kept.message_id().as_ref().unwrap().as_str(), envelope.facts.id.as_str());
            prop_assert_eq!(kept.kind(), properties.kind());
            prop_assert_eq!(kept.content_type(), properties.content_type());
            prop_assert_eq!(kept.content_encoding(), properties.content_encoding());
            prop_assert_eq!(kept.correlation_id(), properties.correlation_id());
            prop_assert_eq!(kept.reply_to(), properties.reply_to());
            prop_assert_eq!(kept.timestamp(), properties.timestamp());
            prop_assert_eq!(kept.app_id(), properties.app_id());
            prop_assert_eq!(kept.priority(), properties.priority());
            prop_assert_eq!(kept.delivery_mode(), &Some(2));
            prop_assert_eq!((kept.expiration(), kept.user_id()), (&None, &None));
        }
    }

    #[test]
    fn an_error_text_never_makes_a_message_too_large_to_move(
        headers in unknown_headers(),
        ballast in 0_usize..10_000,
        error in prop_oneof![Just("€".repeat(4_000)), long_text()],
    ) {
        let limits = Limits { headers: 16 << 10, ..Limits::default() };
        let mut headers = headers;
        headers.insert("ballast".into(), lapin::types::AMQPValue::LongString(vec![b'b'; ballast].into()));
        let properties = BasicProperties::default().with_type("task".into()).with_headers(headers);
        let envelope = Envelope::decode("mail", false, properties, Vec::new(), &limits).unwrap();
        let moved = dead(&envelope, "mail", "leveret.dead", DeadReason::Exhausted, &failure(error.clone())).unwrap();
        prop_assert!(moved.check_headers(limits.headers).is_ok());
        let moved = arrived(&moved);
        let text = moved.headers.get_str(header::ERROR).unwrap();
        prop_assert!(error.starts_with(text) && text.len() <= 8 << 10);
        // Nothing is cut for less than the limits.
        prop_assert!(text.len() == error.len() || text.len() > 5_000 || ballast > 2_000);
    }
}
