//! What becomes of a tick whose predecessor has not ended.

use leveret_common::task::TaskId;

use crate::{
    centre::store::lanes::{Lane, OpenTick},
    plan::{Overlap, TickKind},
};

/// What becomes of a tick, and of others for its sake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is published at once.
    Run,
    /// It waits.
    Wait,
    /// It is skipped.
    Skip(String),
}

/// What becomes of a tick of the schedule `schedule`, by its policy. The lane is changed as if it had happened.
pub(crate) fn judge(lane: &mut Lane, policy: Overlap, tick: OpenTick, skipped: &mut Vec<(TaskId, String)>) -> Verdict {
    let verdict = match policy {
        _ if lane.running.is_empty() && lane.waiting.is_empty() => Verdict::Run,
        Overlap::Allow | Overlap::TerminateRunning => Verdict::Run,
        Overlap::Skip => {
            let other = lane.running.first().or(lane.waiting.first());
            Verdict::Skip(other.map_or_else(String::new, |other| format!("{} has not ended", name(other))))
        }
        Overlap::BufferOne => match lane.waiting.iter().find(|other| is_own(other, &tick)) {
            Some(other) => Verdict::Skip(format!("{} waits already", name(other))),
            None => Verdict::Wait,
        },
        Overlap::BufferAll => Verdict::Wait,
        Overlap::CancelRunning => {
            let (own, others) = std::mem::take(&mut lane.waiting).into_iter().partition(|other| is_own(other, &tick));
            lane.waiting = others;
            let own: Vec<OpenTick> = own;
            skipped.extend(own.into_iter().map(|other| (other.task_id, "a later tick took its place".to_owned())));
            Verdict::Wait
        }
    };
    match verdict {
        Verdict::Run => lane.running.push(tick),
        Verdict::Wait => lane.waiting.push(tick),
        Verdict::Skip(_) => {}
    }
    verdict
}

/// The one that is next, now that none runs.
pub(crate) fn let_go(lane: &mut Lane) -> Option<TaskId> {
    if !lane.running.is_empty() || lane.waiting.is_empty() {
        return None;
    }
    let next = lane.waiting.remove(0);
    let id = next.task_id.clone();
    lane.running.push(next);
    Some(id)
}

/// Those that have to be told to stop: somebody waits for it.
pub(crate) fn to_cancel(lane: &Lane) -> &[OpenTick] {
    if lane.waiting.iter().any(|waiting| waiting.cancels) { &lane.running } else { &[] }
}

/// Whether it is one of the same schedule that nobody has asked for in person.
fn is_own(other: &OpenTick, tick: &OpenTick) -> bool {
    other.schedule == tick.schedule && other.kind == TickKind::Tick
}

fn name(tick: &OpenTick) -> String {
    let at = tick.scheduled_at.to_rfc3339();
    match tick.kind {
        TickKind::Tick => format!("the run of {} at {at}", tick.schedule),
        _ => format!("the run of {} that was asked for, at {at},", tick.schedule),
    }
}

#[cfg(test)]
mod tests {
    use leveret_common::clock::UnixMillis;

    use super::*;

    fn tick(id: &str, schedule: &str) -> OpenTick {
        OpenTick {
            schedule: schedule.to_owned(),
            scheduled_at: UnixMillis(0),
            kind: TickKind::Tick,
            cancels: false,
            task_id: id.parse().unwrap(),
            queue: "default".to_owned(),
        }
    }

    fn lane(running: &[&str], waiting: &[&str]) -> Lane {
        let all = |ids: &[&str]| ids.iter().map(|id| tick(id, "s")).collect();
        Lane { running: all(running), waiting: all(waiting) }
    }

    fn verdict(policy: Overlap, running: &[&str], waiting: &[&str]) -> (&'static str, usize) {
        let mut skipped = Vec::new();
        let verdict = judge(&mut lane(running, waiting), policy, tick("new", "s"), &mut skipped);
        let verdict = match verdict {
            Verdict::Run => "run",
            Verdict::Wait => "wait",
            Verdict::Skip(_) => "skip",
        };
        (verdict, skipped.len())
    }

    #[test]
    fn each_policy_does_what_it_says() {
        use Overlap::{Allow, BufferAll, BufferOne, CancelRunning, Skip, TerminateRunning};
        for policy in [Allow, Skip, BufferOne, BufferAll, CancelRunning, TerminateRunning] {
            assert_eq!(verdict(policy, &[], &[]), ("run", 0), "{policy:?}");
        }
        let busy = |policy| (verdict(policy, &["a"], &[]), verdict(policy, &["a"], &["b"]));
        assert_eq!(busy(Allow), (("run", 0), ("run", 0)));
        assert_eq!(busy(TerminateRunning), (("run", 0), ("run", 0)));
        assert_eq!(busy(Skip), (("skip", 0), ("skip", 0)));
        assert_eq!(busy(BufferOne), (("wait", 0), ("skip", 0)));
        assert_eq!(busy(BufferAll), (("wait", 0), ("wait", 0)));
        assert_eq!(busy(CancelRunning), (("wait", 0), ("wait", 1)));
    }

    #[test]
    fn the_next_goes_once_none_runs() {
        let mut lane = lane(&["a"], &["b", "c"]);
        assert_eq!(let_go(&mut lane), None);
        lane.running.clear();
        assert_eq!(let_go(&mut lane).unwrap().as_str(), "b");
        assert_eq!(let_go(&mut lane), None);
    }

    #[test]
    fn another_schedule_of_the_group_is_not_in_the_way_of_a_buffer() {
        let mut lane = Lane { running: vec![tick("a", "s")], waiting: vec![tick("b", "other")] };
        assert_eq!(judge(&mut lane, Overlap::BufferOne, tick("new", "s"), &mut Vec::new()), Verdict::Wait);
    }
}
