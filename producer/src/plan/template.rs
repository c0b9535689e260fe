//! Placeholders in the texts of a payload: `{{scheduled_at}}` and so on.

use super::Definition;

pub(super) fn speaks_of_time(_definition: &Definition) -> bool {
    false
}
