//! What holds for any message whatever.

pub(crate) mod arbitrary;
mod fuzz;
mod round_trip;
