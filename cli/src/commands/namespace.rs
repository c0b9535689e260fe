//! The argument that says which namespace of a centre is meant.

use clap::Args;

/// Which namespace is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Namespace {
    /// The namespace, in lists * for all [default: that of the context, or the token's]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
}

impl Namespace {
    /// As the query of a request; `default` is the context's.
    pub(crate) fn query(&self, default: Option<String>) -> Vec<(&'static str, String)> {
        self.namespace.clone().or(default).map(|namespace| ("namespace", namespace)).into_iter().collect()
    }
}
