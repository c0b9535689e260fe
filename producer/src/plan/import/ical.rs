//! The events of an iCalendar file.

use std::ops::RangeInclusive;

use super::{Calendar, DayKind, Found, InvalidCalendar, event::Event, lines};

pub(super) fn read(
    name: &str,
    text: &str,
    kind: DayKind,
    years: RangeInclusive<i16>,
) -> Result<Calendar, InvalidCalendar> {
    let events = events(text)?;
    // Apple's calendars have festivals as well, which are days like any other.
    let only_marked = events.iter().any(Event::is_marked_by_apple);
    let mut found = Found::default();
    for event in events.iter().filter(|event| !only_marked || event.is_marked()) {
        let kind = event.kind().unwrap_or(kind);
        for date in event.days(&years)? {
            found.add(date, kind, event.note.as_deref(), event.line)?;
        }
    }
    found.calendar(name, "there is no event in it: it needs BEGIN:VEVENT with DTSTART;VALUE=DATE")
}

fn events(text: &str) -> Result<Vec<Event>, InvalidCalendar> {
    let mut events = Vec::new();
    // What is open: `VCALENDAR`, in it `VEVENT`, and perhaps in that `VALARM`, whose lines are its own.
    let mut open: Vec<(String, usize)> = Vec::new();
    let mut event = None;
    for line in lines::lines(text)? {
        match line.name.as_str() {
            "BEGIN" => {
                let component = line.value.to_ascii_uppercase();
                if component == "VEVENT" && event.is_none() {
                    event = Some(Event::begin(line.number));
                }
                open.push((component, line.number));
            }
            "END" => {
                let component = line.value.to_ascii_uppercase();
                if open.pop().is_none_or(|(opened, _)| opened != component) {
                    return Err(InvalidCalendar::new(
                        line.number,
                        format!("END:{component} ends nothing that is open"),
                    ));
                }
                if component == "VEVENT"
                    && let Some(event) = event.take()
                    && !event.cancelled
                {
                    events.push(event);
                }
            }
            _ if open.is_empty() => {
                return Err(InvalidCalendar::new(line.number, "an iCalendar file begins with BEGIN:VCALENDAR"));
            }
            _ if open.last().is_some_and(|(component, _)| component == "VEVENT") => {
                if let Some(event) = &mut event {
                    event.read(&line)?;
                }
            }
            _ => {}
        }
    }
    match open.pop() {
        Some((component, line)) => {
            Err(InvalidCalendar::new(line, format!("BEGIN:{component} has no END: the file is cut off")))
        }
        None => Ok(events),
    }
}
