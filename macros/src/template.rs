//! A text with fields of the task in it: `customer`, or `{customer}-{region}`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Data, DeriveInput, Error, Fields, Index, LitStr, Member, Result, ext::IdentExt};

use crate::nearest::nearest;

/// A text with fields of the task in it.
pub(crate) struct Template {
    /// For `format!`.
    format: String,
    /// The fields, as they follow upon `self`.
    fields: Vec<Vec<Member>>,
    span: Span,
}

impl Template {
    pub(crate) fn read(literal: &LitStr, input: &DeriveInput) -> Result<Self> {
        let wrong = |problem: String| Error::new(literal.span(), problem);
        let Data::Struct(data) = &input.data else {
            return Err(wrong(
                "a key is made of fields, and the variants of an enum have different ones: use a struct, or implement \
                 `Task` by hand"
                    .to_owned(),
            ));
        };
        let text = literal.value();
        let mut template = Self { format: String::new(), fields: Vec::new(), span: literal.span() };
        if !text.contains(['{', '}']) {
            template.push(&text, &data.fields, input).map_err(wrong)?;
            return Ok(template);
        }
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            template.format.push_str(before);
            rest = if brace.starts_with("{{") || brace.starts_with("}}") {
                template.format.push_str(&brace[..2]);
                &brace[2..]
            } else if let Some((field, rest)) = brace.strip_prefix('{').and_then(|field| field.split_once('}')) {
                template.push(field.trim(), &data.fields, input).map_err(wrong)?;
                rest
            } else {
                return Err(wrong("a brace has no other: write `{field}`, or `{{` and `}}` for braces".to_owned()));
            };
        }
        template.format.push_str(rest);
        if template.fields.is_empty() {
            return Err(wrong("the key is the same for all tasks: name a field in it, as in `{customer}`".to_owned()));
        }
        Ok(template)
    }

    /// Adds a field, or a field of a field.
    fn push(&mut self, path: &str, fields: &Fields, input: &DeriveInput) -> std::result::Result<(), String> {
        let mut pieces = path.split('.').map(str::trim);
        let first = pieces.next().unwrap_or_default();
        let mut members = vec![field(first, fields).ok_or_else(|| missing(first, fields, input))?];
        for piece in pieces {
            members.push(
                syn::parse_str(piece).map_err(|_| format!("`{piece}` is no field: write it as in `{first}.id`"))?,
            );
        }
        self.format.push_str("{}");
        self.fields.push(members);
        Ok(())
    }
}

fn field(name: &str, fields: &Fields) -> Option<Member> {
    fields.iter().enumerate().find_map(|(at, field)| match &field.ident {
        Some(ident) => (ident.unraw() == name).then(|| Member::Named(ident.clone())),
        None => (at.to_string() == name).then(|| Member::Unnamed(Index::from(at))),
    })
}

fn missing(name: &str, fields: &Fields, input: &DeriveInput) -> String {
    let names: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(at, field)| field.ident.as_ref().map_or_else(|| at.to_string(), |ident| ident.unraw().to_string()))
        .collect();
    let ident = &input.ident;
    let advice = match nearest(name, names.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if names.is_empty() => "it has none".to_owned(),
        None => format!("its fields are `{}`", names.join("`, `")),
    };
    format!("`{name}` is no field of `{ident}`: {advice}")
}

impl ToTokens for Template {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        // Where a field cannot be printed, the compiler points at the key.
        let fields = self.fields.iter().map(|members| quote_spanned!(self.span=> self #(.#members)*));
        let format = &self.format;
        tokens.extend(quote!(::std::format!(#format #(, #fields)*)));
    }
}
