//! The REST interface, asked over HTTP.

#![expect(clippy::unwrap_used, reason = "a test reports by failing")]

mod frame;
mod site;
