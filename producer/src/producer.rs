//! The cron producer: schedules in, task messages out.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use leveret_common::{clock::Clock, retry::Backoff};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    backlog::Backlog,
    publish::Publish,
    schedule::Schedule,
    stats::{Counters, Stats},
    ticker::Ticker,
};

/// How long the pauses between tries at one tick get; they start at half a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Publishes a task for each tick of its schedules, with confirms.
///
/// * While the producer lives, no tick is lost to a broker that is slow, absent or refuses: a tick is tried again
///   until it is confirmed or its [catch-up window](Schedule::catch_up) is over. The ticks of one schedule stay in
///   order. At most 10,000 wait for each schedule; beyond that the oldest are given up.
/// * When the machine was suspended or its clock put forward by more than ten seconds, the last tick of that time is
///   published and the others are missed. After a clock was put back, no tick comes again, unless it was put back by
///   more than three hours: then it had been wrong.
/// * Nothing is stored. Ticks while no producer runs are not made up for, and of two producers each publishes every
///   tick; the task ids, which follow from schedule and time, tell which are the same.
pub struct Producer<P> {
    schedules: BTreeMap<String, Schedule>,
    publisher: P,
    clock: Clock,
    grace: Duration,
}

impl<P: Publish> Producer<P> {
    /// A producer that publishes by `publisher`, usually a [`Client`](leveret_common::client::Client). Of two
    /// schedules with one name the later counts.
    pub fn new(schedules: impl IntoIterator<Item = Schedule>, publisher: P, clock: Clock) -> Self {
        let schedules = schedules.into_iter().map(|schedule| (schedule.name().to_owned(), schedule)).collect();
        Self { schedules, publisher, clock, grace: Duration::from_secs(10) }
    }

    /// Sets how long a stop waits for the broker's confirms. Default 10 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts in the background. The first tick of each schedule is its first after now.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self) -> RunningProducer {
        let now = self.clock.now();
        let backlogs: Vec<Backlog> = self.schedules.into_values().map(|schedule| Backlog::new(schedule, now)).collect();
        for backlog in &backlogs {
            let (schedule, timetable) = (backlog.schedule().name(), backlog.schedule().timetable());
            match timetable.preview(1, now).first() {
                Some(next) => {
                    info!(schedule, when = %timetable.expression(), zone = %timetable.zone(), next = next.local, "scheduled");
                }
                None => warn!(schedule, when = %timetable.expression(), "never runs again: all its times are over"),
            }
        }
        let counters = Arc::new(Counters::new());
        let backoff = Backoff::exponential(Duration::from_millis(500), LONGEST_PAUSE);
        let stop = CancellationToken::new();
        let ticker = Ticker::new(backlogs, Arc::new(self.publisher), self.clock, counters.clone(), backoff);
        let task = tokio::spawn(ticker.run(stop.clone(), self.grace));
        RunningProducer { stop, task, counters }
    }
}

impl<P> fmt::Debug for Producer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("schedules", &self.schedules.keys()).finish_non_exhaustive()
    }
}

/// A producer at work. Dropping it tells it to stop, and waits for nothing.
#[derive(Debug)]
pub struct RunningProducer {
    stop: CancellationToken,
    task: JoinHandle<()>,
    counters: Arc<Counters>,
}

impl RunningProducer {
    /// What became of the ticks so far.
    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    /// Makes no more ticks, waits for the confirms of those on their way, at most the
    /// [grace period](Producer::grace), and says what became of all of them.
    pub async fn stop(mut self) -> Stats {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            error!(%error, "the producer ended by itself");
        }
        self.stats()
    }
}

impl Drop for RunningProducer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
