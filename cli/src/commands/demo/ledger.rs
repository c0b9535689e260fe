//! The ledger: what was published, seen by the broker, against what became of it, seen in results and queues.
//!
//! Nothing here is counted where it is done. Copies of what the two ways in received tell what was published, each
//! task once by its id; results, the dead-letter queues and the depths of the queues tell the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    sync::Arc,
};

use futures_util::StreamExt;
use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use leveret::{
    Headers,
    common::{
        dead_letters::DeadLetter,
        link::ChannelPool,
        wire::{header, short},
    },
};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use super::{
    stage::{RESULTS, TAP_FOREIGN, TAP_OWN},
    work::Finished,
};
use crate::{failure::Failure, output::Report};

/// What has been seen so far. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Books(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    /// Every task that was published, by its key, and where it came from.
    published: BTreeMap<String, Source>,
    /// Every task that was done, by its key.
    done: BTreeMap<String, Done>,
    /// Every task of which a worker said that it is dead, by its id.
    dead: BTreeSet<String>,
}

/// Where a task came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Schedule(String),
    Client,
    Foreign,
}

#[derive(Clone)]
struct Done {
    finished: Finished,
    attempt: i64,
    /// How many results came: more than one when a worker was killed between the result and the acknowledgement.
    results: u64,
}

/// What is known while the demo runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) published: usize,
    pub(super) done: usize,
    pub(super) dead: usize,
}

impl Standing {
    pub(super) fn open(self) -> usize {
        self.published.saturating_sub(self.done + self.dead)
    }
}

impl Books {
    /// Opens the books: from now on all that is published and all results are entered.
    pub(super) async fn open(pool: &ChannelPool) -> Result<Self, Failure> {
        let books = Self::default();
        for queue in [TAP_OWN, TAP_FOREIGN, RESULTS] {
            let channel = pool.get().await?;
            channel.basic_qos(200, BasicQosOptions::default()).await?;
            let (name, tag) = (short("queue", queue)?, short("consumer tag", queue)?);
            let options = BasicConsumeOptions::default();
            let mut deliveries = channel.basic_consume(name, tag, options, FieldTable::default()).await?;
            let books = books.clone();
            tokio::spawn(async move {
                while let Some(Ok(delivery)) = deliveries.next().await {
                    let tag = delivery.delivery_tag;
                    books.enter(queue, delivery);
                    // Without a channel it comes again, and is entered once all the same.
                    let _ = channel.basic_ack(tag, BasicAckOptions::default()).await;
                }
            });
        }
        Ok(books)
    }

    fn enter(&self, queue: &str, delivery: Delivery) {
        let Delivery { properties, data: body, .. } = delivery;
        let headers = properties.headers().clone().map(Headers::from).unwrap_or_default();
        let id = properties.message_id().as_ref().map(ToString::to_string);
        let mut entries = self.0.lock();
        if queue == RESULTS {
            let id = headers.get_str(header::TASK_ID).unwrap_or_default().to_owned();
            if headers.get_str(header::STATUS) == Some("dead") {
                entries.dead.insert(id);
            } else {
                let finished: Finished = serde_json::from_slice(&body).unwrap_or_default();
                let key = finished.ticket.clone().unwrap_or(id);
                let attempt = headers.get_i64(header::ATTEMPT).unwrap_or(1);
                let done = entries.done.entry(key).or_insert(Done { finished, attempt, results: 0 });
                done.results += 1;
            }
        } else {
            let source = match headers.get_str(header::SCHEDULE) {
                _ if queue == TAP_FOREIGN => Source::Foreign,
                Some(schedule) => Source::Schedule(schedule.to_owned()),
                None => Source::Client,
            };
            entries.published.insert(key(id, &body), source);
        }
    }

    pub(super) fn standing(&self) -> Standing {
        let entries = self.0.lock();
        Standing { published: entries.published.len(), done: entries.done.len(), dead: entries.dead.len() }
    }

    /// How many tasks a worker has done.
    pub(super) fn done_by(&self, worker: &str) -> usize {
        self.0.lock().done.values().filter(|done| done.finished.worker == worker).count()
    }

    /// Who did the tasks among `keys` that are done.
    fn taken_over(&self, keys: &BTreeMap<String, String>) -> BTreeSet<String> {
        let entries = self.0.lock();
        keys.keys().filter_map(|key| entries.done.get(key)).map(|done| done.finished.worker.clone()).collect()
    }

    fn count_done(&self, keys: &BTreeMap<String, String>) -> usize {
        let entries = self.0.lock();
        keys.keys().filter(|key| entries.done.contains_key(*key)).count()
    }

