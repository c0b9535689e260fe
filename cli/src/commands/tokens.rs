//! `leveret tokens`: who may do what at a centre.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    api::{Rows, Said, cell, cells},
    failure::{Exit, Failure},
    session::Session,
};

/// Make, list and revoke the tokens of a centre
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret tokens create deploy --role publisher --namespace billing")]
pub(crate) struct Tokens {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(Create),
    /// List tokens, without their secrets
    #[command(after_help = "Example: leveret tokens list")]
    List,
    Revoke(Revoke),
}

/// Make a token, and print its secret, which is shown this once
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret tokens create deploy --role publisher --namespace billing")]
struct Create {
    /// What it is for
    name: String,
    /// What its bearer may do: viewer, publisher, operator or admin
    #[arg(long, value_name = "ROLE")]
    role: String,
    /// Where: one namespace, or * for all and for what belongs to none
    #[arg(long, value_name = "NAME", default_value = "*")]
    namespace: String,
    /// When it ends, in RFC 3339 [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

/// Revoke a token: it is good for nothing from then on
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret tokens revoke 019a1f0e-7a52-7c05-8a3a-2f6a1c1d9f10")]
struct Revoke {
    /// Its id, as `leveret tokens list` shows it
    id: String,
}

impl Tokens {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let (api, _) = session.api()?;
        match self.action {
            Action::Create(Create { name, role, namespace, expires }) => {
                let body = json!({ "name": name, "role": role, "namespace": namespace, "expires_at": expires });
                let json: Value = api.post_secret(&["tokens"], &body).await?;
                session.output.remark("keep it well, it is shown this once:");
                session.output.report(&Said { text: cell(&json, "/secret"), json })?;
            }
            Action::List => {
                let (items, _) = api.list::<Value>(&["tokens"], &[], usize::MAX).await?;
                let pointers = [
                    "/id",
                    "/name",
                    "/role",
                    "/namespace",
                    "/created_by",
                    "/created_at",
                    "/expires_at",
                    "/last_used_at",
                ];
                let header = ["id", "name", "role", "namespace", "made by", "made", "ends", "last used"];
                let rows = items.iter().map(|item| cells(item, pointers)).collect();
                session.output.report(&Rows { rows, header, json: json!({ "tokens": items }), none: "no tokens" })?;
            }
            Action::Revoke(Revoke { id }) => {
                api.delete(&["tokens", &id], &[]).await?;
                let text = format!("the token {id} is revoked");
                session.output.report(&Said { json: json!({ "revoked": id }), text })?;
            }
        }
        Ok(Exit::Done)
    }
}
