//! Scaffolding that the end-to-end tests share: a worker on a virtual host of its own, and what it has seen.
