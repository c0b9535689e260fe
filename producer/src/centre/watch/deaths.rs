//! Reading copies of dead letters: what nobody tells of is told by the broker's own notes.

use leveret_common::{dead_letters::Death, link::Delivery};

use super::read::Read;
use crate::centre::store::tasks::Told;

/// The death that a copy of a dead letter tells of. Of one that a worker has published it tells nothing: that worker has
/// told more than the letter says, if its task is followed at all.
pub(super) fn copy(delivery: &mut Delivery) -> Read {
    let (properties, _) = delivery.take_content();
    Read { events: Death::read(&properties).map(Told::death).into_iter().collect(), ..Read::default() }
}
