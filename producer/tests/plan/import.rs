//! Calendars from iCalendar and CSV files.

use leveret_producer::plan::{Calendar, DayKind};

fn ical(lines: &str) -> Result<Calendar, String> {
    let text = format!("BEGIN:VCALENDAR\nVERSION:2.0\n{lines}END:VCALENDAR\n");
    Calendar::from_ical("c", &text, DayKind::Off, 2026..=2028).map_err(|error| error.to_string())
}

fn event(lines: &str) -> Result<Calendar, String> {
    ical(&format!("BEGIN:VEVENT\n{lines}END:VEVENT\n"))
}

/// Dates with their kinds: `2026-01-01` or `2026-01-04 work`.
fn days(calendar: &Calendar) -> Vec<String> {
    let day = |(date, day): (&String, &leveret_producer::plan::CalendarDay)| match day.kind {
        DayKind::Off => date.clone(),
        DayKind::Work => format!("{date} work"),
    };
    calendar.days.iter().map(day).collect()
}

#[test]
fn events_are_days_with_a_note() {
    let text = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\nBEGIN:VTIMEZONE\r\nTZID:Europe/Berlin\r\n\
                BEGIN:STANDARD\r\nDTSTART:19701025T030000\r\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10\r\nEND:STANDARD\r\n\
                END:VTIMEZONE\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART;VALUE=DATE:20261224\r\nDTEND;VALUE=DATE:20261227\r\n\
                SUMMARY;LANGUAGE=en:Christmas\\, all\r\n  of it\r\nBEGIN:VALARM\r\nTRIGGER:-PT15M\r\nSUMMARY:not this\r\n\
                END:VALARM\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nDTSTART;X-NOTE=\"a:b;c\";VALUE=DATE:20270101\r\nEND:VEVENT\r\n\
                BEGIN:VEVENT\r\nDTSTART:20270301\r\nSTATUS:CANCELLED\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    let calendar = Calendar::from_ical("de", text, DayKind::Off, 2026..=2028).unwrap();
    assert_eq!(calendar.name, "de");
    assert_eq!(days(&calendar), ["2026-12-24", "2026-12-25", "2026-12-26", "2027-01-01"]);
    assert_eq!(calendar.days["2026-12-25"].note.as_deref(), Some("Christmas, all of it"));
    assert_eq!(calendar.days["2027-01-01"].note, None);
    let work = Calendar::from_ical("w", text, DayKind::Work, 2026..=2028).unwrap();
    assert_eq!(days(&work)[3], "2027-01-01 work");
}

#[test]
fn ends_and_durations() {
    let of = |lines: &str| days(&event(lines).unwrap());
    assert_eq!(of("DTSTART:20260101\nDTEND:20260101\n"), ["2026-01-01"]);
    assert_eq!(of("DTSTART:20260131\nDURATION:P2D\n"), ["2026-01-31", "2026-02-01"]);
    assert_eq!(of("DTSTART:20260101\nDURATION:P1W\n").len(), 7);
    // Some applications name the day behind.
    assert_eq!(of("DTSTART:20260101\nDTEND:20270101\n").len(), 365);
}

#[test]
fn yearly_rules_are_carried_out_for_the_years() {
    let of = |lines: &str| days(&event(lines).unwrap());
    assert_eq!(of("DTSTART:19900501\nRRULE:FREQ=YEARLY\n"), ["2026-05-01", "2027-05-01", "2028-05-01"]);
    assert_eq!(of("DTSTART:20260501\nRRULE:FREQ=YEARLY;COUNT=2\n"), ["2026-05-01", "2027-05-01"]);
    assert_eq!(of("DTSTART:20250501\nRRULE:FREQ=YEARLY;INTERVAL=2;WKST=MO\n"), ["2027-05-01"]);
    assert_eq!(of("DTSTART:20260501\nRRULE:FREQ=YEARLY;UNTIL=20270501T000000Z\n"), ["2026-05-01", "2027-05-01"]);
    assert_eq!(of("DTSTART:20240229\nRRULE:FREQ=YEARLY\n"), ["2028-02-29"]);
    assert_eq!(
        of("DTSTART:20251231\nDTEND:20260102\nRRULE:FREQ=YEARLY\nEXDATE;VALUE=DATE:20271231,20291231\n"),
        ["2026-12-31", "2027-01-01", "2028-12-31", "2029-01-01"]
    );
    // Without a rule the year is that of the event.
    assert_eq!(of("DTSTART:20190501\n"), ["2019-05-01"]);
}

#[test]
fn workdays_are_marked_in_several_ways() {
    let of = |lines: &str| days(&event(&format!("DTSTART:20260214\n{lines}")).unwrap());
    let (work, off) = (["2026-02-14 work"], ["2026-02-14"]);
    assert_eq!(of("CATEGORIES:Holidays,Workday\n"), work);
    assert_eq!(of("X-LEVERET-KIND:work\n"), work);
    assert_eq!(of("SUMMARY:春节 补班 第1天/共2天\n"), work);
    assert_eq!(of("SUMMARY:春节（班）\n"), work);
    assert_eq!(of("SUMMARY:Work on your weekend\n"), off);
    // Our own word counts over all others.
    assert_eq!(of("X-LEVERET-KIND:off\nCATEGORIES:WORK\nSUMMARY:补班\n"), off);
    let work_by_default = Calendar::from_ical(
        "c",
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20260214\nCATEGORIES:HOLIDAY\nEND:VEVENT\nEND:VCALENDAR",
        DayKind::Work,
        2026..=2026,
    );
    assert_eq!(days(&work_by_default.unwrap()), off);
}

