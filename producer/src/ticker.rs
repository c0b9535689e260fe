//! One task that watches the clock for all schedules and publishes their ticks.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use leveret_common::{
    clock::{Clock, UnixMillis},
    link::PublishError,
    retry::Backoff,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error, info, info_span, warn};

use crate::{
    backlog::{Backlog, Lost},
    publish::Publish,
    stats::{Counters, End},
};

/// How many publishes may wait for the broker at once, over all schedules; each schedule has one at most, so that
/// its ticks stay in order.
const MOST_IN_FLIGHT: usize = 256;
/// The clock is looked at this often at least: a suspended machine and a clock that was moved are noticed by it.
const LOOK: Duration = Duration::from_secs(1);
/// A clock put back by more than this was wrong before, and the schedules start over from the new time. After a
/// smaller step they go on where they were, and no tick comes twice.
const CLOCK_WAS_WRONG: Duration = Duration::from_secs(3 * 3_600);

pub(crate) struct Ticker<P> {
    publisher: Arc<P>,
    clock: Clock,
    counters: Arc<Counters>,
    /// How long the pauses between tries at one tick get.
    backoff: Backoff,
    lines: Vec<Line>,
    alarms: BinaryHeap<Reverse<Alarm>>,
    /// Lines in [`Phase::Ready`], in the order they got there.
    ready: VecDeque<usize>,
    in_flight: FuturesUnordered<BoxFuture<'static, (usize, Result<(), PublishError>)>>,
    /// The latest moment that the clock has shown.
    seen: UnixMillis,
}

/// A schedule, and what is being done about its oldest tick.
struct Line {
    backlog: Backlog,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is due.
    Idle,
    /// The oldest tick can be sent as soon as there is room.
    Ready,
    /// The oldest tick waits for its confirm.
    InFlight,
    /// The publish of the oldest tick failed and is tried again later.
    Pausing,
}

/// A line is to be looked at. Each has one for its next tick and one for its pause, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alarm {
    at: UnixMillis,
    line: usize,
    end_of_pause: bool,
}

impl<P: Publish> Ticker<P> {
    pub(crate) fn new(
        backlogs: Vec<Backlog>,
        publisher: Arc<P>,
        clock: Clock,
        counters: Arc<Counters>,
        backoff: Backoff,
    ) -> Self {
        let lines: Vec<Line> = backlogs.into_iter().map(|backlog| Line { backlog, phase: Phase::Idle }).collect();
        let mut ticker = Self {
            seen: clock.now(),
            publisher,
            clock,
            counters,
            backoff,
            lines,
            alarms: BinaryHeap::new(),
            ready: VecDeque::new(),
            in_flight: FuturesUnordered::new(),
        };
        (0..ticker.lines.len()).for_each(|line| ticker.set_tick_alarm(line));
        ticker
    }

    /// Publishes ticks until it is told to stop, and then waits for confirms for as long as `grace`.
    pub(crate) async fn run(mut self, stop: CancellationToken, grace: Duration) {
        loop {
            let now = self.look();
            self.ring(now);
            self.send(now);
            let alarm = self.alarms.peek().map_or(UnixMillis(i64::MAX), |Reverse(alarm)| alarm.at);
            tokio::select! {
                () = stop.cancelled() => break,
                Some((line, result)) = self.in_flight.next() => self.settle(line, result),
                () = self.clock.sleep_until(alarm.min(now + LOOK)) => {}
            }
        }
        let confirms = async {
            while let Some((line, result)) = self.in_flight.next().await {
                self.settle(line, result);
            }
        };
        let late = tokio::time::timeout(grace, confirms).await.is_err();
        let waiting: usize = self.lines.iter().map(|line| line.backlog.waiting()).sum();
        if late || waiting > 0 {
            warn!(ticks = waiting, "stopped with ticks that the broker has not confirmed");
        }
    }

    /// The time, and what there is to do if the clock was put back.
    fn look(&mut self) -> UnixMillis {
        let now = self.clock.now();
        if self.seen.since(now) > CLOCK_WAS_WRONG {
            warn!(from = %self.seen.to_rfc3339(), to = %now.to_rfc3339(), "the clock was put back: schedules start over");
            self.alarms.retain(|Reverse(alarm)| alarm.end_of_pause);
            for line in 0..self.lines.len() {
                self.lines[line].backlog.restart(now);
                self.set_tick_alarm(line);
            }
            self.seen = now;
        }
        self.seen = self.seen.max(now);
        now
    }

    /// Attends to every alarm that is due.
    fn ring(&mut self, now: UnixMillis) {
        while let Some(Reverse(alarm)) = self.alarms.peek().copied()
            && alarm.at <= now
        {
            self.alarms.pop();
            let line = &mut self.lines[alarm.line];
            if alarm.end_of_pause {
                line.phase = Phase::Ready;
                self.ready.push_back(alarm.line);
                continue;
            }
            let before = line.backlog.waiting();
            let mut lost = line.backlog.collect(now);
            self.counters.due(line.backlog.waiting() - before);
            if line.phase == Phase::Idle {
                line.phase = Phase::Ready;
                self.ready.push_back(alarm.line);
            } else if line.phase != Phase::InFlight {
                lost.given_up = line.backlog.expire(now).given_up;
            }
            self.report(alarm.line, lost);
            self.set_tick_alarm(alarm.line);
        }
    }

