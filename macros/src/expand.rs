//! From the type to its implementation of `Task`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, GenericParam, Result};

use crate::settings::Settings;

pub(crate) fn task(input: &DeriveInput) -> Result<TokenStream> {
    // All that is wrong is said at once, so that it can be mended at once.
    let settings = Settings::read(&input.attrs, &input.ident);
    let settings = match (check_shape(input), settings) {
        (Ok(()), settings) => settings?,
        (Err(error), Ok(_)) => return Err(error),
        (Err(mut error), Err(more)) => {
            error.combine(more);
            return Err(error);
        }
    };

    let Settings { name, queue, timeout, retries, path } = settings;
    let queue = queue.map(|queue| quote!(.queue(#queue)));
    let timeout = timeout.map(|timeout| {
        let (seconds, nanoseconds) = (timeout.as_secs(), timeout.subsec_nanos());
        quote!(.timeout(::core::time::Duration::new(#seconds, #nanoseconds)))
    });
    let retries = retries.map(|retries| quote!(.retries(#retries)));
    let ident = &input.ident;
    Ok(quote! {
        #[automatically_derived]
        impl #path::Task for #ident {
            const NAME: &'static str = #name;
            const DEFAULTS: #path::TaskDefaults = #path::TaskDefaults::new() #queue #timeout #retries;
        }
    })
}

fn check_shape(input: &DeriveInput) -> Result<()> {
    if let Data::Union(data) = &input.data {
        let message = "a union cannot be a task, as it cannot be serialized: use a struct or an enum";
        return Err(Error::new(data.union_token.span, message));
    }
    match input.generics.params.first() {
        None => Ok(()),
        Some(parameter @ GenericParam::Lifetime(_)) => Err(Error::new_spanned(
            parameter,
            "a task owns its arguments, as it outlives the message it came in: use `String` for `&str`, `Vec<T>` for `&[T]`",
        )),
        Some(parameter) => Err(Error::new_spanned(
            parameter,
            "a task cannot be generic, as all its instances would share one name on the wire: \
             derive `Task` on one type for each kind of work",
        )),
    }
}
