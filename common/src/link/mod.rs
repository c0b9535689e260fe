//! The link to the broker: connections that come back by themselves, and what stands on them.
//!
//! lapin opens sockets and speaks AMQP; what happens when a connection or channel is lost is decided here.
//! Each connection that comes up is a *generation*: what belongs to an older one is never acknowledged on a newer.

mod capabilities;
mod consumer;
mod delivery;
mod error;
mod flight;
mod handover;
mod listener;
mod mailbox;
mod pool;
mod publisher;
mod runtime;
mod screen;
mod settler;
mod socket;
mod supervisor;
mod tls;
mod turns;
mod window;

pub use capabilities::Capabilities;
pub use consumer::{Attachment, Consumer, ConsumerSettings};
pub use delivery::Delivery;
pub use error::{ConnectError, PublishError};
pub(crate) use error::{reason, reply_code};
pub use handover::{Handover, Inlet, Runner};
pub use listener::{Heard, Listener, ListenerSettings};
pub use mailbox::{Inbox, MailEvent, Mailbox, MailboxError};
pub use pool::{ChannelPool, PoolError};
pub use publisher::Publisher;
pub use runtime::{JoinHandle, spawn};
pub use settler::Settler;
pub use supervisor::{Link, LinkState, Live, Role};
pub use turns::Share;
