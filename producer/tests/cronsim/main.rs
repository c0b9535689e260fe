//! Unix cron against cronsim, an independent implementation of what Debian's cron does, over a decade in seven zones
//! whose clocks leap in odd ways. `tests/foreign/cronsim_oracle.py` asks it.
//!
//! Known to differ, and how it is dealt with:
//!
//! * cronsim takes `5/15`, which cron refuses, and reads `5-5/15` as that: neither is asked.
//! * Of several fixed times within one leap it makes one run: so do we.
//! * It refuses impossible dates, and so do we; both have to refuse the same. It gives up after fifty years; no
//!   expression takes as long from where it is asked.
//! * Asked for fixed times in the second pass of an hour, it answers with times of the first, which are over: it is
//!   asked the day before.
//! * It goes through the hours of an interval in steps of one real hour from a whole one. Where a clock leaps by half an
//!   hour, or not at a whole hour, or over midnight, it so loses or makes up minutes, or finds no end. There it is only
//!   asked which local times match, and the script goes through all minutes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod decade;
mod random;

use std::{fmt::Write as _, time::Duration};

use leveret_common::clock::UnixMillis;
use leveret_producer::schedule::{Expression, ExpressionError, Timetable, Zone};
use leveret_testkit::foreign;
use serde_json::{Value, json};

use decade::Decade;
use random::Random;

/// Each with the first year of the decade, and whether its clocks leap at whole hours by whole hours, and not over
/// midnight.
const ZONES: [(&str, i16, bool); 7] = [
    ("America/New_York", 2020, true),
    ("Europe/Riga", 2020, true),
    ("Australia/Lord_Howe", 2020, false),
    ("Pacific/Chatham", 2020, false),
    ("Africa/Cairo", 2020, false),
    ("Antarctica/Troll", 2020, true),
    // With the day that is missing, 2011-12-30.
    ("Pacific/Apia", 2006, false),
];
const SEED: u64 = 20_261_127;
const EXPRESSIONS: usize = 7_000;
/// How many times are compared from each start on.
const COUNT: usize = 4;
/// How far the script goes where it goes through all minutes.
const HORIZON: i64 = 100 * 86_400;
/// A leap so short before a start still counts as one on the way.
const ABOUT: i64 = 7_200;
const PATIENCE: Duration = Duration::from_secs(300);

/// An expression in a zone, and moments from which on it is asked for.
struct Question<'a> {
    expression: String,
    decade: &'a Decade,
    /// `None` where we refuse the expression.
    timetable: Option<Timetable>,
    starts: Vec<Start>,
}

struct Start {
    at: i64,
    /// Whether the script goes through all minutes.
    walk: bool,
    ours: Vec<i64>,
}

impl<'a> Question<'a> {
    fn new(random: &mut Random, decade: &'a Decade) -> Self {
        let expression = random.expression();
        let fields: Vec<_> = expression.split(' ').collect();
        let interval = fields[0].starts_with('*') || fields[1].starts_with('*');
        let timetable = match Expression::unix(&expression) {
            Ok(read) => Some(Timetable::new(read, Zone::named(decade.zone).unwrap())),
            Err(ExpressionError::Never { .. }) => None,
            Err(error) => unreachable!("{expression}: {error}"),
        };
        let starts = decade.starts(random, !interval).into_iter().map(|at| {
            let upcoming = timetable.iter().flat_map(|timetable| timetable.upcoming(UnixMillis(at * 1_000)));
            let mut ours: Vec<_> = upcoming.take(COUNT).map(|at| at.0 / 1_000).collect();
            let last = ours.last().copied().unwrap_or(at);
            let walk = interval && !decade.even && decade.changes_within(at - ABOUT, last);
            ours.retain(|time| !walk || *time <= at + HORIZON);
            Start { at, walk, ours }
        });
        Self { starts: starts.collect(), expression, decade, timetable }
    }

    fn line(&self) -> String {
        let starts: Vec<_> = self.starts.iter().map(|start| json!([start.at, start.walk])).collect();
        json!({ "expression": self.expression, "zone": self.decade.zone, "starts": starts, "count": COUNT }).to_string()
    }

    /// What is different, in words.
    fn differences(&self, answer: &Value) -> String {
        let mut said = String::new();
        let Some(theirs) = answer.as_array() else {
            if self.timetable.is_some() {
                let _ = writeln!(said, "{}: cronsim refuses it: {answer}", self.expression);
            }
            return said;
        };
        if self.timetable.is_none() {
            let _ = writeln!(said, "{}: we refuse it, cronsim does not", self.expression);
            return said;
        }
        for (start, theirs) in self.starts.iter().zip(theirs) {
            if json!(start.ours) != *theirs {
                let (zone, at) = (self.decade.zone, self.decade.local(start.at));
                let theirs: Vec<_> = theirs.as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
                let local = |times: &[i64]| times.iter().map(|at| self.decade.local(*at)).collect::<Vec<_>>();
                let (ours, theirs) = (local(&start.ours), local(&theirs));
                let _ =
                    writeln!(said, "{} in {zone} from {at}\n  ours   {ours:?}\n  theirs {theirs:?}", self.expression);
            }
        }
        said
    }
}

#[tokio::test]
async fn cronsim_names_the_same_moments() {
    println!("seed {SEED}");
    let mut random = Random(SEED);
    let decades = ZONES.map(|(zone, year, even)| Decade::new(zone, year, even));
    let questions: Vec<_> =
        decades.iter().cycle().take(EXPRESSIONS).map(|decade| Question::new(&mut random, decade)).collect();
    let input: String = questions.iter().map(|question| question.line() + "\n").collect();

    let output = foreign::python("cronsim_oracle.py", &[], &input, PATIENCE).await;
    let answers: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), questions.len());

    let said: String = questions.iter().zip(&answers).map(|(question, answer)| question.differences(answer)).collect();
    let starts = || questions.iter().flat_map(|question| &question.starts);
    let times: usize = starts().map(|start| start.ours.len()).sum();
    let walked = starts().filter(|start| start.walk).count();
    let refused = questions.iter().filter(|question| question.timetable.is_none()).count();
    println!(
        "{EXPRESSIONS} expressions, {refused} refused by both; {times} times; from {walked} starts minute by minute"
    );
    assert!(said.is_empty(), "{said}");
    // Every change of every zone in its decade lay among the times of something.
    for decade in &decades {
        let seen = |change: &i64| {
            let of_zone = questions.iter().filter(|question| question.decade.zone == decade.zone);
            of_zone
                .flat_map(|question| &question.starts)
                .any(|start| start.at < *change && start.ours.last().is_some_and(|last| last >= change))
        };
        assert!(decade.changes.iter().all(seen), "{}", decade.zone);
    }
    assert!(times > 100_000 && refused < EXPRESSIONS / 20);
}
