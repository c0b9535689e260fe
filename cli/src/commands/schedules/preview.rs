//! `leveret schedules preview`.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};
use leveret::{
    Clock, UnixMillis,
    common::duration,
    producer::{
        plan::{Definition, Fold, Gap, Plan},
        schedule::{Expression, ExpressionError, FireTime, Zone},
    },
};
use serde::Serialize;
use serde_json::json;

use crate::{
    failure::{Exit, Failure},
    output::{Report, table, write_table},
    session::Session,
};

/// The name for a schedule that has none: nothing follows from it.
const NAMELESS: &str = "preview";

/// Show when an expression runs next, without a broker and without a centre
///
/// Times are local, with their offset from UTC. CLOCK says where the clock was put forward or back since the time
/// before, and which of two passes of a repeated hour it is. Exit code 2 if the expression cannot be used.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leveret schedules preview '30 2 * * *' --tz America/New_York --after 2026-03-07\n  \
                        leveret schedules preview --quartz '0 0/15 8-18 ? * MON-FRI'\n  leveret schedules preview --every \
                        90s --count 3 --json\n  leveret schedules preview 'H H * * *' --name nightly"
)]
pub(super) struct Preview {
    /// Five fields of Unix cron, or a macro such as @daily
    #[arg(value_name = "EXPR")]
    expression: String,
    /// EXPR has six or seven fields of Quartz cron, which begin with the second; Sunday is 1
    #[arg(long, conflicts_with = "every")]
    quartz: bool,
    /// EXPR is a fixed rate, such as 90s
    #[arg(long)]
    every: bool,
    /// Time zone whose clocks the expression speaks of
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    tz: String,
    /// Show what comes after this time: RFC 3339, or a local time such as 2026-03-07T12:00 [default: now]
    #[arg(long, value_name = "TIME")]
    after: Option<String>,
    /// How many to show
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// Name of the schedule, from which follow the numbers of an H and the jitter
    #[arg(long)]
    name: Option<String>,
    /// Due later by up to so much
    #[arg(long, value_name = "TIME", value_parser = duration::parse, requires = "name")]
    jitter: Option<Duration>,
    /// What becomes of times that the clock leaps over [default: as cronie does]
    #[arg(long, value_enum)]
    gap: Option<GapChoice>,
    /// What becomes of times that come twice [default: as cronie does]
    #[arg(long, value_enum)]
    fold: Option<FoldChoice>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GapChoice {
    RunAfter,
    Skip,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FoldChoice {
    First,
    Both,
}

impl Preview {
    pub(super) fn run(self, session: &Session) -> Result<Exit, Failure> {
        let wrong = |text: String| Failure::new(Exit::Usage, text);
        let zone = Zone::named(&self.tz).map_err(|error| wrong(format!("--tz: {error}")))?;
        let after = match &self.after {
            Some(text) => zone.read(text, Gap::RunAfter).map_err(|error| wrong(format!("--after: {error}")))?,
            None => Clock::system().now(),
        };
        let plan = self.plan().map_err(wrong)?;
        let expression = plan.timetable().expression();
        if expression.to_string() != self.expression.trim() && !self.every {
            session.output.remark(format!("{} is {expression}", self.expression));
        }
        let shown = Shown {
            expression: expression.to_string(),
            dialect: expression.dialect().to_string(),
            timezone: zone.name().to_owned(),
            after,
            next: plan.preview(self.count.into(), after),
            jitter: self.jitter.is_some(),
        };
        session.output.report(&shown)?;
        Ok(Exit::Done)
    }

    fn plan(&self) -> Result<Plan, String> {
        let key = match (self.quartz, self.every) {
            (true, _) => "quartz",
            (_, true) => "every",
            _ => "cron",
        };
        if self.name.is_none()
            && let Some(Err(error @ ExpressionError::Nameless { .. })) = match key {
                "quartz" => Some(Expression::quartz(&self.expression)),
                "cron" => Some(Expression::unix(&self.expression)),
                _ => None,
            }
        {
            return Err(format!("EXPR: {error}: add --name"));
        }
        let name = self.name.as_deref().unwrap_or(NAMELESS).parse().map_err(|error| format!("--name: {error}"))?;
        let mut definition: Definition = serde_json::from_value(json!({ key: self.expression, "task": NAMELESS }))
            .map_err(|error| format!("EXPR: {error}"))?;
        // A fixed rate is the same in every zone; here it says how times are shown.
        if self.every {
            definition.payload = json!("{{scheduled_at}}");
        }
        definition.timezone = Some(self.tz.clone());
        definition.jitter = self.jitter;
        definition.gap = self.gap.map(|gap| match gap {
            GapChoice::RunAfter => Gap::RunAfter,
            GapChoice::Skip => Gap::Skip,
        });
        definition.fold = self.fold.map(|fold| match fold {
            FoldChoice::First => Fold::First,
            FoldChoice::Both => Fold::Both,
        });
        Plan::new(name, definition, &[]).map_err(|error| {
            let at = if error.key == key { "EXPR".to_owned() } else { format!("--{}", error.key) };
            let other = match key {
                "cron" if Expression::quartz(&self.expression).is_ok() => "; here, add --quartz",
                "quartz" if Expression::unix(&self.expression).is_ok() => "; here, leave --quartz out",
                _ => "",
            };
            format!("{at}: {}{other}", error.fix)
        })
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    /// With numbers in place of each `H`.
    expression: String,
    dialect: String,
    timezone: String,
    after: UnixMillis,
    next: Vec<FireTime>,
    /// Whether it is worth to say when they are due.
    #[serde(skip)]
    jitter: bool,
}

impl Report for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.next.is_empty() {
            return writeln!(out, "it does not run any more");
        }
        let mark = |fire: &FireTime| fire.clock.map_or("", |clock| clock.as_str());
        if !self.jitter {
            let mut rows = table(["time", "zone", "clock"]);
            for fire in &self.next {
                rows.add_row([fire.local.as_str(), &fire.zone, mark(fire)]);
            }
            return write_table(out, &rows);
        }
        let mut rows = table(["time", "zone", "due", "clock"]);
        for fire in &self.next {
            let late = duration::format(fire.due_at.since(fire.at));
            rows.add_row([fire.local.as_str(), &fire.zone, &format!("+{late}"), mark(fire)]);
        }
        write_table(out, &rows)
    }
}
