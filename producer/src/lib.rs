//! Schedules and the cron producer of Leveret.

pub mod schedule;
