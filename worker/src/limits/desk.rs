//! Where a task asks for a permit: of this worker alone, or of all workers. Both give it back when it is dropped.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::protocol::Claim;

/// What a task asks for.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) claims: Vec<Claim>,
    /// How long it has waited already.
    pub(super) age: Duration,
    /// Whether it was sent away before.
    pub(super) back: bool,
}

/// What it is told.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It may begin. The token is cancelled when the permit counts no more, because the connection was lost.
    Granted(CancellationToken),
    /// It is to come again.
    Later(Duration),
}

/// Why there is no permit.
#[derive(Debug)]
pub(super) enum Refused {
    /// It takes longer than anyone should wait.
    Later(Duration),
    /// The worker is stopping.
    Closed,
}

pub(super) trait Desk: std::fmt::Debug + Send + Sync {
    /// Asks; gives a number for the permit, and where the verdict will be.
    fn ask(&self, question: Question) -> (u64, oneshot::Receiver<Verdict>);

    /// The permit is not needed any more, or no longer waited for.
    fn give_back(&self, id: u64);

    /// Nobody is given a permit any more, those who wait neither. What is held stays held.
    fn close(&self);
}

/// A permit, or the wait for one, that gives itself back.
#[derive(Debug)]
pub(super) struct Part {
    desk: Arc<dyn Desk>,
    id: u64,
    lost: Option<CancellationToken>,
}

impl Part {
    /// Asks and waits for the verdict.
    pub(super) async fn ask(desk: Arc<dyn Desk>, question: Question) -> Result<Self, Refused> {
        let (id, verdict) = desk.ask(question);
        let mut part = Self { desk, id, lost: None };
        match verdict.await {
            Ok(Verdict::Granted(lost)) => {
                part.lost = Some(lost);
                Ok(part)
            }
            Ok(Verdict::Later(wait)) => Err(Refused::Later(wait)),
            Err(_) => Err(Refused::Closed),
        }
    }

    pub(super) fn lost(&self) -> Option<&CancellationToken> {
        self.lost.as_ref()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.desk.give_back(self.id);
    }
}
