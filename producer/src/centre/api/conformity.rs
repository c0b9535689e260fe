//! Holds the parameters of a request against the OpenAPI document: what it says of lengths, patterns and bounds is so.

use std::collections::HashMap;

use axum::{
    extract::{MatchedPath, Query, RawPathParams},
    http::{Method, Uri, request::Parts},
};
use jsonschema::{PatternOptions, Validator};
use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

use super::{Problem, ProblemKind};

/// The texts and numbers among the parameters of all operations.
#[derive(Debug, Default)]
pub(super) struct Conformity(HashMap<(Method, String), HashMap<String, Check>>);

#[derive(Debug)]
struct Check {
    is_number: bool,
    validator: Validator,
}

impl Conformity {
    pub(super) fn of(document: &OpenApi) -> Self {
        let document = serde_json::to_value(document).unwrap_or_default();
        let mut all = HashMap::new();
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let Ok(method) = method.to_ascii_uppercase().parse::<Method>() else { continue };
                let parameters = operation["parameters"].as_array().into_iter().flatten().filter_map(check_of);
                all.insert((method, path.clone()), parameters.collect());
            }
        }
        Self(all)
    }

    /// Checks what stands behind the question mark.
    ///
    /// # Errors
    /// 400 with the parameter and what is wrong with it.
    pub(super) fn check_query(&self, parts: &Parts) -> Result<(), Problem> {
        let Some(parameters) = self.parameters(parts) else { return Ok(()) };
        for (name, value) in query(&parts.uri)? {
            check(parameters, &name, value)?;
        }
        Ok(())
    }

    /// Checks the parts of the path.
    ///
    /// # Errors
    /// 400 with the parameter and what is wrong with it.
    pub(super) fn check_path(&self, parts: &Parts, path: &RawPathParams) -> Result<(), Problem> {
        let Some(parameters) = self.parameters(parts) else { return Ok(()) };
        path.iter().try_for_each(|(name, value)| check(parameters, name, value.to_owned()))
    }

    fn parameters(&self, parts: &Parts) -> Option<&HashMap<String, Check>> {
        let path = parts.extensions.get::<MatchedPath>()?.as_str().to_owned();
        let method = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
        self.0.get(&(method, path))
    }
}

/// The parameter's name and its check, if it is a text or a whole number.
fn check_of(parameter: &Value) -> Option<(String, Check)> {
    let schema = &parameter["schema"];
    let has_type = |name: &str| {
        schema["type"] == name || schema["type"].as_array().is_some_and(|types| types.contains(&json!(name)))
    };
    let is_number = has_type("integer");
    if !(is_number || has_type("string")) || parameter["in"] == "header" {
        return None;
    }
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
    Some((parameter["name"].as_str()?.to_owned(), Check { is_number, validator: options.build(schema).ok()? }))
}

fn query(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
    query.map(|Query(query)| query).map_err(|error| Problem::new(ProblemKind::Malformed, error.body_text()))
}

fn check(parameters: &HashMap<String, Check>, name: &str, value: String) -> Result<(), Problem> {
    let Some(check) = parameters.get(name) else { return Ok(()) };
    let value = if check.is_number {
        // What is no number is told by whoever reads it as one.
        let Ok(number) = value.parse::<i64>() else { return Ok(()) };
        Value::from(number)
    } else {
        Value::String(value)
    };
    let wrong = check.validator.iter_errors(&value).next();
    wrong.map_or(Ok(()), |error| Err(Problem::new(ProblemKind::Malformed, format!("`{name}`: {error}"))))
}
