//! Consume, run, settle: the Leveret worker.
//!
//! | module | what is in it |
//! |---|---|
//! | [`builder`] | [`Worker`](builder::Worker): which tasks, from which queues, how many at once |
//! | [`options`], [`policy`] | how it consumes from a queue, and what holds for a task |
//! | [`handler`] | [`Job`](handler::Job), the arguments of one task, and what a handler may be |
//! | [`context`] | [`Context`](context::Context), what a handler knows of the task that it runs |
//! | [`outcome`] | [`Outcome`](outcome::Outcome) and [`Error`](outcome::Error), what a handler says in the end |
//! | [`layer`] | what is done around every attempt |
//! | [`run`] | [`RunningWorker`](run::RunningWorker): stop it, wait for it, ask how it is |
//! | [`steering`] | steer it: what runs, call off, pause, more or fewer at once |
//! | [`limits`] | [`Limits`](limits::Limits): how many tasks run at once and begin in a time, here and everywhere |
//! | [`control`] | [`ControlPlane`](control::ControlPlane): hears commands, carries them out, announces the worker |
//! | [`forward`] | [`Forwarder`](forward::Forwarder): gives a task to the worker that its route chooses |
//! | [`shards`] | a worker's part in queues in shards |
//! | [`exec`] | tasks run as commands and HTTP calls |

mod build_error;
pub mod builder;
pub mod context;
pub mod control;
pub mod exec;
mod exec_handler;
mod execute;
mod fate;
pub mod forward;
pub mod handler;
mod health;
mod lane;
pub mod layer;
mod lease;
pub mod limits;
pub mod options;
pub mod outcome;
mod peers;
mod plan;
pub mod policy;
mod pool;
mod report;
mod revocations;
pub mod run;
mod settle;
pub mod shards;
mod slot;
mod source;
mod start;
mod state;
pub mod steering;
