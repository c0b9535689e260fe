//! Whatever the text is, it is taken or refused, in words, and what was taken has times in order.

use leveret_common::clock::UnixMillis;
use leveret_producer::{
    plan::{Calendar, DayKind, Plan},
    schedule::{Expression, Gap, Zone},
};
use proptest::prelude::*;
use serde_json::json;

use crate::check;

/// Texts of the letters that have a meaning somewhere.
fn text(letters: &'static str) -> impl Strategy<Value = String> {
    let letter = proptest::sample::select(letters.chars().collect::<Vec<_>>());
    proptest::collection::vec(letter, 0..40).prop_map(|letters| letters.into_iter().collect())
}

proptest! {
    #[test]
    fn expressions(text in text("0123456789*/-,()H @?LW#dailymonfr\u{e9}"), key in proptest::sample::select(&["cron", "quartz"][..])) {
        let _ = (Expression::unix_of("n", &text), Expression::quartz_of("n", &text));
        if let Ok(plan) = check("n", json!({ key: text }), &[]) {
            let one = plan.next_after(UnixMillis(0));
            let two = one.and_then(|one| plan.next_after(one.scheduled_at));
            prop_assert!(two.is_none_or(|two| one.is_some_and(|one| one < two)));
        }
    }

    #[test]
    fn spreads(range in any::<Option<(u32, u32)>>(), step in any::<Option<u32>>(), fields in 1_usize..7) {
        let range = range.map(|(from, to)| format!("({from}-{to})")).unwrap_or_default();
        let step = step.map(|step| format!("/{step}")).unwrap_or_default();
        let text = vec![format!("H{range}{step}"); fields].join(" ");
        for read in [Expression::unix_of("n", &text), Expression::quartz_of("n", &text)] {
            // What is taken shows numbers, and what is not says why.
            match read {
                Ok(expression) => prop_assert!(!expression.to_string().contains('H')),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn moments(text in "\\PC{0,30}|[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?)?") {
        let zone = Zone::named("Pacific/Apia").unwrap();
        for gap in [Gap::RunAfter, Gap::Skip] {
            if let Ok(at) = zone.read(&text, gap) {
                prop_assert!(at >= UnixMillis(0));
                let once = json!({ "at": text, "timezone": "Pacific/Apia", "gap": gap });
                prop_assert_eq!(check("n", once, &[]).unwrap().next_after(UnixMillis(at.0 - 1)).unwrap().scheduled_at, at);
            }
        }
    }

    #[test]
    fn payloads(text in text("{}numberkidx \u{1f407}")) {
        let checked = Plan::check_payload(&json!([text]));
        let saved = check("n", json!({ "every": "1m", "payload": [text] }), &[]);
        prop_assert_eq!(checked.is_ok(), saved.is_ok());
    }

    #[test]
    fn calendars(
        lines in proptest::collection::vec(
            "(DTSTART|DTEND|EXDATE)(;VALUE=DATE)?:(19|20)[0-9]{6}|RRULE:FREQ=YEARLY(;(COUNT|INTERVAL|UNTIL)=[0-9]{1,8})?\
             |DURATION:P[0-9]{1,3}[DW]|SUMMARY:\\PC{0,9}|(BEGIN|END):(VEVENT|VALARM)| \\PC{0,5}|[0-9,a-z\"-]{0,20}",
            0..12,
        ),
    ) {
        let text = lines.join("\r\n");
        let event = format!("BEGIN:VCALENDAR\nBEGIN:VEVENT\n{text}\nEND:VEVENT\nEND:VCALENDAR");
        for calendar in [
            Calendar::from_ical("c", &text, DayKind::Off, 2020..=2030),
            Calendar::from_ical("c", &event, DayKind::Off, 2020..=2030),
            Calendar::from_csv("c", &text),
        ] {
            match calendar {
                Ok(calendar) => prop_assert!(!calendar.days.is_empty() && calendar.check().is_ok()),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}
