//! Consume, run, settle: the Leveret worker.
//!
//! | module | what is in it |
//! |---|---|
//! | [`builder`] | [`Worker`](builder::Worker): which tasks, from which queues, how many at once |
//! | [`handler`] | [`Job`](handler::Job), the arguments of one task, and what a handler may be |
//! | [`context`] | [`Context`](context::Context), what a handler knows of the task that it runs |
//! | [`outcome`] | [`Outcome`](outcome::Outcome) and [`Error`](outcome::Error), what a handler says in the end |
//! | [`run`] | [`RunningWorker`](run::RunningWorker): stop it, wait for it, ask how it is |
//! | [`forward`] | [`Forwarder`](forward::Forwarder): gives a task to the worker that its route chooses |
//! | [`shards`] | a worker's part in queues in shards |
//! | [`exec`] | tasks run as commands and HTTP calls |

pub mod builder;
pub mod context;
pub mod exec;
mod exec_handler;
mod execute;
pub mod forward;
pub mod handler;
mod lane;
pub mod outcome;
pub mod run;
mod settle;
pub mod shards;
