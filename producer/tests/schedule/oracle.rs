//! A slow oracle looks at every minute of a few days, with another library's idea of local time, and has to find the
//! same moments as the timetable.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, DateTime},
    tz::{AmbiguousOffset, TimeZone},
};
use leveret_common::clock::UnixMillis;
use leveret_producer::schedule::{DayKind, Expression, Fold, Gap, SpecialDays, Timetable, Zone};
use proptest::{collection::vec, prelude::*, sample::select};

const ZONES: [&str; 11] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "America/St_Johns",
    "UTC",
    "Africa/Cairo",
    "Pacific/Chatham",
    "Antarctica/Troll",
    "Pacific/Apia",
];
const DAY: i64 = 86_400;

/// A field as written, and the values that it stands for.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: BTreeSet<i8>,
}

impl Field {
    fn starred(&self) -> bool {
        self.text.starts_with('*')
    }
}

/// One part of a field.
fn part(lowest: i8, highest: i8) -> impl Strategy<Value = Field> {
    let ordered = (lowest..=highest, lowest..=highest).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        3 => Just(Field { text: "*".into(), values: (lowest..=highest).collect() }),
        2 => (1..=highest).prop_map(move |step| Field {
            text: format!("*/{step}"),
            values: (lowest..=highest).step_by(step as usize).collect(),
        }),
        3 => (lowest..=highest).prop_map(|value| Field { text: value.to_string(), values: [value].into() }),
        1 => ordered.clone().prop_map(|(a, b)| Field { text: format!("{a}-{b}"), values: (a..=b).collect() }),
        1 => (ordered, 1..=highest).prop_map(|((a, b), step)| Field {
            text: format!("{a}-{b}/{step}"),
            values: (a..=b).step_by(step as usize).collect(),
        }),
    ]
}

fn field(lowest: i8, highest: i8) -> impl Strategy<Value = Field> {
    vec(part(lowest, highest), 1..3).prop_map(|parts| Field {
        text: parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(","),
        values: parts.into_iter().flat_map(|part| part.values).collect(),
    })
}

#[derive(Clone, Debug)]
struct Fields {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

fn fields() -> impl Strategy<Value = Fields> {
    // Hours about the leaps of the clock come up more often than others.
    let early = field(0, 4).prop_map(|hour| Field { text: hour.text.replace('*', "0-4"), ..hour });
    let hour = prop_oneof![field(0, 23), early];
    let many_months = prop_oneof![3 => Just(Field { text: "*".into(), values: (1..=12).collect() }), 1 => field(1, 12)];
    (field(0, 59), hour, field(1, 31), many_months, field(0, 7))
        .prop_map(|(minute, hour, day, month, weekday)| Fields { minute, hour, day, month, weekday })
}

impl Fields {
    fn text(&self) -> String {
        let fields = [&self.minute, &self.hour, &self.day, &self.month, &self.weekday];
        fields.map(|field| field.text.as_str()).join(" ")
    }

    fn matches(&self, local: DateTime) -> bool {
        self.matches_with(local, None)
    }

    /// The same on a day off or a workday.
    fn matches_with(&self, local: DateTime, special: Option<DayKind>) -> bool {
        let day = self.day.values.contains(&local.day());
        let weekday = local.weekday().to_sunday_zero_offset();
        let weekday = self.weekday.values.contains(&weekday) || weekday == 0 && self.weekday.values.contains(&7);
        let weekday = weekday || special == Some(DayKind::Work);
        let either = !self.day.starred() && !self.weekday.starred();
        special != Some(DayKind::Off)
            && local.second() == 0
            && self.minute.values.contains(&local.minute())
            && self.hour.values.contains(&local.hour())
            && self.month.values.contains(&local.month())
            && if either { day || weekday } else { day && weekday }
    }
}

/// What a timetable is made of.
#[derive(Clone, Debug)]
struct Options {
    gap: Option<Gap>,
    fold: Option<Fold>,
    /// Days after the start that are off or worked on.
    special: Vec<(i64, DayKind)>,
}

fn options() -> impl Strategy<Value = Options> {
    let gap = select(&[None, None, Some(Gap::RunAfter), Some(Gap::Skip)][..]);
    let fold = select(&[None, None, Some(Fold::First), Some(Fold::Both)][..]);
    let special = prop_oneof![Just(Vec::new()), vec((0_i64..4, select(&[DayKind::Off, DayKind::Work][..])), 0..3)];
    (gap, fold, special).prop_map(|(gap, fold, special)| Options { gap, fold, special })
}

/// The oracle: fields in a zone, with policies and special days.
struct Oracle<'a> {
    fields: &'a Fields,
    zone: &'a TimeZone,
    gap: Gap,
    fold: Fold,
    special: BTreeMap<Date, DayKind>,
}

impl<'a> Oracle<'a> {
    fn new(fields: &'a Fields, zone: &'a TimeZone, options: &Options, start: i64) -> Self {
        let (gap, fold) = if fields.minute.starred() || fields.hour.starred() {
            (Gap::Skip, Fold::Both)
        } else {
            (Gap::RunAfter, Fold::First)
        };
        let first = zone.to_datetime(Timestamp::from_second(start).unwrap()).date();
        let mut special = BTreeMap::new();
        for (days, kind) in &options.special {
            // Of two that know a day the first counts.
            special.entry(first + days.days()).or_insert(*kind);
        }
        Self { fields, zone, gap: options.gap.unwrap_or(gap), fold: options.fold.unwrap_or(fold), special }
    }

