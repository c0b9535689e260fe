//! Queues and dead letters, as operators see to them: looked at at once, moved in the background with progress.
//!
//! | type | what it is |
//! |---|---|
//! | [`Operations`] | begins, runs, calls off and takes over what lasts: replays and purges |
//! | [`Request`] | which dead letters are meant, and how fast |

mod request;
mod runner;

pub use request::{Conditions, ConditionsQuery, Request};
pub use runner::{OperationError, Operations, Place};
