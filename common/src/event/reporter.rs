//! Publishing what happens to tasks.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{EventBatch, Happening, TaskEvent};
use crate::{
    link::{Publisher, spawn},
    metrics::{EventMetrics, Instruments},
    registry::{Instance, event},
    task::TaskId,
    topology::Names,
};

/// Events that may wait to be published.
const ROOM: usize = 8_192;
/// Bytes of results and errors that may wait; beyond it results are left out.
const ROOM_FOR_RESULTS: usize = 16 << 20;
/// Events in one message.
const BATCH: usize = 256;
/// Bytes of results and errors in one message, about.
const BATCH_BYTES: usize = 1 << 20;
/// How long an event may wait for company.
const PATIENCE: Duration = Duration::from_millis(50);

/// Reports on tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// There is something to publish.
    some: Notify,
    /// There is a whole batch to publish.
    many: Notify,
    dropped: AtomicU64,
    metrics: EventMetrics,
    closing: CancellationToken,
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Buffer {
    events: Vec<TaskEvent>,
    /// Bytes of results and errors in them.
    bytes: usize,
    /// Where the last progress of an attempt is among them, which a newer one replaces.
    progress: HashMap<(TaskId, u32), usize>,
}

impl Events {
    /// Begins to publish what is reported.
    pub fn start(publisher: Publisher, names: &Names, worker: &str, instance: Instance) -> Self {
        let events = Self(Arc::new(Shared {
            buffer: Mutex::default(),
            some: Notify::new(),
            many: Notify::new(),
            dropped: AtomicU64::new(0),
            metrics: Instruments::global().events(),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
        }));
        let sender = Sender { publisher, names: names.clone(), worker: worker.to_owned(), instance };
        let shared = events.0.clone();
        spawn(async move {
            let _ended = shared.ended.clone().drop_guard();
            sender.run(&shared).await;
        });
        events
    }

    /// Reports. Never waits: what does not fit is dropped and counted, and of the progress of one attempt the newest
    /// takes the place of one that has not been published yet.
    pub fn report(&self, mut event: TaskEvent) {
        event.what.cut();
        let bytes = event.what.weight();
        let waiting = {
            let mut buffer = self.0.buffer.lock();
            if let Happening::Progress(_) = event.what {
                let key = (event.id.clone(), event.attempt);
                if let Some(at) = buffer.progress.get(&key).copied() {
                    if let Some(older) = buffer.events.get_mut(at) {
                        *older = event;
                    }
                    return;
                }
                let at = buffer.events.len();
                if at < ROOM {
                    buffer.progress.insert(key, at);
                }
            }
            if buffer.events.len() >= ROOM {
                drop(buffer);
                return self.0.dropped(1);
            }
            if buffer.bytes.saturating_add(bytes) > ROOM_FOR_RESULTS {
                event.what.lighten();
            } else {
                buffer.bytes += bytes;
            }
            buffer.events.push(event);
            buffer.events.len()
        };
        match waiting {
            1 => self.0.some.notify_one(),
            BATCH => self.0.many.notify_one(),
            _ => {}
        }
    }

    /// How many events were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Publishes what is left, which takes at most the publish timeout, and ends.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.ended.cancelled().await;
    }
}

impl Shared {
    fn dropped(&self, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        self.dropped.fetch_add(events, Ordering::Relaxed);
        self.metrics.dropped(events);
    }

    fn take(&self) -> Vec<TaskEvent> {
        let mut buffer = self.buffer.lock();
        buffer.progress.clear();
        buffer.bytes = 0;
        std::mem::take(&mut buffer.events)
    }
}

struct Sender {
    publisher: Publisher,
    names: Names,
    worker: String,
    instance: Instance,
}

impl Sender {
    async fn run(&self, shared: &Shared) {
        loop {
            tokio::select! {
                () = shared.some.notified() => {}
                () = shared.closing.cancelled() => return self.publish(shared).await,
            }
            tokio::select! {
                () = tokio::time::sleep(PATIENCE) => {}
                () = shared.many.notified() => {}
                () = shared.closing.cancelled() => {}
            }
            self.publish(shared).await;
        }
    }

    /// Publishes what is there, and waits for the confirms: so nothing piles up behind a broker that is slow but in the
    /// buffer, which is bounded.
    async fn publish(&self, shared: &Shared) {
        let mut kinds: [Vec<TaskEvent>; Happening::KEYS.len()] = Default::default();
        for event in shared.take() {
            kinds[event.what.index()].push(event);
        }
        let mut confirms = Vec::new();
        for (key, mut events) in Happening::KEYS.into_iter().zip(kinds) {
            while !events.is_empty() {
                let rest = events.split_off(batch(&events));
                let (count, batch) = (events.len(), std::mem::replace(&mut events, rest));
                let batch = EventBatch { worker: self.worker.clone(), instance: self.instance, events: batch };
                let body = serde_json::to_vec(&batch).unwrap_or_default();
                let Ok(message) = event(&self.names, key, body, None) else {
                    shared.dropped(count);
                    continue;
                };
                match self.publisher.submit(message).await {
                    Ok(confirm) => confirms.push(async move { (count, confirm.await) }),
                    Err(_) => shared.dropped(count),
                }
            }
        }
        for (count, confirmed) in join_all(confirms).await {
            match confirmed {
                Ok(()) => shared.metrics.published(u64::try_from(count).unwrap_or(u64::MAX)),
                Err(_) => shared.dropped(count),
            }
        }
    }
}

/// How many of the first events go into one message, at least one.
fn batch(events: &[TaskEvent]) -> usize {
    let mut bytes = 0_usize;
    let fits = events.iter().take(BATCH).take_while(|event| {
        bytes = bytes.saturating_add(event.what.weight());
        bytes <= BATCH_BYTES
    });
    fits.count().clamp(1, events.len().max(1))
}