    /// Publishes the oldest ticks while there is room.
    fn send(&mut self, now: UnixMillis) {
        while self.in_flight.len() < MOST_IN_FLIGHT
            && let Some(index) = self.ready.pop_front()
        {
            let line = &mut self.lines[index];
            let lost = line.backlog.expire(now);
            if let Some(at) = line.backlog.oldest() {
                line.phase = Phase::InFlight;
                let schedule = line.backlog.schedule();
                let message = schedule.tick(at);
                let span =
                    info_span!("tick", schedule = schedule.name(), scheduled_at = at.0, task.id = %message.task_id());
                let publisher = self.publisher.clone();
                let publish = async move { publisher.publish(message).await }.instrument(span);
                self.in_flight.push(publish.map(move |result| (index, result)).boxed());
            } else {
                line.phase = Phase::Idle;
            }
            self.report(index, lost);
        }
    }

    /// A publish has ended.
    fn settle(&mut self, index: usize, result: Result<(), PublishError>) {
        let now = self.clock.now();
        let line = &mut self.lines[index];
        let Some(at) = line.backlog.oldest() else { return };
        let (schedule, failures) = (line.backlog.schedule().name(), line.backlog.failures());
        let tick = at.to_rfc3339();
        match result {
            Ok(()) => {
                if failures > 0 {
                    info!(schedule, tick, failures, "published at last");
                }
                self.counters.ended(schedule, End::Published, 1);
                self.counters.lateness(schedule, now.since(at));
            }
            Err(error) if may_pass(&error) => {
                // Once is enough for one reason: what follows is the same again.
                if failures == 0 {
                    warn!(schedule, tick, %error, "a tick could not be published and is tried again");
                } else {
                    debug!(schedule, tick, %error, failures, "a tick could still not be published");
                }
                self.counters.failed();
                line.backlog.failed();
                line.phase = Phase::Pausing;
                let at = now + self.backoff.delay_after(line.backlog.failures());
                self.alarms.push(Reverse(Alarm { at, line: index, end_of_pause: true }));
                return;
            }
            Err(error) => {
                error!(schedule, tick, %error, "a tick cannot be published and is given up");
                self.counters.failed();
                self.counters.ended(schedule, End::GivenUp, 1);
            }
        }
        self.counters.left(1);
        line.backlog.drop_oldest();
        if line.backlog.oldest().is_some() {
            line.phase = Phase::Ready;
            self.ready.push_back(index);
        } else {
            line.phase = Phase::Idle;
        }
    }

    fn report(&self, line: usize, lost: Lost) {
        let schedule = self.lines[line].backlog.schedule().name();
        if lost.missed > 0 {
            warn!(schedule, ticks = lost.missed, "slept through ticks: the last one is published, these are not");
            self.counters.ended(schedule, End::Missed, lost.missed);
        }
        if lost.given_up > 0 {
            error!(schedule, ticks = lost.given_up, "gave up ticks that could not be published in time");
            self.counters.ended(schedule, End::GivenUp, lost.given_up);
            self.counters.left(lost.given_up);
        }
    }

    fn set_tick_alarm(&mut self, line: usize) {
        if let Some(at) = self.lines[line].backlog.next() {
            self.alarms.push(Reverse(Alarm { at, line, end_of_pause: false }));
        }
    }
}

/// Whether publishing the same message again may succeed.
fn may_pass(error: &PublishError) -> bool {
    !matches!(error, PublishError::Invalid(_) | PublishError::Unacceptable { .. })
}

#[cfg(test)]
mod tests {
    use leveret_common::message::Message;

    use super::*;
    use crate::schedule::{Expression, Schedule, Timetable, Zone};

    struct Nowhere;

    impl Publish for Nowhere {
        async fn publish(&self, _: Message) -> Result<(), PublishError> {
            Ok(())
        }
    }

    /// A ticker whose only schedule was last looked at when the clock showed `seen`.
    fn ticker(seen: UnixMillis, now: UnixMillis) -> Ticker<Nowhere> {
        let hourly = Timetable::new(Expression::unix("@hourly").unwrap(), Zone::utc());
        let schedule = Schedule::new("hourly", hourly, Message::raw("t", "", "text/plain")).unwrap();
        let backlogs = vec![Backlog::new(schedule, seen)];
        let counters = Arc::new(Counters::new());
        let backoff = Backoff::constant(LOOK);
        let mut ticker = Ticker::new(backlogs, Arc::new(Nowhere), Clock::held(now), counters, backoff);
        ticker.seen = seen;
        ticker
    }

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_clock_put_back_a_little_brings_no_tick_again() {
        let mut ticker = ticker(UnixMillis(10 * HOUR + 1), UnixMillis(8 * HOUR + 1));
        ticker.look();
        assert_eq!(ticker.lines[0].backlog.next(), Some(UnixMillis(11 * HOUR)));
        assert_eq!(ticker.seen, UnixMillis(10 * HOUR + 1));
    }

    #[test]
    fn a_clock_put_back_a_lot_was_wrong_before() {
        let mut ticker = ticker(UnixMillis(1_000 * HOUR), UnixMillis(8 * HOUR + 1));
        let now = ticker.look();
        ticker.ring(now);
        assert_eq!(ticker.lines[0].backlog.next(), Some(UnixMillis(9 * HOUR)));
        assert_eq!(ticker.alarms.len(), 1);
        assert_eq!(ticker.seen, UnixMillis(8 * HOUR + 1));
    }
}
