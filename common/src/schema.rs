//! The JSON Schema of a type that has one, without asking for it of those that have none.

use std::marker::PhantomData;

use serde_json::Value;

/// Finds out whether `T` is `schemars::JsonSchema`: the methods below are found first where it is, and those of
/// [`WithoutSchema`] where it is not. That works for a type that is known by name, as in the code of a derive.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<fn() -> T>);

impl<T> Probe<T> {
    /// The probe.
    pub const NEW: Self = Self(PhantomData);
}

#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> Probe<T> {
    /// Whether there is a schema.
    pub const HAS_SCHEMA: bool = true;

    /// The schema, of draft 2020-12.
    pub fn schema(&self) -> Option<Value> {
        Some(schemars::SchemaGenerator::default().into_root_schema_for::<T>().to_value())
    }
}

/// What holds for types without a schema.
pub trait WithoutSchema {
    /// Whether there is a schema.
    const HAS_SCHEMA: bool = false;

    /// No schema.
    fn schema(&self) -> Option<Value> {
        None
    }
}

impl<T> WithoutSchema for Probe<T> {}
