//! The REST interface of the centre: JSON under `/api/v1`, described at `/api/v1/openapi.json` and `/docs`.
//!
//! | module or type | what it is |
//! |---|---|
//! | [`Api`] | what the handlers work with |
//! | [`router`], [`openapi`] | all routes, and the document about them |
//! | [`Server`] | listens, with TLS where there is a certificate |
//! | [`Authorised`], [`Caller`] | who asks, and whether they may |
//! | [`Problem`] | errors, as RFC 9457 has them |
//! | [`Body`], [`At`], [`Params`] | what comes with a request |
//! | [`page`], [`revision`], [`moment`] | lists in pages; ETags; moments as RFC 3339 |
//! | [`audit`] | the audit log, and what goes into it |

pub mod audit;
mod authorised;
mod body;
mod calendars;
mod centres;
mod conformity;
mod dead;
mod document;
mod events;
mod failures;
mod gate;
mod guard;
mod idempotency;
mod kinds;
mod limits;
pub mod moment;
mod operations;
pub mod page;
mod problem;
mod queues;
pub mod revision;
mod router;
mod schedules;
mod secret;
mod server;
mod service;
mod state;
mod tasks;
mod tls;
mod tokens;
mod workers;

pub use authorised::{Admin, Authorised, Caller, Everywhere, Need, Operator, Publisher, Viewer};
pub use body::{At, Body, MaybeBody, Params};
pub use problem::{PartError, Problem, ProblemKind};
pub use router::{openapi, router};
pub use server::{RunningServer, Server, ServerError, ServerSettings, TlsFiles};
pub use state::{Api, ApiSettings, Broker};
