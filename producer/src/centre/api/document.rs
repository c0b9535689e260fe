//! The OpenAPI document: what the handlers say, and what holds for all of them.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
        schema::{SchemaFormat, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{ProblemKind, problem};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Leveret scheduling centre",
        description = "Schedules, tasks, queues and workers.\n\n\
            Every request but those for health carries `Authorization: Bearer <token>`. A token has a role, and holds in \
            one namespace or in all (`*`); what a request does not name is looked for in the token's own namespace. Errors \
            are `application/problem+json` (RFC 9457). Lists come in pages: pass the `next` of one as the `cursor` of the \
            request for the next. A POST with an `Idempotency-Key` that is sent again within a day takes effect once.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(problem::Problem)),
    security(("token" = [])),
    modifiers(&Token),
)]
pub(super) struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API token: `leveret tokens create` makes one."));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme.build()));
    }
}

/// Adds what holds for all operations: the problems that any of them may answer with, and the key of a POST.
pub(super) fn complete(document: &mut openapi::OpenApi) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            add_to(path, method, operation);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [("get", get), ("put", put), ("post", post), ("delete", delete), ("patch", patch)]
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn add_to(path: &str, method: &'static str, operation: &mut Operation) {
    // By their functions, many would have the same name.
    let words = path.trim_start_matches(super::router::BASE).split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    operation.operation_id = Some(format!("{method}_{}", words.join("_")));
    let is_open = operation.security.as_ref().is_some_and(|security| !security.is_empty());
    let mut problems = vec![ProblemKind::Internal];
    if !is_open {
        problems.extend([ProblemKind::Unauthenticated, ProblemKind::Forbidden, ProblemKind::TooManyRequests]);
    }
    let parameters = operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty());
    if parameters || operation.request_body.is_some() || method == "post" {
        problems.push(ProblemKind::Malformed);
    }
    if path.contains('{') {
        problems.push(ProblemKind::NotFound);
    }
    if operation.request_body.is_some() {
        problems.extend([ProblemKind::TooLarge, ProblemKind::UnsupportedMediaType, ProblemKind::Invalid]);
    }
    if !is_open {
        problems.extend([ProblemKind::Unavailable, ProblemKind::Timeout]);
    }
    // The answer of a new token has a secret in it, and is not kept.
    if method == "post" && !path.ends_with("/tokens") {
        // Of the key, whether or not the operation has others.
        problems.extend([ProblemKind::Conflict, ProblemKind::Invalid, ProblemKind::TooLarge]);
        operation.parameters.get_or_insert_default().push(RefOr::T(key()));
    }
    for kind in problems {
        let status = kind.status().as_str().to_owned();
        operation.responses.responses.entry(status).or_insert_with(|| RefOr::T(problem_response(kind)));
    }
}

fn problem_response(kind: ProblemKind) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let mut response = ResponseBuilder::new().description(kind.title()).content("application/problem+json", content);
    if kind == ProblemKind::TooManyRequests {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
        let header = HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds to wait.")).build();
        response = response.header("Retry-After", header);
    }
    response.build()
}

fn key() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(255))
        .pattern(Some("^[!-~]+$"))
        .format(None::<SchemaFormat>)
        .build();
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(openapi::Required::False)
        .description(Some(
            "Sent again within a day with the same key, the request takes effect once, and is answered the same.",
        ))
        .schema(Some(schema))
        .build()
}
