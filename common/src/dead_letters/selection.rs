//! Which dead letters are meant.

use std::collections::BTreeSet;

use super::DeadLetter;
use crate::clock::UnixMillis;

/// Which dead letters are meant: all, or those for which every condition holds.
///
/// ```
/// use leveret_common::dead_letters::Selection;
/// let panicked = Selection::all().reason("exhausted").error("panicked").limit(100);
/// assert!(!panicked.is_all());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    ids: BTreeSet<String>,
    reason: Option<String>,
    task: Option<String>,
    error: Option<String>,
    failed_before: Option<UnixMillis>,
    failed_after: Option<UnixMillis>,
    limit: Option<u64>,
}

impl Selection {
    /// All of them.
    pub fn all() -> Self {
        Self {
            ids: BTreeSet::new(),
            reason: None,
            task: None,
            error: None,
            failed_before: None,
            failed_after: None,
            limit: None,
        }
    }

    /// Those with this task id, and with those that were given before.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.ids.insert(id.to_owned());
        self
    }

    /// Those that are dead for this reason, such as `exhausted`.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    /// Those of the task with this name.
    #[must_use]
    pub fn task(mut self, task: &str) -> Self {
        self.task = Some(task.to_owned());
        self
    }

    /// Those whose error has this text in it, capital letters or not.
    #[must_use]
    pub fn error(mut self, text: &str) -> Self {
        self.error = Some(text.to_lowercase());
        self
    }

    /// Those that failed before this moment. One that does not say when it failed is not meant.
    #[must_use]
    pub fn failed_before(mut self, at: UnixMillis) -> Self {
        self.failed_before = Some(at);
        self
    }

    /// Those that failed at this moment or later. One that does not say when it failed is not meant.
    #[must_use]
    pub fn failed_after(mut self, at: UnixMillis) -> Self {
        self.failed_after = Some(at);
        self
    }

    /// At most so many, from the head of the queue on.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Whether no condition and no limit is set.
    pub fn is_all(&self) -> bool {
        *self == Self::all()
    }

    /// How many there may be.
    pub(super) fn most(&self) -> u64 {
        self.limit.unwrap_or(u64::MAX)
    }

    /// Whether every condition holds. The limit is for whoever counts.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        let error = || letter.error.as_deref().unwrap_or_default().to_lowercase();
        (self.ids.is_empty() || letter.id.as_ref().is_some_and(|id| self.ids.contains(id)))
            && self.reason.as_ref().is_none_or(|reason| letter.reason == *reason)
            && self.task.as_ref().is_none_or(|task| letter.task == *task)
            && self.error.as_ref().is_none_or(|text| error().contains(text))
            && self.failed_before.is_none_or(|before| letter.failed_at.is_some_and(|at| at < before))
            && self.failed_after.is_none_or(|after| letter.failed_at.is_some_and(|at| at >= after))
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::*;

    #[test]
    fn every_condition_must_hold() {
        let mut letter = DeadLetter::dead("mail", &BasicProperties::default(), Vec::new());
        "exhausted".clone_into(&mut letter.reason);
        "mail.send".clone_into(&mut letter.task);
        letter.id = Some("a".to_owned());
        letter.error = Some("Connection refused by mx".to_owned());
        letter.failed_at = Some(UnixMillis(1_000));
        let all = Selection::all;
        for fits in [
            all(),
            all().id("b").id("a"),
            all().reason("exhausted").task("mail.send"),
            all().error("connection REFUSED"),
            all().failed_after(UnixMillis(1_000)).failed_before(UnixMillis(1_001)),
        ] {
            assert!(fits.matches(&letter), "{fits:?}");
        }
        for fails in [
            all().id("b"),
            all().reason("exhausted").task("mail.read"),
            all().error("timeout"),
            all().failed_before(UnixMillis(1_000)),
        ] {
            assert!(!fails.matches(&letter), "{fails:?}");
        }
    }
}
