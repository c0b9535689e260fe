//! Who asks, and whether they may.

use std::{
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderValue, header, request::Parts},
};
use leveret_common::clock::UnixMillis;
use tokio::time::Instant;

use super::{Api, Problem, ProblemKind, guard::RequestId};
use crate::{
    centre::store::{ALL_NAMESPACES, AuditEntry, Role, Token},
    plan::DEFAULT_NAMESPACE,
};

/// Who asks: a token with a role in one namespace or all.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token.
    pub token: Token,
    /// The request, as logs name it.
    pub request_id: String,
}

impl Caller {
    /// Whether the token holds in all namespaces, and for what belongs to none.
    pub fn is_everywhere(&self) -> bool {
        self.token.namespace == ALL_NAMESPACES
    }

    /// The one namespace that a request is about: the one that it names, or else the token's own, which of a token for
    /// all is the default one.
    ///
    /// # Errors
    /// 403 when the token is not for that namespace.
    pub fn namespace(&self, named: Option<&str>) -> Result<String, Problem> {
        match (named, self.token.namespace.as_str()) {
            (None, ALL_NAMESPACES) => Ok(DEFAULT_NAMESPACE.to_owned()),
            (Some(ALL_NAMESPACES), _) => {
                Err(Problem::new(ProblemKind::Malformed, "name one namespace: `*` is for lists"))
            }
            (Some(named), ALL_NAMESPACES) => Ok(named.to_owned()),
            (None, own) => Ok(own.to_owned()),
            (Some(named), own) if named == own => Ok(own.to_owned()),
            (Some(named), own) => Err(Problem::new(
                ProblemKind::Forbidden,
                format!(
                    "this token is for the namespace {own:?}, not for {:?}",
                    named.chars().take(100).collect::<String>()
                ),
            )),
        }
    }

    /// The namespaces that a list is about: as [`namespace`](Self::namespace), and `None`, all, for `*`.
    ///
    /// # Errors
    /// 403 when the token is not for that namespace, or not for all.
    pub fn namespaces(&self, named: Option<&str>) -> Result<Option<String>, Problem> {
        match named {
            Some(ALL_NAMESPACES) if self.is_everywhere() => Ok(None),
            Some(ALL_NAMESPACES) => {
                Err(Problem::new(ProblemKind::Forbidden, "this token is for one namespace, not for all"))
            }
            named => self.namespace(named).map(Some),
        }
    }

    /// A change that this caller makes, for the audit log.
    pub fn change(&self, at: UnixMillis, action: &str, object: impl Into<String>) -> AuditEntry {
        AuditEntry {
            id: AuditEntry::new_id(),
            at,
            token_id: self.token.id.clone(),
            token_name: self.token.name.clone(),
            request_id: self.request_id.clone(),
            namespace: None,
            action: action.to_owned(),
            object: object.into(),
            before: None,
            after: None,
        }
    }
}

/// What a handler needs of its caller.
pub trait Need {
    /// The role.
    const ROLE: Role;
    /// Whether the token must be for all namespaces.
    const EVERYWHERE: bool = false;
}

/// Needs a role that reads: every one.
#[derive(Debug)]
pub struct Viewer;
/// Needs a role that publishes tasks.
#[derive(Debug)]
pub struct Publisher;
/// Needs a role that steers.
#[derive(Debug)]
pub struct Operator;
/// Needs the role that may do everything.
#[derive(Debug)]
pub struct Admin;
/// Needs the role in all namespaces: for what belongs to none.
#[derive(Debug)]
pub struct Everywhere<R>(PhantomData<R>);

impl Need for Viewer {
    const ROLE: Role = Role::Viewer;
}
impl Need for Publisher {
    const ROLE: Role = Role::Publisher;
}
impl Need for Operator {
    const ROLE: Role = Role::Operator;
}
impl Need for Admin {
    const ROLE: Role = Role::Admin;
}
impl<R: Need> Need for Everywhere<R> {
    const ROLE: Role = R::ROLE;
    const EVERYWHERE: bool = true;
}

/// The caller, who has what `R` asks for. It is a handler's first parameter, so that nobody else's body is read.
#[derive(Debug)]
pub struct Authorised<R> {
    /// Who asks.
    pub caller: Caller,
    need: PhantomData<R>,
}

impl<R> std::ops::Deref for Authorised<R> {
    type Target = Caller;
    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<R: Need + Send> FromRequestParts<Api> for Authorised<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let caller = authenticate(parts, api).await?;
        let token = &caller.token;
        if !token.role.allows(R::ROLE) {
            let text =
                format!("this takes the role {} or admin; the token {:?} is for {}", R::ROLE, token.name, token.role);
            return Err(Problem::new(ProblemKind::Forbidden, text));
        }
        if R::EVERYWHERE && !caller.is_everywhere() {
            let text = "this belongs to no namespace: it takes a token for all of them, `*`";
            return Err(Problem::new(ProblemKind::Forbidden, text));
        }
        Ok(Self { caller, need: PhantomData })
    }
}

/// Who asks, by the header `Authorization: Bearer <token>`. It is found out once per request.
pub(super) async fn authenticate(parts: &mut Parts, api: &Api) -> Result<Caller, Problem> {
    if let Some(caller) = parts.extensions.get::<Caller>() {
        return Ok(caller.clone());
    }
    let request_id = parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let token = if api.settings.insecure_loopback { everybody(api) } else { find(parts, api).await? };
    let caller = Caller { token, request_id };
    parts.extensions.insert(caller.clone());
    Ok(caller)
}

fn everybody(api: &Api) -> Token {
    Token {
        id: "loopback".to_owned(),
        name: "loopback".to_owned(),
        role: Role::Admin,
        namespace: ALL_NAMESPACES.to_owned(),
        created_by: String::new(),
        created_at: api.store.clock().now(),
        expires_at: None,
        last_used_at: None,
    }
}

async fn find(parts: &Parts, api: &Api) -> Result<Token, Problem> {
    let refused = |text: &str| {
        let challenge = HeaderValue::from_static("Bearer realm=\"leveret\"");
        Problem::new(ProblemKind::Unauthenticated, text).header(header::WWW_AUTHENTICATE, challenge)
    };
    let Some(given) = parts.headers.get(header::AUTHORIZATION) else {
        return Err(refused("send `Authorization: Bearer <token>`; `leveret tokens create` makes one"));
    };
    let secret = given.to_str().ok().and_then(|given| {
        let (scheme, secret) = given.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
    });
    let Some(secret) = secret.filter(|secret| (1..=256).contains(&secret.len())) else {
        return Err(refused("the header is to read `Authorization: Bearer <token>`"));
    };
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let address = address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(address)| address.ip());
    if let Some(wait) = api.gate.wait(address, Instant::now()) {
        let text = format!("too many wrong tokens from {address}: wait");
        let seconds = HeaderValue::from(wait.as_secs().max(1));
        return Err(Problem::new(ProblemKind::TooManyRequests, text).header(header::RETRY_AFTER, seconds));
    }
    let Some(token) = api.store.token_by_secret(secret).await? else {
        api.gate.wrong(address, Instant::now());
        return Err(refused("this token is not known, or has ended"));
    };
    if let Err(error) = api.store.token_used(&token).await {
        tracing::warn!("cannot note that the token {} is used: {error}", token.id);
    }
    Ok(token)
}
