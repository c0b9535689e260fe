use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use super::{Layer, Next};
use crate::{
    context::{Cancelled, Context},
    outcome::{Ended, Error, ErrorKind},
};

/// Ends attempts that take too long: at the soft timeout the cancellation token is cancelled, at the timeout the
/// handler's future is dropped. One that has to give heartbeats and does not is taken to hang, and ends likewise.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TimeLimit;

impl Layer for TimeLimit {
    fn around<'a>(&'a self, context: &'a Context, next: Next<'a>) -> BoxFuture<'a, Ended> {
        Box::pin(async move {
            tokio::select! {
                biased;
                ended = next.run(context) => ended,
                // Not looked at before the handler waits for something: a task that does nothing sets no timer.
                error = over(context) => Err(error),
            }
        })
    }
}

/// Waits until the attempt has to end, and says why. Tells the handler when its soft timeout is over.
async fn over(context: &Context) -> Error {
    let policy = &context.kind().policy;
    let timeout = context.timeout();
    // What keeps the time itself is given its timeout and the time to come to an orderly end.
    let hard = context.at(timeout.saturating_add(context.kind().handler.overtime()));
    let mut soft = policy.soft_timeout.filter(|soft| *soft < timeout).map(|soft| context.at(soft));
    let out_of_time = |what: String| Error::of(ErrorKind::TimedOut, what);
    loop {
        let silent = |heartbeat: Duration| context.last_heard() + heartbeat;
        let next = [soft, policy.heartbeat.map(silent)].into_iter().flatten().fold(hard, Instant::min);
        sleep_until(next).await;
        let now = Instant::now();
        if now >= hard {
            return out_of_time(format!("not finished within {} ms", timeout.as_millis()));
        }
        if soft.is_some_and(|soft| now >= soft) {
            soft = None;
            context.cancel(Cancelled::OutOfTime);
        }
        if let Some(heartbeat) = policy.heartbeat.filter(|heartbeat| now >= silent(*heartbeat)) {
            return out_of_time(format!("no heartbeat for {} ms", heartbeat.as_millis()));
        }
    }
}
