use opentelemetry::trace::TraceContextExt;
use proptest::prelude::*;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers(pairs: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in pairs {
        headers.insert(name, *value).unwrap();
    }
    headers
}

#[test]
fn a_context_survives_the_way_through_headers() {
    let sent = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "vendor=1,other=2"), (BAGGAGE, "tenant=a%20b;p=1")]);
    let context = TraceContext::read(&sent).unwrap();
    assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(context.sampled());
    let mut received = Headers::default();
    context.write(&mut received);
    assert_eq!(received, sent);
}

#[test]
fn malformed_parents_are_ignored() {
    let zeroes = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
    let bad = ["", "garbage", zeroes, &PARENT.to_uppercase(), &PARENT[..54], &PARENT.replace("00-", "ff-")];
    for text in bad {
        assert_eq!(TraceContext::read(&headers(&[(TRACEPARENT, text)])), None, "{text}");
    }
    assert_eq!(TraceContext::read(&headers(&[(TRACEPARENT, &format!("{PARENT}-more"))])), None);
}

#[test]
fn a_later_version_may_append_more() {
    let longer = format!("{}-more", PARENT.replacen("00-", "01-", 1));
    let context = TraceContext::read(&headers(&[(TRACEPARENT, &longer)])).unwrap();
    assert_eq!(context.traceparent(), PARENT);
}

#[test]
fn a_malformed_state_or_oversized_baggage_is_dropped_alone() {
    let huge = "k=".to_owned() + &"v".repeat(MAX_BAGGAGE);
    let context = TraceContext::read(&headers(&[(TRACEPARENT, PARENT), (TRACESTATE, "no-value"), (BAGGAGE, &huge)]));
    let context = context.unwrap();
    assert_eq!((context.tracestate(), context.baggage()), (None, None));
}

#[test]
fn a_parent_chosen_by_the_caller_is_kept() {
    let chosen = PARENT.replace("4bf9", "aaaa");
    let mut message = headers(&[(TRACEPARENT, &chosen)]);
    TraceContext::read(&headers(&[(TRACEPARENT, PARENT)])).unwrap().write(&mut message);
    assert_eq!(message.get_str(TRACEPARENT), Some(chosen.as_str()));
}

#[tokio::test]
async fn without_any_subscriber_a_handler_passes_on_what_came_in() {
    let remote = TraceContext::read(&headers(&[(TRACEPARENT, PARENT), (BAGGAGE, "tenant=a%2Cb")])).unwrap();
    let attempt = Attempt { task_id: "1", task: "t", queue: "q", attempt: 3, deferred: false };
    let span = attempt.span(Some(&remote));
    assert_eq!(span.instrument(async { TraceContext::current() }).await, Some(remote));
    let tenant = span.in_scope(|| Context::current().baggage().get("tenant").map(ToString::to_string));
    assert_eq!(tenant.as_deref(), Some("a,b"));
    assert_eq!(TraceContext::current(), None, "nothing is left behind");
}

#[test]
fn an_invalid_current_span_is_no_context() {
    let _attached = Context::new().with_remote_span_context(SpanContext::empty_context()).attach();
    assert_eq!(TraceContext::current(), None);
}

proptest! {
    #[test]
    fn reading_never_panics(parent in ".{0,80}", state in ".{0,40}", baggage in ".{0,80}") {
        let read = TraceContext::read(&headers(&[(TRACEPARENT, &parent), (TRACESTATE, &state), (BAGGAGE, &baggage)]));
        prop_assert!(read.is_none_or(|context| context.to_context().has_active_span()));
    }

    #[test]
    fn any_context_of_a_valid_parent_can_be_used(state in ".{0,40}", baggage in "[ -~]{0,80}") {
        let context = TraceContext::read(&headers(&[(TRACEPARENT, PARENT), (TRACESTATE, &state), (BAGGAGE, &baggage)]));
        prop_assert!(context.unwrap().to_context().span().span_context().is_valid());
    }

    #[test]
    fn every_well_formed_parent_is_read_back(trace in 1u128.., span in 1u64.., sampled in any::<bool>()) {
        let text = format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled));
        let context = TraceContext::read(&headers(&[(TRACEPARENT, &text)])).unwrap();
        prop_assert_eq!(context.traceparent(), text);
        prop_assert_eq!(context.sampled(), sampled);
    }
}
