//! The keys of `#[task(…)]`.

use std::time::Duration;

use proc_macro2::Span;
use syn::{
    Attribute, DeriveInput, Error, Expr, Ident, Meta, Path, Result, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream},
    parse_quote,
    punctuated::Punctuated,
    token::Paren,
};

use crate::{backoff::Backoff, nearest::nearest, template::Template, value};

/// What `#[task(…)]` says.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) queue: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) give_up_after: Option<Duration>,
    pub(crate) priority: Option<u8>,
    pub(crate) long: Option<bool>,
    pub(crate) key: Option<Template>,
    pub(crate) unique: Option<Unique>,
    pub(crate) schema: Option<bool>,
    /// Where `Task` and `TaskDefaults` are.
    pub(crate) path: Option<Path>,
}

/// What makes tasks the same: a text of some fields, or all there is; and for how long.
pub(crate) struct Unique {
    pub(crate) key: Option<Template>,
    pub(crate) window: Duration,
}

impl Settings {
    /// Reads all `#[task(…)]` of a type.
    pub(crate) fn read(input: &DeriveInput) -> Result<Self> {
        let mut reader = Reader { input, seen: Vec::new(), settings: Self::default(), error: None };
        for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("task")) {
            match entries(attribute) {
                Ok(entries) => entries.iter().for_each(|entry| reader.take(entry)),
                Err(error) => reader.refuse(error),
            }
        }
        reader.finish()
    }

    /// Where `Task` and `TaskDefaults` are.
    pub(crate) fn path(&self) -> Path {
        self.path.clone().unwrap_or_else(|| parse_quote!(::leveret))
    }
}

/// One `key = value`, or `unique(…)`.
struct Entry {
    key: Ident,
    given: Given,
}

enum Given {
    Value(Expr),
    Entries(Punctuated<Entry, Token![,]>),
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error("expected a key with a value, such as `name = \"email.send\"`"));
        }
        // `crate` is a keyword, and so no plain identifier.
        let key = Ident::parse_any(input)?;
        if key == "unique" && input.peek(Paren) {
            let inner;
            syn::parenthesized!(inner in input);
            return Ok(Self { key, given: Given::Entries(Punctuated::parse_terminated(&inner)?) });
        }
        if !input.peek(Token![=]) {
            return Err(Error::new(
                key.span(),
                known(&key, &KEYS).map_or_else(
                    |error| error.to_string(),
                    |key| format!("`{key}` needs a value: write `{}`", example(key)),
                ),
            ));
        }
        input.parse::<Token![=]>()?;
        let mut value: Expr = input.parse()?;
        // A literal that comes out of a macro's variable has an invisible group around it.
        while let Expr::Group(group) = value {
            value = *group.expr;
        }
        Ok(Self { key, given: Given::Value(value) })
    }
}

fn entries(attribute: &Attribute) -> Result<Punctuated<Entry, Token![,]>> {
    if let Meta::List(_) = attribute.meta {
        return attribute.parse_args_with(Punctuated::parse_terminated);
    }
    Err(Error::new_spanned(attribute, "the keys stand in parentheses: write `#[task(name = \"email.send\")]`"))
}

struct Reader<'a> {
    input: &'a DeriveInput,
    seen: Vec<&'static str>,
    settings: Settings,
    error: Option<Error>,
}