    fn matches(&self, local: DateTime) -> bool {
        self.fields.matches_with(local, self.special.get(&local.date()).copied())
    }

    /// Whether there is a run at this moment, a whole minute.
    fn runs_at(&self, at: Timestamp) -> bool {
        let local = self.zone.to_datetime(at);
        let first_pass = match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Fold { before, .. } => self.zone.to_offset(at) == before,
            _ => true,
        };
        let counts = first_pass || self.fold == Fold::Both;
        counts && self.matches(local) || self.gap == Gap::RunAfter && self.leapt_over(at, local)
    }

    /// Whether the clock leaps at this very moment, over a time that matches.
    fn leapt_over(&self, at: Timestamp, local: DateTime) -> bool {
        let mut missing = self.zone.to_datetime(at - 1.minute()) + 1.minute();
        while missing < local {
            if self.matches(missing) {
                return true;
            }
            missing += 1.minute();
        }
        false
    }
}

/// A minute at random between 2000 and 2060, or one within a day of a change of the clock.
fn start(zone: &TimeZone, minute: i64, near_change: bool) -> i64 {
    let base = 946_684_800 + minute * 60;
    let change = zone.following(Timestamp::from_second(base).unwrap()).next();
    match change {
        Some(change) if near_change => change.timestamp().as_second() - DAY + minute % 1440 * 60,
        _ => base,
    }
}

proptest! {
    // Four times the usual number, which the environment variable PROPTEST_CASES still scales.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 4, ..ProptestConfig::default() })]

    #[test]
    fn the_timetable_finds_what_a_walk_through_every_minute_finds(
        fields in fields(),
        options in options(),
        zone in select(&ZONES[..]),
        minute in 0_i64..31_500_000,
        near_change in proptest::bool::weighted(0.7),
    ) {
        let Ok(expression) = Expression::unix(&fields.text()) else {
            // Refused as impossible: none of the days of its months may match, whatever the year.
            let leap_year = jiff::civil::date(2024, 1, 1);
            let dates = std::iter::successors(Some(leap_year), |date| date.tomorrow().ok()).take(366 * 41);
            let (minute, hour) = (*fields.minute.values.first().unwrap(), *fields.hour.values.first().unwrap());
            for date in dates {
                prop_assert!(!fields.matches(date.at(hour, minute, 0, 0)), "{} on {date}", fields.text());
            }
            return Ok(());
        };
        let mut timetable = Timetable::new(expression, Zone::named(zone).unwrap());
        let zone = TimeZone::get(zone).unwrap();
        let start = start(&zone, minute, near_change);
        let end = start + 2 * DAY;
        let oracle = Oracle::new(&fields, &zone, &options, start);
        if let Some(gap) = options.gap {
            timetable = timetable.gap(gap);
        }
        if let Some(fold) = options.fold {
            timetable = timetable.fold(fold);
        }
        let special: Vec<_> = oracle.special.iter().map(|(date, kind)| (date.to_string(), *kind)).collect();
        let special = special.iter().map(|(date, kind)| (date.as_str(), *kind));
        timetable = timetable.special_days(SpecialDays::new(special).unwrap());

        let found: Vec<i64> = timetable
            .upcoming(UnixMillis(start * 1_000))
            .map(|at| at.0 / 1_000)
            .take_while(|at| *at <= end)
            .collect();
        let expected: Vec<i64> = (start / 60 + 1..=end / 60)
            .map(|minute| minute * 60)
            .filter(|at| oracle.runs_at(Timestamp::from_second(*at).unwrap()))
            .collect();
        let (after, until) = (UnixMillis(start * 1_000), UnixMillis(end * 1_000));
        let last = timetable.last_within(after, until).map(|at| at.0 / 1_000);
        prop_assert_eq!(last, expected.last().copied(), "{} until {}", fields.text(), end);
        prop_assert_eq!(found, expected, "{} from {}", fields.text(), start);
    }

    #[test]
    fn a_later_question_never_gets_an_earlier_answer(
        fields in fields(),
        zone in select(&ZONES[..]),
        minute in 0_i64..31_500_000,
        near_change in any::<bool>(),
        later_ms in 0_i64..10_000_000,
    ) {
        let Ok(expression) = Expression::unix(&fields.text()) else { return Ok(()) };
        let timetable = Timetable::new(expression, Zone::named(zone).unwrap());
        let first = UnixMillis(start(&TimeZone::get(zone).unwrap(), minute, near_change) * 1_000);
        let second = UnixMillis(first.0 + later_ms);
        let (one, two) = (timetable.next_after(first).unwrap(), timetable.next_after(second).unwrap());
        prop_assert!(one > first && two > second);
        prop_assert!(one <= two);
        // The answer is the same wherever one asks on the way to it.
        prop_assert_eq!(timetable.next_after(UnixMillis(one.0 - 1)), Some(one));
        if one > second {
            prop_assert_eq!(one, two);
        }
    }
}
