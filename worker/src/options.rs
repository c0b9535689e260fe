//! How a worker consumes from its queues.

use leveret_common::topology::QueueSettings;

/// Tasks that a worker runs at once per queue, unless told otherwise.
pub const DEFAULT_CONCURRENCY: usize = 16;

/// How a worker consumes from one queue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueueOptions {
    /// Tasks that run at once.
    pub concurrency: usize,
    /// Deliveries that may be here unsettled. Default: the concurrency while that is under 8, twice as many from
    /// there on: a slow task then holds back none that another worker could run. Of queues that share their runners at
    /// least 4, to choose from. Less where tasks have long timeouts and the last would wait for longer than RabbitMQ
    /// leaves a delivery unacknowledged.
    pub prefetch: Option<u16>,
    /// The queue's settings at the broker.
    pub settings: QueueSettings,
}

impl QueueOptions {
    /// So many tasks at once.
    pub fn concurrency(concurrency: usize) -> Self {
        Self { concurrency, prefetch: None, settings: QueueSettings::default() }
    }

    /// Sets how many deliveries may be here unsettled.
    #[must_use]
    pub fn prefetch(mut self, prefetch: u16) -> Self {
        self.prefetch = Some(prefetch);
        self
    }

    /// Sets the queue's settings at the broker.
    #[must_use]
    pub fn settings(mut self, settings: QueueSettings) -> Self {
        self.settings = settings;
        self
    }
}

impl From<usize> for QueueOptions {
    fn from(concurrency: usize) -> Self {
        Self::concurrency(concurrency)
    }
}

/// Several queues that share the same runners, each with its weight: priorities that hold on every broker.
///
/// While all of them have tasks waiting, a queue with weight 6 gets six turns for one of a queue with weight 1; a queue
/// that is empty leaves its turns to the others.
///
/// ```
/// use leveret_worker::options::PoolOptions;
///
/// let pool = PoolOptions::concurrency(16).queue("mail-urgent", 6).queue("mail", 3).queue("mail-bulk", 1);
/// # let _ = pool;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PoolOptions {
    /// Tasks of all its queues together that run at once.
    pub concurrency: usize,
    /// The queues, each with its weight; their own concurrency is not used.
    pub queues: Vec<(String, u32, QueueOptions)>,
}

impl PoolOptions {
    /// So many tasks at once.
    pub fn concurrency(concurrency: usize) -> Self {
        Self { concurrency, queues: Vec::new() }
    }

    /// Adds a queue with its weight, at least 1.
    #[must_use]
    pub fn queue(self, name: &str, weight: u32) -> Self {
        let options = QueueOptions::concurrency(self.concurrency);
        self.queue_with(name, weight, options)
    }

    /// Adds a queue with its weight, prefetch and settings.
    #[must_use]
    pub fn queue_with(mut self, name: &str, weight: u32, options: QueueOptions) -> Self {
        self.queues.push((name.to_owned(), weight, options));
        self
    }
}