impl Reader<'_> {
    fn take(&mut self, entry: &Entry) {
        if let Err(error) = self.try_take(entry) {
            self.refuse(error);
        }
    }

    fn try_take(&mut self, Entry { key, given }: &Entry) -> Result<()> {
        let known = known(key, &KEYS)?;
        once(&mut self.seen, key, known)?;
        let value = match given {
            Given::Value(value) => value,
            Given::Entries(entries) => {
                self.settings.unique = Some(self.unique(key, entries)?);
                return Ok(());
            }
        };
        let settings = &mut self.settings;
        match known {
            "name" => settings.name = value::name(value)?,
            "queue" => settings.queue = Some(value::queue(value)?),
            "timeout" => settings.timeout = Some(value::timeout(value)?),
            "retries" => settings.retries = Some(value::retries(value)?),
            "backoff" => settings.backoff = Some(value::backoff(value)?),
            "give_up_after" => settings.give_up_after = Some(value::give_up_after(value)?),
            "priority" => settings.priority = Some(value::priority(value)?),
            "long" => settings.long = Some(value::flag(value, "long = true")?),
            "key" => settings.key = Some(Template::read(value::text(value, example("key"))?, self.input)?),
            "unique" => settings.unique = Some(Unique { key: None, window: value::window(value)? }),
            "schema" => settings.schema = Some(value::flag(value, "schema = true")?),
            _ => settings.path = Some(value::path(value)?),
        }
        Ok(())
    }

    fn unique(&self, unique: &Ident, entries: &Punctuated<Entry, Token![,]>) -> Result<Unique> {
        let (mut seen, mut key, mut window) = (Vec::new(), None, None);
        for entry in entries {
            let known = known(&entry.key, &["key", "window"])?;
            once(&mut seen, &entry.key, known)?;
            match (&entry.given, known) {
                (Given::Value(value), "key") => {
                    key = Some(Template::read(value::text(value, "key = \"{invoice}\"")?, self.input)?);
                }
                (Given::Value(value), _) => window = Some(value::window(value)?),
                (Given::Entries(_), _) => {
                    return Err(Error::new(entry.key.span(), "this has no parentheses of its own"));
                }
            }
        }
        let missing = "`unique` needs a window, in which only the first of its kind is run: add `window = \"1h\"`";
        Ok(Unique { key, window: window.ok_or_else(|| Error::new(unique.span(), missing))? })
    }

    fn refuse(&mut self, error: Error) {
        match &mut self.error {
            Some(earlier) => earlier.combine(error),
            None => self.error = Some(error),
        }
    }

    fn finish(mut self) -> Result<Settings> {
        // Where something could not be read, the name may be what follows it.
        if self.error.is_none() && self.settings.name.is_empty() {
            let ident = &self.input.ident;
            self.refuse(Error::new(
                Span::call_site(),
                format!(
                    "`{ident}` has no name on the wire: add `#[task(name = \"…\")]`, for example `#[task(name = \"email.send\")]`; \
                     it is not taken from the type, so that renaming `{ident}` loses no task"
                ),
            ));
        }
        self.error.map_or(Ok(self.settings), Err)
    }
}

const KEYS: [&str; 12] = [
    "name",
    "queue",
    "timeout",
    "retries",
    "backoff",
    "give_up_after",
    "priority",
    "long",
    "key",
    "unique",
    "schema",
    "crate",
];

fn once(seen: &mut Vec<&'static str>, key: &Ident, known: &'static str) -> Result<()> {
    if seen.contains(&known) {
        return Err(Error::new(key.span(), format!("`{known}` is given twice: keep one")));
    }
    seen.push(known);
    Ok(())
}

/// The key as one that we know, or an error that names the nearest.
fn known(key: &Ident, keys: &[&'static str]) -> Result<&'static str> {
    let text = key.unraw().to_string();
    if let Some(known) = keys.iter().find(|known| **known == text) {
        return Ok(known);
    }
    let advice = match nearest(&text, keys.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("the keys are `{}`", keys.join("`, `")),
    };
    Err(Error::new(key.span(), format!("unknown key `{text}`: {advice}")))
}

fn example(key: &str) -> &'static str {
    match key {
        "name" => "name = \"email.send\"",
        "queue" => "queue = \"email\"",
        "timeout" => "timeout = \"30s\"",
        "retries" => "retries = 8",
        "backoff" => "backoff = \"2s..1h\"",
        "give_up_after" => "give_up_after = \"2h\"",
        "priority" => "priority = 5",
        "long" => "long = true",
        "key" => "key = \"{customer}-{region}\"",
        "unique" => "unique = \"1h\"",
        "schema" => "schema = true",
        "window" => "window = \"1h\"",
        _ => "crate = \"::leveret\"",
    }
}
