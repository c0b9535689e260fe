//! The keys of `#[task(…)]`.

use std::time::Duration;

use proc_macro2::Span;
use syn::{
    Attribute, Error, Expr, Ident, Meta, Path, Result, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream},
    parse_quote,
    punctuated::Punctuated,
};

use crate::value;

const KEYS: [&str; 5] = ["name", "queue", "timeout", "retries", "crate"];

/// What `#[task(…)]` says.
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) queue: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Option<u32>,
    /// Where `Task` and `TaskDefaults` are.
    pub(crate) path: Path,
}

impl Settings {
    /// Reads all `#[task(…)]` of a type.
    pub(crate) fn read(attributes: &[Attribute], ident: &Ident) -> Result<Self> {
        let mut reader = Reader::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("task")) {
            match entries(attribute) {
                Ok(entries) => entries.iter().for_each(|entry| reader.take(entry)),
                Err(error) => reader.refuse(error),
            }
        }
        reader.finish(ident)
    }
}

/// One `key = value`.
struct Entry {
    key: Ident,
    value: Expr,
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error("expected a key with a value, such as `name = \"email.send\"`"));
        }
        // `crate` is a keyword, and so no plain identifier.
        let key = Ident::parse_any(input)?;
        if !input.peek(Token![=]) {
            return Err(Error::new(
                key.span(),
                known(&key).map_or_else(
                    |error| error.to_string(),
                    |key| format!("`{key}` needs a value: write `{}`", example(key)),
                ),
            ));
        }
        input.parse::<Token![=]>()?;
        Ok(Self { key, value: input.parse()? })
    }
}

fn entries(attribute: &Attribute) -> Result<Punctuated<Entry, Token![,]>> {
    if let Meta::List(_) = attribute.meta {
        return attribute.parse_args_with(Punctuated::parse_terminated);
    }
    Err(Error::new_spanned(attribute, "the keys stand in parentheses: write `#[task(name = \"email.send\")]`"))
}

#[derive(Default)]
struct Reader {
    seen: Vec<&'static str>,
    name: Option<String>,
    queue: Option<String>,
    timeout: Option<Duration>,
    retries: Option<u32>,
    path: Option<Path>,
    error: Option<Error>,
}

impl Reader {
    fn take(&mut self, entry: &Entry) {
        if let Err(error) = self.try_take(entry) {
            self.refuse(error);
        }
    }

    fn try_take(&mut self, Entry { key, value }: &Entry) -> Result<()> {
        let known = known(key)?;
        if self.seen.contains(&known) {
            return Err(Error::new(key.span(), format!("`{known}` is given twice: keep one")));
        }
        self.seen.push(known);
        match known {
            "name" => self.name = Some(value::name(value)?),
            "queue" => self.queue = Some(value::queue(value)?),
            "timeout" => self.timeout = Some(value::timeout(value)?),
            "retries" => self.retries = Some(value::retries(value)?),
            _ => self.path = Some(value::path(value)?),
        }
        Ok(())
    }

    fn refuse(&mut self, error: Error) {
        match &mut self.error {
            Some(earlier) => earlier.combine(error),
            None => self.error = Some(error),
        }
    }

    fn finish(mut self, ident: &Ident) -> Result<Settings> {
        // Where something could not be read, the name may be what follows it.
        if self.error.is_none() && self.name.is_none() {
            self.refuse(Error::new(
                Span::call_site(),
                format!(
                    "`{ident}` has no name on the wire: add `#[task(name = \"…\")]`, for example `#[task(name = \"email.send\")]`; \
                     it is not taken from the type, so that renaming `{ident}` loses no task"
                ),
            ));
        }
        match (self.error, self.name) {
            (None, Some(name)) => Ok(Settings {
                name,
                queue: self.queue,
                timeout: self.timeout,
                retries: self.retries,
                path: self.path.unwrap_or_else(|| parse_quote!(::leveret)),
            }),
            (error, _) => Err(error.unwrap_or_else(|| Error::new(Span::call_site(), "`name` is missing"))),
        }
    }
}

/// The key as one that we know, or an error that names the nearest.
fn known(key: &Ident) -> Result<&'static str> {
    let text = key.unraw().to_string();
    if let Some(known) = KEYS.into_iter().find(|known| **known == text) {
        return Ok(known);
    }
    let nearest = KEYS.into_iter().map(|known| (distance(known, &text), known)).min();
    let advice = match nearest {
        Some((steps, nearest)) if steps <= nearest.len() / 2 => format!("did you mean `{nearest}`?"),
        _ => format!("the keys are `{}`", KEYS.join("`, `")),
    };
    Err(Error::new(key.span(), format!("unknown key `{text}`: {advice}")))
}

fn example(key: &str) -> &'static str {
    match key {
        "name" => "name = \"email.send\"",
        "queue" => "queue = \"email\"",
        "timeout" => "timeout = \"30s\"",
        "retries" => "retries = 8",
        _ => "crate = \"::leveret\"",
    }
}

/// How many letters have to be put in, taken out or changed to make one text the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for column in 0..other.len() {
            let changed = diagonal + usize::from(letter != other[column]);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distance_counts_letters() {
        for (one, other, steps) in
            [("name", "name", 0), ("timeout", "timeot", 1), ("retries", "retry", 3), ("queue", "", 5), ("", "a", 1)]
        {
            assert_eq!(distance(one, other), steps, "{one} {other}");
        }
    }
}
