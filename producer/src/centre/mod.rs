//! The scheduling centre: schedules in a database, ticks that are neither missed nor doubled, and a REST interface.
//!
//! Any number of centres work on one database, all at once; each has a part of the schedules.
//!
//! | module | what is in it |
//! |---|---|
//! | [`database`] | SQLite or PostgreSQL, and statements that both understand |
//! | [`engine`] | decides about ticks, each exactly once, and publishes them |
//! | [`store`] | what is kept there: schedules, ticks, what is to be published, tasks, who may do what |

pub mod database;
pub mod engine;
pub mod store;