    /// The ledger, with what the dead-letter queues hold and how many tasks the other queues hold; `foreign` is the
    /// client of another make.
    pub(super) fn close(&self, dead: &[DeadLetter], waiting: u64, foreign: &str) -> Ledger {
        let entries = self.0.lock();
        let dead: BTreeMap<String, &DeadLetter> =
            dead.iter().map(|letter| (key(letter.id.clone(), &letter.body), letter)).collect();
        let done = entries.published.keys().filter(|key| entries.done.contains_key(*key)).count() as u64;
        let only_dead = |key: &&String| dead.contains_key(*key) && !entries.done.contains_key(*key);
        let died = entries.published.keys().filter(only_dead).count() as u64;
        let published = entries.published.len() as u64;
        let open = published - done - died;
        let mut sources = BTreeMap::new();
        for source in entries.published.values() {
            let name = match source {
                Source::Schedule(name) => name.clone(),
                Source::Client => "Rust client".to_owned(),
                Source::Foreign => foreign.to_owned(),
            };
            *sources.entry(name).or_default() += 1;
        }
        // What came back or lies dead without ever having been published would be a fault of the count.
        let unknown =
            entries.done.keys().chain(dead.keys()).filter(|key| !entries.published.contains_key(*key)).count();
        let sum = |of: fn(&Finished) -> u64| entries.done.values().map(|done| of(&done.finished)).sum();
        Ledger {
            published,
            sources,
            done,
            dead: died,
            waiting,
            lost: open.saturating_sub(waiting),
            unknown: unknown as u64,
            balanced: open == waiting && unknown == 0,
            done_after_a_failure: entries.done.values().filter(|done| done.attempt > 1).count() as u64,
            done_twice: entries.done.values().filter(|done| done.results > 1).count() as u64,
            reasons: dead.values().map(|letter| Reason::of(letter)).collect(),
            work: Work {
                words: sum(|finished| finished.words),
                hashed_bytes: sum(|finished| finished.hashed_bytes),
                thumbnails: sum(|finished| finished.thumbnails),
            },
            killed: None,
            seconds: 0.0,
        }
    }
}

/// A task's id; of a client that cannot give one, the ticket in the arguments.
fn key(id: Option<String>, body: &[u8]) -> String {
    let arguments: Value = serde_json::from_slice(body).unwrap_or_default();
    arguments["ticket"].as_str().map(str::to_owned).or(id).unwrap_or_default()
}

/// What was published against what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Ledger {
    /// Tasks that the broker took, each once.
    published: u64,
    /// How many of them came from where: a schedule, the Rust client, the client of another make.
    sources: BTreeMap<String, u64>,
    /// Tasks whose result came back.
    done: u64,
    /// Tasks in a dead-letter queue.
    dead: u64,
    /// Tasks in a work queue or one of its tiers.
    waiting: u64,
    lost: u64,
    /// Results and dead letters of tasks that were never seen to be published.
    unknown: u64,
    /// Whether published = done + dead + waiting, and nothing is unknown.
    pub(super) balanced: bool,
    done_after_a_failure: u64,
    /// Tasks with two results: their worker was killed between the result and the acknowledgement.
    done_twice: u64,
    reasons: Vec<Reason>,
    work: Work,
    pub(super) killed: Option<Killed>,
    pub(super) seconds: f64,
}

/// Why a task is dead.
#[derive(Debug, Serialize)]
struct Reason {
    task: String,
    reason: String,
    attempts: u32,
    error: String,
}

impl Reason {
    fn of(letter: &DeadLetter) -> Self {
        Self {
            task: letter.task.clone(),
            reason: letter.reason.clone(),
            attempts: letter.attempt,
            error: letter.error.clone().unwrap_or_default(),
        }
    }
}

/// What the results add up to.
#[derive(Debug, Serialize)]
struct Work {
    words: u64,
    hashed_bytes: u64,
    thumbnails: u64,
}

/// The worker that was killed.
#[derive(Debug, Serialize)]
pub(super) struct Killed {
    worker: String,
    /// Tasks that it was running.
    running: usize,
    /// Those of them that are done by now.
    done: usize,
    by: BTreeSet<String>,
}

impl Killed {
    pub(super) fn new(worker: String, running: &BTreeMap<String, String>, books: &Books) -> Self {
        Self { worker, running: running.len(), done: books.count_done(running), by: books.taken_over(running) }
    }
}

impl Report for Ledger {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut sources: Vec<_> = self.sources.iter().collect();
        sources.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let sources: Vec<_> = sources.into_iter().map(|(name, count)| format!("{count} {name}")).collect();
        let remark = |count: u64, text: &str| if count == 0 { String::new() } else { format!("{count} {text}") };
        let failed = remark(self.done_after_a_failure, "of them after an attempt that failed");
        writeln!(out, "\nLedger after {:.0} s, from the broker's queues and the results that came back", self.seconds)?;
        writeln!(out, "  published {:>6}   {}", self.published, sources.join(", "))?;
        writeln!(out, "  = done    {:>6}   {failed}", self.done)?;
        let mut reasons = self.reasons.iter().map(|dead| {
            let Reason { task, reason, attempts, error } = dead;
            format!("{task}, {reason} after {attempts} attempts: {error}")
        });
        writeln!(out, "  + dead    {:>6}   {}", self.dead, reasons.next().unwrap_or_default())?;
        reasons.try_for_each(|reason| writeln!(out, "{:21}{reason}", ""))?;
        writeln!(out, "  + waiting {:>6}", self.waiting)?;
        let verdict = if self.balanced { "it balances" } else { "IT DOES NOT BALANCE" };
        writeln!(out, "  lost      {:>6}   {verdict}", self.lost)?;
        writeln!(out)?;
        if let Some(Killed { worker, running, done, by }) = &self.killed {
            let by: Vec<_> = by.iter().map(String::as_str).collect();
            writeln!(
                out,
                "  {worker} was killed with {running} tasks in hand: {done} of them done by {}",
                by.join(" and ")
            )?;
        }
        if self.done_twice > 0 {
            writeln!(out, "  {} done twice: killed between the result and the acknowledgement", self.done_twice)?;
        }
        if self.unknown > 0 {
            writeln!(out, "  {} results or dead letters of tasks that nobody published", self.unknown)?;
        }
        let Work { words, hashed_bytes, thumbnails } = self.work;
        let megabytes = hashed_bytes as f64 / 1e6;
        writeln!(out, "  the work: {words} words counted, {megabytes:.1} MB hashed, {thumbnails} thumbnails made")
    }
}