#[test]
fn of_apples_calendars_only_what_is_marked_counts() {
    let calendar = ical(
        "BEGIN:VEVENT\nDTSTART;VALUE=DATE:20260214\nSUMMARY;LANGUAGE=zh_CN:春节（班）\nX-APPLE-SPECIAL-DAY:ALTERNATE-WORKDAY\n\
         END:VEVENT\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20260216\nSUMMARY:除夕（休）\nX-APPLE-SPECIAL-DAY:WORK-HOLIDAY\n\
         END:VEVENT\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20260303\nSUMMARY:元宵节\nEND:VEVENT\n",
    );
    assert_eq!(days(&calendar.unwrap()), ["2026-02-14 work", "2026-02-16"]);
}

#[test]
fn mistakes_in_ical_are_named_with_their_line() {
    let wrong = [
        (
            "DTSTART:20260101T090000Z\n",
            "line 4: DTSTART has a time: write whole days, such as DTSTART;VALUE=DATE:20270206",
        ),
        ("DTSTART;VALUE=DATE-TIME:20260101\n", "line 4: DTSTART has a time"),
        ("DTSTART:20260230\n", "line 4: \"20260230\" is no day: write year, month and day, such as 20270206"),
        ("DTSTART:2026-01-01\n", "line 4: \"2026-01-01\" is no day"),
        ("SUMMARY:x\n", "line 3: the event has no DTSTART: add the day that it is on"),
        ("DTSTART:20260105\nDTEND:20260101\n", "line 3: the event has -4 days: its DTEND is the first day after it"),
        ("DTSTART:20260105\nDURATION:PT4H\n", "line 5: write whole days or weeks, such as DURATION:P3D"),
        (
            "DTSTART:20260105\nRRULE:FREQ=MONTHLY\n",
            "line 5: only FREQ=YEARLY with INTERVAL, COUNT and UNTIL is understood",
        ),
        ("DTSTART:20260105\nRRULE:FREQ=YEARLY;BYDAY=1MO;BYMONTH=9\n", "line 5: only FREQ=YEARLY"),
        ("DTSTART:20260105\nRDATE:20260107\n", "line 5: RDATE is not understood: write an event for each of its days"),
        ("DTSTART:20260105\nX-LEVERET-KIND:maybe\n", "line 5: write X-LEVERET-KIND:off or X-LEVERET-KIND:work"),
        ("DTSTART:20260105\nnonsense\n", "line 5: \"nonsense\" is no line of iCalendar, which has NAME:VALUE"),
        (
            "DTSTART:20260105\nEND:VEVENT\nBEGIN:VEVENT\nDTSTART:20260105\nCATEGORIES:WORK\n",
            "line 6: 2026-01-05 is both off and work, see line 3 as well: take one of the two out",
        ),
    ];
    for (lines, message) in wrong {
        let error = event(lines).unwrap_err();
        assert!(error.starts_with(message), "wanted: {message}\ngot: {error}");
    }
    let whole = |text: &str| Calendar::from_ical("c", text, DayKind::Off, 2026..=2028).unwrap_err().to_string();
    assert_eq!(whole("X:1\n"), "line 1: an iCalendar file begins with BEGIN:VCALENDAR");
    assert_eq!(whole("BEGIN:VCALENDAR\nBEGIN:VEVENT\n"), "line 2: BEGIN:VEVENT has no END: the file is cut off");
    assert_eq!(whole("BEGIN:VCALENDAR\nEND:VEVENT\n"), "line 2: END:VEVENT ends nothing that is open");
    assert_eq!(ical("").unwrap_err(), "there is no event in it: it needs BEGIN:VEVENT with DTSTART;VALUE=DATE");
}

#[test]
fn the_line_is_that_of_the_file_though_lines_are_folded() {
    let error = event("SUMMARY:a\n b\n\tc\n\nDTSTART:2026\n 0230\n").unwrap_err();
    assert!(error.starts_with("line 8: \"20260230\" is no day"), "{error}");
}

#[test]
fn csv_has_a_day_a_line() {
    let text = "\u{feff}Date,Kind,Note\r\n# 2026\r\n2026-01-01,off\r\n\r\n 2026-01-04 , Work , \"make-up, for \"\"Friday\"\"\" \r\n";
    let calendar = Calendar::from_csv("cn", text).unwrap();
    assert_eq!(days(&calendar), ["2026-01-01", "2026-01-04 work"]);
    assert_eq!(calendar.days["2026-01-04"].note.as_deref(), Some("make-up, for \"Friday\""));
    assert_eq!(calendar.days["2026-01-01"].note, None);
}

#[test]
fn mistakes_in_csv_are_named_with_their_line() {
    let wrong = [
        (
            "date,kind\n2026-02-30,off\n",
            "line 2: \"2026-02-30\" is no date: write year, month and day, such as 2027-02-06",
        ),
        ("2026-1-5,off\n", "line 1: \"2026-1-5\" is no date"),
        ("\n2026-01-05,free\n", "line 2: \"free\" is no kind of day: write off or work"),
        ("2026-01-05\n", "line 1: it has 1 fields: write date,kind,note, a note with a comma in quotes"),
        ("2026-01-05,off,a,b\n", "line 1: it has 4 fields"),
        ("2026-01-05,off,\"a\n", "line 1: a quote has no end: close it, and write two quotes for one inside"),
        ("2026-01-05,off\n2026-01-05,off\n", "line 2: 2026-01-05 is there twice, see line 1: keep one"),
        ("date,kind,note\n", "there is no day in it: write lines such as 2026-02-14,work,Spring Festival"),
    ];
    for (text, message) in wrong {
        let error = Calendar::from_csv("cn", text).unwrap_err().to_string();
        assert!(error.starts_with(message), "wanted: {message}\ngot: {error}");
    }
    assert!(Calendar::from_csv("a b", "2026-01-05,off").unwrap_err().to_string().contains("cannot name a calendar"));
}
