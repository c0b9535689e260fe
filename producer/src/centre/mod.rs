//! The scheduling centre: schedules in a database, ticks that are neither missed nor doubled, and a REST interface.
//!
//! Any number of centres work on one database, all at once; each has a part of the schedules.
//!
//! | module | what is in it |
//! |---|---|
//! | [`database`] | SQLite or PostgreSQL, and statements that both understand |
//! | [`store`] | what is kept there: schedules, ticks, what is to be published, tasks, who may do what |
//! | [`watch`] | what becomes of tasks, and which workers there are |

pub mod database;
pub mod store;
pub mod watch;
