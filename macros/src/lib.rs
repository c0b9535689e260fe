//! `#[derive(Task)]`: gives a type its name on the wire and its defaults.
//!
//! Use it through the facade crate, `leveret::Task`, which holds the trait of the same name.

mod expand;
mod settings;
mod value;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `Task` for the arguments of one kind of work: a struct, or an enum where the arguments take several forms.
///
/// ```ignore
/// #[derive(Serialize, Deserialize, Task)]
/// #[task(name = "email.send", queue = "email", timeout = "30s", retries = 8)]
/// struct SendEmail {
///     to: String,
/// }
/// ```
///
/// | key | meaning | when absent |
/// |---|---|---|
/// | `name` | the name on the wire, 1 to 255 bytes | an error: it is never taken from the type, so that renaming or moving a type loses no task |
/// | `queue` | the queue it is published to: 1 to 100 letters, digits, `-` and `_` | `default` |
/// | `timeout` | how long one attempt may run, such as `"250ms"`, `"30s"` or `"1h 30m"` | the worker's |
/// | `retries` | how often a failed task is tried again after its first attempt | the worker's |
/// | `crate` | path of the module that holds `Task` and `TaskDefaults`, for crates that do not depend on `leveret` | `"::leveret"` |
///
/// The type also has to be `Serialize` and `DeserializeOwned`. It cannot be generic: all its instances would share one
/// name on the wire.
#[proc_macro_derive(Task, attributes(task))]
pub fn derive_task(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::task(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
