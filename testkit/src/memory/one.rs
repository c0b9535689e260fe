//! One call of one handler.

use std::sync::Arc;

use leveret_common::{message::Message, task::Task, task::TaskId};
use leveret_worker::{
    builder::{Worker, WorkerBuilder},
    context::Context,
    handler::Job,
    outcome::{Error, Outcome},
};
use parking_lot::Mutex;

use super::{End, MemoryBroker};

/// A task to call a handler with, as it would come from the queue:
/// `TestTask::of(&task).attempt(3).run(handler).await`.
#[must_use = "call `run`"]
pub struct TestTask<T> {
    message: Message,
    builder: Box<dyn FnOnce(WorkerBuilder) -> WorkerBuilder + Send>,
    task: std::marker::PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for TestTask<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestTask").field("message", &self.message).finish_non_exhaustive()
    }
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Worked {
    /// What the handler returned; `None` if it was not called, panicked or ran out of time.
    pub returned: Option<Result<Outcome, Error>>,
    /// How the worker settled the task.
    pub end: End,
}

impl<T: Task> TestTask<T> {
    /// A task at its first attempt.
    ///
    /// # Panics
    /// If it cannot be written as JSON.
    pub fn of(task: &T) -> Self {
        let message = Message::of(task).unwrap_or_else(|error| panic!("{error}"));
        Self { message, builder: Box::new(|builder| builder), task: std::marker::PhantomData }
    }

    /// Sets the number of the attempt.
    pub fn attempt(self, attempt: u32) -> Self {
        self.message(|message| message.header("leveret-attempt", i64::from(attempt)))
    }

    /// Sets the id.
    pub fn id(self, id: TaskId) -> Self {
        self.message(|message| message.id(id))
    }

    /// Changes the message by any of its own setters: `.message(|message| message.key("eu").header("x-mine", 1))`.
    pub fn message(mut self, change: impl FnOnce(Message) -> Message) -> Self {
        self.message = change(self.message);
        self
    }

    /// Changes the worker: its policy, or what its handlers share.
    pub fn worker(mut self, change: impl FnOnce(WorkerBuilder) -> WorkerBuilder + Send + 'static) -> Self {
        let before = self.builder;
        self.builder = Box::new(|builder| change(before(builder)));
        self
    }

    /// Calls the handler, on a broker of its own.
    ///
    /// # Panics
    /// If the worker cannot be built, or the handler takes longer than 30 s.
    pub async fn run<F, R, O>(self, handler: F) -> Worked
    where
        F: Fn(Context, Job<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, Error>> + Send + 'static,
        O: Into<Outcome> + 'static,
    {
        self.run_on(&MemoryBroker::new(), handler).await
    }

    /// Calls the handler on this broker, to which it may publish. What is published is then in
    /// [`MemoryBroker::published`], after the task itself.
    ///
    /// # Panics
    /// As [`run`](Self::run), and when other tasks wait in the queue as well.
    pub async fn run_on<F, R, O>(self, broker: &MemoryBroker, handler: F) -> Worked
    where
        F: Fn(Context, Job<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, Error>> + Send + 'static,
        O: Into<Outcome> + 'static,
    {
        let returned = Arc::new(Mutex::new(None));
        let slot = returned.clone();
        let noting = move |context: Context, job: Job<T>| {
            let (calling, slot) = (handler(context, job), slot.clone());
            async move {
                let result: Result<Outcome, Error> = calling.await.map(Into::into);
                *slot.lock() = Some(result.clone());
                result
            }
        };
        let builder = (self.builder)(Worker::builder(broker.settings()).task(noting));
        let mut worker = broker.worker(builder).await;
        let client = broker.client().await;
        client.publish_message(self.message).await.unwrap_or_else(|error| panic!("{error}"));
        let report = worker.run_due().await;
        worker.stop().await;
        client.close().await;
        let end = report.only().clone();
        let returned = returned.lock().take();
        Worked { returned, end }
    }
}
