//! Consume, run, settle.

pub mod exec;
