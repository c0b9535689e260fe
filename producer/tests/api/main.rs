//! The REST interface, asked over HTTP.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test reports by failing")]

mod access;
mod broker;
mod cancel;
mod contract;
mod dead;
mod events;
mod frame;
mod fuzz;

mod schedules;
mod site;
