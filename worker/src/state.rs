//! What handlers share, found by its type.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
};

use crate::outcome::Error;

/// Values by their types: a connection pool, a client, settings.
#[derive(Default)]
pub(crate) struct State(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl State {
    /// Puts a value in; one of the same type that was there is replaced.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Box::new(value));
    }

    /// The value of this type.
    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Result<&T, Error> {
        let value = self.0.get(&TypeId::of::<T>()).and_then(|value| value.downcast_ref());
        // Another worker of the queue, or the next release, may have it: so it is tried again.
        value.ok_or_else(|| {
            Error::retry(format!(
                "this worker has no state of type {}: give it one with `.state(..)`",
                type_name::<T>()
            ))
        })
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("State").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_type_and_one_that_is_missing_is_named() {
        let mut state = State::default();
        state.insert("pool".to_owned());
        assert_eq!(state.get::<String>().unwrap(), "pool");
        assert!(state.get::<u64>().unwrap_err().to_string().contains("no state of type u64"));
    }
}
