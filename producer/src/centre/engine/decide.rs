//! Which ticks of a schedule run, and which were missed.

use std::{collections::VecDeque, time::Duration};

use leveret_common::clock::UnixMillis;

use crate::plan::{Missed, Plan, Tick};

/// A tick that nobody could decide about for longer than this was missed: no centre ran, or the machine slept, or its
/// clock was put forward. It is more than another centre takes to carry on.
pub(crate) const LATE: Duration = Duration::from_secs(10);
/// Missed ticks are counted one by one up to here.
const MOST_COUNTED: usize = 10_000;
/// Of all schedules that catch up, each runs so many at most.
const MOST_CAUGHT_UP: usize = 10_000;
/// Up to so many missed ticks each have a row of their own.
const MOST_ROWS: usize = 10;

/// What becomes of the ticks of a schedule that are due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// These run, oldest first.
    pub(crate) runs: Vec<Tick>,
    /// These do not.
    pub(crate) missed: Vec<MissedTicks>,
    /// The first that is not due yet.
    pub(crate) next: Option<Tick>,
}

/// Ticks that were missed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MissedTicks {
    pub(crate) first: UnixMillis,
    pub(crate) count: usize,
    pub(crate) reason: String,
}

/// Decides about all ticks from `tick` on that are due at `now`.
pub(crate) fn decide(plan: &Plan, tick: Tick, runs_left: Option<i64>, now: UnixMillis) -> Decision {
    let mut decision = if now.since(tick.due_at) <= LATE {
        let runs: Vec<_> = due(plan, tick, now).collect();
        Decision { runs, ..Decision::default() }
    } else {
        catch_up(plan, tick, now)
    };
    if let Some(most) = runs_left.and_then(|left| usize::try_from(left).ok())
        && decision.runs.len() >= most
    {
        decision.runs.truncate(most);
        return decision;
    }
    let mut last = decision.next.take().unwrap_or_else(|| decision.runs.last().copied().unwrap_or(tick));
    while last.due_at <= now {
        match plan.next_after(last.scheduled_at) {
            Some(next) => last = next,
            None => return decision,
        }
    }
    decision.next = Some(last);
    decision
}

/// The ticks from `tick` on that are due.
fn due(plan: &Plan, tick: Tick, now: UnixMillis) -> impl Iterator<Item = Tick> {
    std::iter::successors(Some(tick), |tick| plan.next_after(tick.scheduled_at))
        .take_while(move |tick| tick.due_at <= now)
}

/// The last tick from `tick` on that is due by `now`, without going through those in between.
fn last_due(plan: &Plan, tick: Tick, now: UnixMillis) -> Tick {
    let mut until = now;
    while let Some(last) = plan.last_within(tick.scheduled_at, until) {
        if last.due_at <= now {
            return last;
        }
        // By its jitter it is not due yet.
        until = last.scheduled_at - Duration::from_millis(1);
    }
    tick
}

fn catch_up(plan: &Plan, tick: Tick, now: UnixMillis) -> Decision {
    let definition = plan.definition();
    let worthless = now - definition.catch_up;
    let mut decision = Decision::default();
    match definition.missed {
        Missed::Latest => {
            let last = last_due(plan, tick, now);
            if last.due_at >= worthless {
                decision.runs.push(last);
                decision.missed = missed(plan, tick, Some(last), now, "a later tick ran in its place");
            } else {
                decision.missed = missed(plan, tick, None, now, "it is older than the catch-up window");
            }
            decision.next = Some(last);
        }
        Missed::Skip => {
            let in_time =
                due(plan, last_due(plan, tick, now - LATE), now).skip_while(|tick| now.since(tick.due_at) > LATE);
            decision.runs = in_time.collect();
            let first = decision.runs.first().copied();
            decision.missed = missed(plan, tick, first, now, "nobody could decide about it in time");
            decision.next = Some(decision.runs.last().copied().unwrap_or_else(|| last_due(plan, tick, now)));
        }
        Missed::All => {
            let limit = usize::try_from(definition.missed_limit).unwrap_or(usize::MAX).clamp(1, MOST_CAUGHT_UP);
            // What is older than the window is passed over in one step.
            let mut first = tick;
            if tick.due_at < worthless {
                let last = last_due(plan, tick, worthless - Duration::from_millis(1));
                first = plan.next_after(last.scheduled_at).unwrap_or(last);
                let end = Some(first).filter(|first| first.due_at >= worthless);
                decision.missed = missed(plan, tick, end, now, "it is older than the catch-up window");
                if end.is_none() {
                    decision.next = Some(first);
                    return decision;
                }
            }
            let mut kept = VecDeque::with_capacity(limit.min(1_000));
            for next in due(plan, first, now).take(MOST_COUNTED + limit) {
                if kept.len() == limit {
                    kept.pop_front();
                }
                kept.push_back(next);
            }
            if kept.front() != Some(&first) {
                let end = kept.front().copied();
                decision.missed.extend(missed(plan, first, end, now, "more were missed than may be caught up with"));
            }
            decision.runs = kept.into();
            decision.next = decision.runs.last().copied();
        }
    }
    decision
}

