//! Consume, run, settle: the Leveret worker.
//!
//! | module | what is in it |
//! |---|---|
//! | [`builder`] | [`Worker`](builder::Worker): which tasks, from which queues, how many at once |
//! | [`handler`] | [`Job`](handler::Job), the arguments of one task, and what a handler may be |
//! | [`context`] | [`Context`](context::Context), what a handler knows of the task that it runs |
//! | [`outcome`] | [`Outcome`](outcome::Outcome) and [`Error`](outcome::Error), what a handler says in the end |
//! | [`run`] | [`RunningWorker`](run::RunningWorker): stop it, wait for it, ask how it is |
//! | [`control`] | [`ControlPlane`](control::ControlPlane): hears commands, carries them out, announces the worker |
//! | [`exec`] | tasks run as commands and HTTP calls |

pub mod builder;
pub mod context;
pub mod control;
pub mod exec;
mod exec_handler;
mod execute;
pub mod handler;
mod lane;
pub mod outcome;
pub mod run;
mod settle;
