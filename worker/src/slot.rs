//! What a runner has in hand, for whoever asks.

use parking_lot::Mutex;

use crate::context::Context;

/// The task that one runner runs, if it runs one. Each has its own, so that taking note of a task costs no more than a
/// lock that nobody else wants.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Option<Context>>);

impl Slot {
    /// Takes note of a task until the guard is dropped.
    pub(crate) fn occupy(&self, context: &Context) -> Occupied<'_> {
        *self.0.lock() = Some(context.clone());
        Occupied(self)
    }

    /// The task in hand.
    pub(crate) fn task(&self) -> Option<Context> {
        self.0.lock().clone()
    }
}

/// A task is in hand.
pub(crate) struct Occupied<'a>(&'a Slot);

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        // Dropped outside of the lock.
        let _context = self.0.0.lock().take();
    }
}
