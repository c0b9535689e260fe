//! Where dead letters are.

use leveret_common::{
    dead_letters::{DeadLetters, DeadLettersError},
    link::Link,
    topology::QueueName,
};

/// Where dead letters are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Those of a work queue.
    Queue(QueueName),
    /// The messages that no queue took.
    Lost,
}

impl Place {
    /// The work queue's name.
    pub fn queue(&self) -> Option<&str> {
        match self {
            Self::Queue(queue) => Some(queue.as_str()),
            Self::Lost => None,
        }
    }

    /// The dead letters there.
    ///
    /// # Errors
    /// [`DeadLettersError::Name`].
    pub fn open(&self, link: &Link) -> Result<DeadLetters, DeadLettersError> {
        match self {
            Self::Queue(queue) => DeadLetters::of(link.clone(), queue.clone()),
            Self::Lost => DeadLetters::lost(link.clone()),
        }
    }
}
