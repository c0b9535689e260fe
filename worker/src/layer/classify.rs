use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;

use super::{Layer, Next};
use crate::{
    context::Context,
    outcome::{Ended, Error},
};

/// What a failure is to be taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureClass {
    /// It may pass: try again as the policy says.
    Retry,
    /// It may pass: try again after this time, if attempts are left.
    RetryAfter(Duration),
    /// It comes back however often one tries: to the dead-letter queue.
    Reject,
}

/// Tells failures that pass from failures that stay, by a function that looks at the error: for instance at what
/// `?` made it from, with [`Error::downcast_ref`].
///
/// ```
/// use leveret_worker::layer::{Classify, FailureClass};
///
/// let layer = Classify::new(|error| match error.downcast_ref::<std::io::Error>()?.kind() {
///     std::io::ErrorKind::InvalidData => Some(FailureClass::Reject),
///     _ => None, // as the handler said
/// });
/// # let _ = layer;
/// ```
pub struct Classify<F>(F);

impl<F> Classify<F>
where
    F: Fn(&Error) -> Option<FailureClass> + Send + Sync + 'static,
{
    /// Classifies what `class` knows, and leaves the rest as it is. It is asked about failures alone, panics and
    /// timeouts included.
    pub fn new(class: F) -> Self {
        Self(class)
    }
}

impl<F> fmt::Debug for Classify<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Classify")
    }
}

impl<F> Layer for Classify<F>
where
    F: Fn(&Error) -> Option<FailureClass> + Send + Sync + 'static,
{
    fn around<'a>(&'a self, context: &'a Context, next: Next<'a>) -> BoxFuture<'a, Ended> {
        Box::pin(async move {
            let error = match next.run(context).await {
                Err(error) if error.is_failure() => error,
                ended => return ended,
            };
            Err(match (self.0)(&error) {
                Some(FailureClass::Retry) => error.retried(None),
                Some(FailureClass::RetryAfter(delay)) => error.retried(Some(delay)),
                Some(FailureClass::Reject) => error.rejected(),
                None => error,
            })
        })
    }
}
