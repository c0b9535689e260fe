//! Queues and dead letters, as operators see to them: looked at at once, moved in the background with progress.
//!
//! | type | what it is |
//! |---|---|
//! | [`Operations`] | begins, runs, calls off and takes over what lasts: replays and purges |
//! | [`Request`] | which dead letters are meant, and how fast |
//! | [`Letter`], [`LetterChange`] | a dead letter, and what is to be put right about it |
//! | [`Queues`] | how many messages wait, who consumes, and how fast it goes |

mod error;
mod letters;
mod management;
mod place;
mod queues;
mod request;
mod runner;

pub use error::OperationError;
pub(in crate::centre) use error::chain;
pub use letters::{AmendError, Letter, LetterChange, LetterGroup, LetterGroups, Letters, Then, WholeLetter};
pub use management::{InvalidManagementUrl, Management};
pub use place::Place;
pub use queues::{QueueReport, QueueReports, Queues, Rates};
pub use request::{Conditions, ConditionsQuery, Request};
pub use runner::Operations;
