//! From the type to its implementation of `Task`.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, GenericParam, Ident, Path, Result};

use crate::{
    backoff::{Backoff, Delays},
    settings::{Settings, Unique},
};

pub(crate) fn task(input: &DeriveInput) -> Result<TokenStream> {
    // All that is wrong is said at once, so that it can be mended at once.
    let settings = Settings::read(input);
    let settings = match (check_shape(input), settings) {
        (Ok(()), settings) => settings?,
        (Err(error), Ok(_)) => return Err(error),
        (Err(mut error), Err(more)) => {
            error.combine(more);
            return Err(error);
        }
    };

    let path = settings.path();
    let ident = &input.ident;
    let name = &settings.name;
    let defaults = defaults(&settings, &path);
    let key = settings.key.as_ref().map(|key| {
        quote! {
            fn key(&self) -> ::core::option::Option<::std::string::String> {
                ::core::option::Option::Some(#key)
            }
        }
    });
    let unique = settings.unique.as_ref().map(|unique| unique_method(unique, &path));
    let schema = schema(settings.schema, ident, &path);
    Ok(quote! {
        #[automatically_derived]
        impl #path::Task for #ident {
            const NAME: &'static str = #name;
            const DEFAULTS: #path::TaskDefaults = #path::TaskDefaults::new() #defaults;
            #key
            #unique
            #schema
        }
    })
}

/// The calls that set what the type says itself.
fn defaults(settings: &Settings, path: &Path) -> TokenStream {
    let queue = settings.queue.as_ref().map(|queue| quote!(.queue(#queue)));
    let timeout = settings.timeout.map(duration).map(|timeout| quote!(.timeout(#timeout)));
    let retries = settings.retries.map(|retries| quote!(.retries(#retries)));
    let backoff = settings.backoff.as_ref().map(|backoff| {
        let backoff = backoff_value(backoff, path);
        quote!(.backoff(#backoff))
    });
    let give_up_after = settings.give_up_after.map(duration).map(|limit| quote!(.give_up_after(#limit)));
    let priority = settings.priority.map(|priority| quote!(.priority(#priority)));
    let long = settings.long.map(|long| quote!(.long(#long)));
    quote!(#queue #timeout #retries #backoff #give_up_after #priority #long)
}

fn backoff_value(backoff: &Backoff, path: &Path) -> TokenStream {
    let delays = match &backoff.delays {
        Delays::Exponential(first, cap) => {
            let (first, cap) = (duration(*first), duration(*cap));
            quote!(exponential(#first, #cap))
        }
        Delays::Linear(first, cap) => {
            let (first, cap) = (duration(*first), duration(*cap));
            quote!(linear(#first, #cap))
        }
        Delays::Each(delays) => match delays.as_slice() {
            [delay] => {
                let delay = duration(*delay);
                quote!(constant(#delay))
            }
            delays => {
                let delays = delays.iter().copied().map(duration);
                quote!(list([#(#delays),*]))
            }
        },
    };
    let factor = backoff.factor.map(|factor| quote!(.factor(#factor)));
    let jitter = backoff.jitter.map(|jitter| match jitter {
        "full" => quote!(.jitter(#path::__private::Jitter::Full)),
        "equal" => quote!(.jitter(#path::__private::Jitter::Equal)),
        _ => quote!(.jitter(#path::__private::Jitter::None)),
    });
    quote!(#path::__private::Backoff::#delays #factor #jitter)
}

fn duration(duration: Duration) -> TokenStream {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanoseconds))
}

fn unique_method(unique: &Unique, path: &Path) -> TokenStream {
    let window = duration(unique.window);
    let value = match &unique.key {
        Some(key) => quote!(::core::option::Option::Some(#path::__private::Unique::new(&#key, #window))),
        None => quote!(#path::__private::Unique::of(self, #window)),
    };
    quote! {
        fn unique(&self) -> ::core::option::Option<#path::__private::Unique> {
            #value
        }
    }
}

/// Where the type has a schema, the method that gives it; whether it has one only the compiler knows, later.
fn schema(wanted: Option<bool>, ident: &Ident, path: &Path) -> Option<TokenStream> {
    if wanted == Some(false) {
        return None;
    }
    let demand = wanted.map(|_| {
        let message = format!(
            "`{ident}` has no JSON Schema: derive `JsonSchema` of the crate `schemars` (version 1) beside `Task`, with \
             the feature `schema` of `leveret`, or take out `schema = true`"
        );
        quote!(
            const _: () = ::core::assert!(#path::__private::Probe::<#ident>::HAS_SCHEMA, #message);
        )
    });
    Some(quote! {
        fn schema() -> ::core::option::Option<#path::__private::Value> {
            #[allow(unused_imports)]
            use #path::__private::WithoutSchema as _;
            #demand
            #path::__private::Probe::<#ident>::NEW.schema()
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
