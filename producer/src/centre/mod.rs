//! The scheduling centre: schedules in a database, ticks that are neither missed nor doubled, and a REST interface.
//!
//! Any number of centres work on one database, all at once; each has a part of the schedules.
//!
//! | module | what is in it |
//! |---|---|
//! | [`api`] | the REST interface |
//! | [`database`] | SQLite or PostgreSQL, and statements that both understand |
//! | [`declared`] | schedules that a file declares, beside those that were made over REST |
//! | [`engine`] | decides about ticks, each exactly once, and publishes them |
//! | [`operations`] | queues and dead letters, for operators: what lasts runs in the background |
//! | [`store`] | what is kept there: schedules, ticks, what is to be published, tasks, who may do what |
//! | [`watch`] | what becomes of tasks, and which workers there are |

pub mod api;
pub mod database;
pub mod declared;
pub mod engine;
pub mod operations;
pub mod store;
pub mod watch;
