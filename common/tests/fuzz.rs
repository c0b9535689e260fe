//! Texts from outside: none makes a parser panic, and what a parser took can be written and read again.

#![allow(clippy::unwrap_used, reason = "a test reports by failing")]

use std::fmt::Display;

use leveret_common::{
    config::BrokerUrl,
    duration,
    headers::Headers,
    retry::{Backoff, Tiers},
    task::TaskId,
    topology::{Names, QueueName},
    trace_context::TraceContext,
};

/// Texts that are put together from the words of a small language, so that many of them mean something.
fn texts(words: &'static [&'static str], test: impl Fn(&str) + std::panic::RefUnwindSafe) {
    bolero::check!().with_type::<(String, Vec<(u8, Option<u16>)>)>().with_iterations(8_000).for_each(
        move |(raw, parts)| {
            test(raw);
            let parts = parts.iter().map(|(word, number)| {
                let number = number.map(|number| number.to_string()).unwrap_or_default();
                format!("{number}{}", words[usize::from(*word) % words.len()])
            });
            test(&parts.collect::<String>());
        },
    );
}

fn read_back<T: std::str::FromStr + Display + PartialEq + std::fmt::Debug>(text: &str)
where
    T::Err: std::fmt::Debug,
{
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().unwrap(), value, "{text:?}");
    }
}

#[test]
fn lengths_of_time() {
    const WORDS: &[&str] = &[
        "ms",
        "s",
        "m",
        "h",
        "days",
        "month",
        "y",
        "us",
        "ns",
        " ",
        "..",
        "-",
        "18446744073709551615",
        ",",
        " x3",
        " equal",
        "linear ",
        " none",
    ];
    texts(WORDS, |text| {
        if let Ok(length) = duration::parse(text) {
            assert_eq!(duration::parse(&duration::format(length)), Ok(length), "{text:?}");
        }
        read_back::<Backoff>(text);
        if let Ok(backoff) = text.parse::<Backoff>() {
            for attempt in [0, 1, 2, 40, u32::MAX] {
                assert!(backoff.delay_after(attempt) <= backoff.bound_after(attempt));
            }
        }
        if let Ok(tiers) = Tiers::try_from(text.split(' ').map(str::to_owned).collect::<Vec<_>>()) {
            let written: Vec<String> = tiers.clone().into();
            assert_eq!(Tiers::try_from(written), Ok(tiers));
        }
    });
}

#[test]
fn broker_urls() {
    const WORDS: &[&str] =
        &["amqp://", "amqps://", "host", ":", "@", "/", "%2f", "?", "heartbeat=", "&", "[::1]", "guest", "#", "%zz"];
    texts(WORDS, |text| match text.parse::<BrokerUrl>() {
        Ok(url) => assert!(!url.vhost().is_empty() && !format!("{url} {url:?}").is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    });
    // A password is not shown, wherever the mistake is.
    const HOSTS: &[&str] = &["host", "/", ":", "%", "?", " ", "[", "]"];
    texts(HOSTS, |text| {
        for scheme in ["amqp://", "amqps://", "http://", "amqp:/", "amqp//", ""] {
            let text = format!("{scheme}me:s3cret@{text}");
            let shown = match text.parse::<BrokerUrl>() {
                Ok(url) => format!("{url} {url:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("s3cret"), "{text:?} is shown as {shown:?}");
        }
    });
}

#[test]
fn names_and_ids() {
    const WORDS: &[&str] = &["mail", "-", "_", ".", "#", "*", "ä", "\0"];
    texts(WORDS, |text| {
        read_back::<QueueName>(text);
        read_back::<TaskId>(text);
        assert_eq!(QueueName::new(text).is_ok(), Names::new(text).is_ok());
    });
}

#[test]
fn trace_contexts() {
    const WORDS: &[&str] = &[
        "00-",
        "0af7651916cd43dd8448eb211c80319c",
        "b7ad6b7169203331",
        "-",
        "-01",
        "ff",
        "=",
        ",",
        ";",
        "%41",
        "%",
        "€",
    ];
    texts(WORDS, |text| {
        let mut headers = Headers::default();
        headers.insert("traceparent", text).unwrap();
        assert!(TraceContext::read(&headers).is_none_or(|trace| text.contains(&trace.trace_id())));
        headers.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        headers.insert("tracestate", text).unwrap();
        headers.insert("baggage", text).unwrap();
        let trace = TraceContext::read(&headers).unwrap();
        let mut written = Headers::default();
        trace.write(&mut written);
        assert_eq!(TraceContext::read(&written), Some(trace));
    });
}
