//! What holds for any message whatever.

pub(super) mod arbitrary;
mod fuzz;
mod round_trip;
