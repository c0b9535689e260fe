//! What a schedule is called.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name of a schedule in its namespace: `nightly` in the namespace `default`, or `billing/nightly`. Both parts are 1
/// to 100 letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScheduleName {
    namespace: String,
    name: String,
}

/// The namespace of what says none.
pub const DEFAULT_NAMESPACE: &str = "default";

impl ScheduleName {
    /// A name in a namespace.
    ///
    /// # Errors
    /// [`InvalidScheduleName`] when one of the two breaks the rules.
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidScheduleName> {
        for part in [namespace, name] {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            // Dots alone are taken out of addresses by those who ask over HTTP.
            if part.len() > 100 || !part.chars().all(allowed) || part.chars().all(|c| c == '.') {
                return Err(InvalidScheduleName { name: part.chars().take(120).collect() });
            }
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace == DEFAULT_NAMESPACE {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl FromStr for ScheduleName {
    type Err = InvalidScheduleName;
    fn from_str(text: &str) -> Result<Self, InvalidScheduleName> {
        let (namespace, name) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
        Self::new(namespace, name)
    }
}

impl TryFrom<String> for ScheduleName {
    type Error = InvalidScheduleName;
    fn try_from(text: String) -> Result<Self, InvalidScheduleName> {
        text.parse()
    }
}

impl From<ScheduleName> for String {
    fn from(name: ScheduleName) -> Self {
        name.to_string()
    }
}

/// The name of a schedule, or of its namespace, breaks the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot name a schedule or a namespace: use 1 to 100 letters, digits, `-`, `_` and `.`")]
pub struct InvalidScheduleName {
    /// The part that does, cut if it is very long.
    pub name: String,
}
