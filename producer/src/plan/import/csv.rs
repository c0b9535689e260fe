//! `date,kind,note`.

use jiff::civil::Date;

use super::{Calendar, DayKind, Found, InvalidCalendar};

pub(super) fn read(name: &str, text: &str) -> Result<Calendar, InvalidCalendar> {
    let mut found = Found::default();
    let mut first = true;
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = at + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields = fields(line).ok_or_else(|| {
            InvalidCalendar::new(number, "a quote has no end: close it, and write two quotes for one inside")
        })?;
        let header =
            std::mem::take(&mut first) && fields.first().is_some_and(|field| field.eq_ignore_ascii_case("date"));
        if header {
            continue;
        }
        let (date, kind, note) = match fields.as_slice() {
            [date, kind] => (date, kind, None),
            [date, kind, note] => (date, kind, Some(note.as_str())),
            _ => {
                let fix =
                    format!("it has {} fields: write date,kind,note, a note with a comma in quotes", fields.len());
                return Err(InvalidCalendar::new(number, fix));
            }
        };
        let date = self::date(date).ok_or_else(|| {
            InvalidCalendar::new(number, format!("{date:?} is no date: write year, month and day, such as 2027-02-06"))
        })?;
        let kind = match kind.to_ascii_lowercase().as_str() {
            "off" => DayKind::Off,
            "work" => DayKind::Work,
            _ => return Err(InvalidCalendar::new(number, format!("{kind:?} is no kind of day: write off or work"))),
        };
        if let Some((_, earlier)) = found.days.get(&date) {
            return Err(InvalidCalendar::new(number, format!("{date} is there twice, see line {earlier}: keep one")));
        }
        found.add(date, kind, note, number)?;
    }
    found.calendar(name, "there is no day in it: write lines such as 2026-02-14,work,Spring Festival")
}

/// A date written in one way only.
fn date(text: &str) -> Option<Date> {
    text.parse().ok().filter(|date: &Date| date.to_string() == text)
}

/// The fields of a line, without blanks around them; `None` when a quote has no end.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (field, after) = unquoted(quoted)?;
                (field, after.trim_start())
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].trim().to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

/// What is up to the closing quote, two quotes being one, and what is behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, after)),
        }
    }
}
