//! `#[derive(Task)]`: gives a type its name on the wire and its defaults.
//!
//! Use it through the facade crate, `leveret::Task`, which holds the trait of the same name.

mod backoff;
mod expand;
mod nearest;
mod settings;
mod template;
mod value;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `Task` for the arguments of one kind of work: a struct, or an enum where the arguments take several forms.
///
/// ```ignore
/// #[derive(Serialize, Deserialize, Task)]
/// #[task(name = "email.send", queue = "email", timeout = "30s", retries = 8, backoff = "2s..1h")]
/// #[task(key = "to", unique(key = "{to}/{letter}", window = "1h"))]
/// struct SendEmail {
///     to: String,
///     letter: u64,
/// }
/// ```
///
/// | key | meaning | when absent |
/// |---|---|---|
/// | `name` | the name on the wire, 1 to 255 bytes | an error: it is never taken from the type, so that renaming or moving a type loses no task |
/// | `queue` | the queue it is published to: 1 to 100 letters, digits, `-` and `_` | `default` |
/// | `timeout` | how long one attempt may run, such as `"250ms"`, `"30s"` or `"1h 30m"` | the worker's |
/// | `retries` | how often a failed task is tried again after its first attempt | the worker's |
/// | `backoff` | the delays between attempts: `"2s..1h"` doubles, as does `"2s..1h x3"` by threes, `"linear 10s..5m"` grows evenly, `"1s,5s,30s"` is a list, `"30s"` is always the same; `full`, `equal` or `none` behind it is the jitter | the worker's |
/// | `give_up_after` | how long after its first failure a task may still be tried, such as `"2h"` | the worker's |
/// | `priority` | the AMQP priority it is published with, 0 to 9, above 4 is high | none |
/// | `long` | `true`: an attempt may take longer than the broker waits for an acknowledgement | `false` |
/// | `key` | the affinity key it is published with: a field, or a text with fields in braces, such as `"{customer}-{region}"` | none |
/// | `unique` | `"1h"`: of tasks with the same arguments, only the first within the window is run. `unique(key = "{invoice}", window = "1h")`: of tasks with the same key | all are run |
/// | `schema` | `true`: the type has to be `schemars::JsonSchema`; `false`: its schema is not announced even if it is | announced if it is |
/// | `crate` | path of `leveret` where it has another name, or `"::leveret_common::task"` for crates that do not depend on it | `"::leveret"` |
///
/// Fields in a key are written by their `Display`; `{customer.id}` is a field of a field, and `{{` is a brace.
///
/// The type also has to be `Serialize` and `DeserializeOwned`. It cannot be generic: all its instances would share one
/// name on the wire.
#[proc_macro_derive(Task, attributes(task))]
pub fn derive_task(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::task(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
