//! What each task costs before and after its handler: reading a message, moving one, finding the next tick.
//!
//! `cargo bench`. `leveret bench` measures the whole, against a broker.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use leveret::{
    UnixMillis,
    common::wire::{self, Envelope, Limits},
    producer::schedule::{Expression, Timetable, Zone},
};

fn properties(headers: &[(&'static str, AMQPValue)]) -> BasicProperties {
    let short = |text: &'static str| ShortString::try_new(text).unwrap_or_default();
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short(name), value.clone());
    }
    let properties = BasicProperties::default()
        .with_type(short("bench.idle"))
        .with_message_id(short("0192f0c1-2b3c-7d4e-8f50-617283940a1b"))
        .with_content_type(short("application/json"))
        .with_delivery_mode(2);
    if headers.is_empty() { properties } else { properties.with_headers(table) }
}

fn reading(c: &mut Criterion) {
    let body = vec![b'1'; 200];
    let limits = Limits::default();
    let bare = properties(&[]);
    let rich = properties(&[
        ("leveret-attempt", AMQPValue::LongLongInt(3)),
        ("leveret-max-attempts", AMQPValue::LongLongInt(8)),
        ("leveret-queue", AMQPValue::LongString("default".into())),
        ("traceparent", AMQPValue::LongString("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into())),
        ("x-mine", AMQPValue::Boolean(true)),
    ]);
    for (name, properties) in [("read a task without headers", bare), ("read a task with five headers", rich.clone())] {
        c.bench_function(name, |b| {
            b.iter(|| black_box(Envelope::decode("default", false, properties.clone(), body.clone(), &limits).is_ok()));
        });
    }
    let Ok(envelope) = Envelope::decode("default", false, rich, body, &limits) else { return };
    c.bench_function("move a task to a tier", |b| {
        b.iter(|| black_box(wire::retry(&envelope, "default", "default.retry.5s", 4, UnixMillis(1), None).is_ok()));
    });
}

fn ticking(c: &mut Criterion) {
    let Ok(expression) = Expression::unix("*/5 8-18 * * mon-fri") else { return };
    let timetable = Timetable::new(expression, Zone::named("Europe/Berlin").unwrap_or_else(|_| Zone::utc()));
    c.bench_function("find the next tick in Berlin", |b| {
        b.iter(|| black_box(timetable.next_after(black_box(UnixMillis(1_790_000_000_000)))));
    });
}

criterion_group! {
    name = hot_path;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = reading, ticking
}
criterion_main!(hot_path);
