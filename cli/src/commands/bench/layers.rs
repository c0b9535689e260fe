//! `leveret bench --layers`: what the layers around a task cost, next to running it bare.

use std::{io, time::Duration};

use leveret::{
    Clock, WorkerBuilder,
    common::limit::Rate,
    layer::{Classify, Compress, Once, RateLimit},
    once::MemoryOnce,
};
use serde::Serialize;

use super::{Measured, report::median};

/// Which layers are around a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stack {
    /// None at all.
    Bare,
    /// Those that are there by default: tracing, metrics, time limit.
    Defaults,
    /// These and all others that Leveret brings: once, classification, rate limit, compression.
    Whole,
}

impl Stack {
    pub(super) const ALL: [Self; 3] = [Self::Bare, Self::Defaults, Self::Whole];

    /// Puts the layers around the tasks of a worker.
    pub(super) fn around(self, worker: WorkerBuilder) -> WorkerBuilder {
        match self {
            Self::Bare => worker.without_default_layers(),
            Self::Defaults => worker,
            Self::Whole => {
                let worker = worker
                    .layer(Once::new(MemoryOnce::new(Clock::system())))
                    .layer(Classify::new(|_| None))
                    .layer(Compress::over(8 << 10));
                // A rate that nothing here reaches: what it costs is measured, not what it holds back.
                match Rate::new(1_000_000, Duration::from_secs(1)).and_then(|rate| rate.burst(1_000_000)) {
                    Ok(rate) => worker.layer(RateLimit::new(rate)),
                    Err(_) => worker,
                }
            }
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Defaults => "defaults",
            Self::Whole => "whole stack",
        }
    }
}

/// What was found. Rates are tasks a second, the median of the rounds; ratios are the medians of those within a round.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    tasks: u32,
    rounds: u32,
    bare_per_s: f64,
    defaults_per_s: f64,
    whole_per_s: f64,
    defaults_ratio: f64,
    whole_ratio: f64,
    bare_us_per_task: f64,
    defaults_us_per_task: f64,
    whole_us_per_task: f64,
}

impl Report {
    /// Of rounds with one drain for each stack, in the order of [`Stack::ALL`].
    pub(super) fn new(tasks: u32, rounds: &[[Measured; 3]]) -> Self {
        let of = |stack: usize, figure: fn(&Measured) -> f64| median(rounds.iter().map(|round| figure(&round[stack])));
        let rate = |stack| of(stack, |measured| measured.per_second).round();
        let cost = |stack| (of(stack, |measured| measured.client_us) * 10.0).round() / 10.0;
        let ratio = |stack: usize| {
            let ratios = rounds.iter().map(|round| round[stack].per_second / round[0].per_second);
            (median(ratios) * 100.0).round() / 100.0
        };
        Self {
            tasks,
            rounds: u32::try_from(rounds.len()).unwrap_or(u32::MAX),
            bare_per_s: rate(0),
            defaults_per_s: rate(1),
            whole_per_s: rate(2),
            defaults_ratio: ratio(1),
            whole_ratio: ratio(2),
            bare_us_per_task: cost(0),
            defaults_us_per_task: cost(1),
            whole_us_per_task: cost(2),
        }
    }
}

impl crate::output::Report for Report {
    fn text(&self, f: &mut dyn io::Write) -> io::Result<()> {
        writeln!(f, "{} tasks that do nothing, run and acknowledged, median of {} rounds", self.tasks, self.rounds)?;
        writeln!(f, "  layers        tasks/s   ratio   processor us a task")?;
        for (name, rate, ratio, us) in [
            (Stack::Bare, self.bare_per_s, 1.0, self.bare_us_per_task),
            (Stack::Defaults, self.defaults_per_s, self.defaults_ratio, self.defaults_us_per_task),
            (Stack::Whole, self.whole_per_s, self.whole_ratio, self.whole_us_per_task),
        ] {
            writeln!(f, "  {:<11} {rate:>9.0}   {ratio:>5.2}   {us:.1}", name.as_str())?;
        }
        Ok(())
    }
}