/// The ticks from `first` up to before `end`, or up to `now`.
fn missed(plan: &Plan, first: Tick, end: Option<Tick>, now: UnixMillis, reason: &str) -> Vec<MissedTicks> {
    let is_before = |tick: &Tick| end.is_none_or(|end| tick.scheduled_at < end.scheduled_at);
    let ticks: Vec<_> = due(plan, first, now).take_while(is_before).take(MOST_COUNTED).collect();
    let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else { return Vec::new() };
    if ticks.len() <= MOST_ROWS {
        let one = |tick: &Tick| MissedTicks { first: tick.scheduled_at, count: 1, reason: reason.to_owned() };
        return ticks.iter().map(one).collect();
    }
    let at_least = if ticks.len() == MOST_COUNTED { "at least " } else { "" };
    let reason = format!("{reason}; {at_least}{} ticks up to {}", ticks.len(), last.scheduled_at.to_rfc3339());
    vec![MissedTicks { first: first.scheduled_at, count: ticks.len(), reason }]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOON: UnixMillis = UnixMillis(1_798_804_800_000);

    fn plan(json: Value) -> Plan {
        let mut json = json;
        json["task"] = "t".into();
        Plan::new("s".parse().unwrap(), serde_json::from_value(json).unwrap(), &[]).unwrap()
    }

    fn decided(plan: &Plan, late: Duration) -> (Vec<i64>, Vec<(i64, usize)>, Option<i64>) {
        let tick = Tick { scheduled_at: NOON, due_at: NOON };
        let decision = decide(plan, tick, None, NOON + late);
        let seconds = |at: UnixMillis| (at.0 - NOON.0) / 1_000;
        (
            decision.runs.iter().map(|tick| seconds(tick.scheduled_at)).collect(),
            decision.missed.iter().map(|missed| (seconds(missed.first), missed.count)).collect(),
            decision.next.map(|tick| seconds(tick.scheduled_at)),
        )
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn ticks_in_time_all_run() {
        for missed in ["skip", "latest", "all"] {
            let plan = plan(json!({"every": "1s", "missed": missed}));
            assert_eq!(decided(&plan, secs(0)), (vec![0], vec![], Some(1)));
            assert_eq!(decided(&plan, secs(3)), (vec![0, 1, 2, 3], vec![], Some(4)));
        }
    }

    #[test]
    fn of_missed_ticks_the_latest_runs() {
        let minutely = |missed: &str| plan(json!({"every": "1m", "missed": missed}));
        assert_eq!(decided(&minutely("latest"), secs(30)), (vec![0], vec![], Some(60)));
        assert_eq!(decided(&minutely("latest"), secs(150)), (vec![120], vec![(0, 1), (60, 1)], Some(180)));
        let (runs, missed, next) = decided(&minutely("latest"), secs(3_600));
        assert_eq!((runs, missed, next), (vec![3_600], vec![(0, 60)], Some(3_660)));
    }

    #[test]
    fn or_none_of_them_does() {
        let minutely = plan(json!({"every": "1m", "missed": "skip"}));
        assert_eq!(decided(&minutely, secs(150)), (vec![], vec![(0, 1), (60, 1), (120, 1)], Some(180)));
        // One that is not late is not missed.
        assert_eq!(decided(&minutely, secs(125)), (vec![120], vec![(0, 1), (60, 1)], Some(180)));
    }

    #[test]
    fn or_all_up_to_a_limit() {
        let minutely = |limit: u32| plan(json!({"every": "1m", "missed": "all", "missed_limit": limit}));
        assert_eq!(decided(&minutely(9), secs(150)), (vec![0, 60, 120], vec![], Some(180)));
        assert_eq!(decided(&minutely(2), secs(150)), (vec![60, 120], vec![(0, 1)], Some(180)));
    }

    #[test]
    fn what_is_older_than_the_window_never_runs() {
        for missed in ["skip", "latest", "all"] {
            let once = plan(json!({"at": "2027-01-01T12:00:00Z", "missed": missed, "catch_up": "1m"}));
            assert_eq!(decided(&once, secs(61)), (vec![], vec![(0, 1)], None), "{missed}");
        }
        let all = plan(json!({"every": "1m", "missed": "all", "catch_up": "2m"}));
        assert_eq!(decided(&all, secs(270)), (vec![180, 240], vec![(0, 1), (60, 1), (120, 1)], Some(300)));
    }

    #[test]
    fn the_last_run_is_the_last() {
        let plan = plan(json!({"every": "1s"}));
        let decision = decide(&plan, Tick { scheduled_at: NOON, due_at: NOON }, Some(2), NOON + secs(5));
        assert_eq!((decision.runs.len(), decision.next), (2, None));
    }
}
