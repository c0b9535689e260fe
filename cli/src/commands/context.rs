//! `leveret context`: which centres there are to ask, and how to be let in.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    api::{Api, ApiError, Context, Contexts},
    failure::{Exit, Failure},
    output::{Report, table, write_table},
    session::Session,
};

/// Remember centres by name: where they are, and the tokens for them
///
/// They are kept in leveret/contexts.toml of the user's configuration directory, which only the user can read.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret context add production --api https://centre.example.org:9470 --token TOKEN")]
pub(crate) struct ContextCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Add(Add),
    Use(Named),
    /// List the centres that are remembered
    #[command(after_help = "Example: leveret context list")]
    List,
    Remove(Removed),
}

/// Remember a centre, given by --api and --token, and use it if it is the first
#[derive(Debug, Args)]
#[command(
    after_help = "Example: leveret context add production --api https://centre.example.org:9470 --token-file token"
)]
struct Add {
    /// The name that it is to have
    name: String,
    /// Read the token from this file, - for standard input, in place of --token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The authorities that its certificate is from, as PEM, where they are not those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Namespace that is meant where none is named
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Do not ask the centre whether it lets us in
    #[arg(long)]
    unchecked: bool,
}

/// Use this centre where none is named
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret context use staging")]
struct Named {
    /// The name
    name: String,
}

/// Forget a centre
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret context remove staging")]
struct Removed {
    /// The name
    name: String,
}

#[derive(Serialize)]
struct Row {
    name: String,
    current: bool,
    api: String,
    namespace: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    contexts: Vec<Row>,
}

impl ContextCommand {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let mut contexts = Contexts::read(&session.global)?;
        match self.action {
            Action::Add(add) => return add.run(&session, contexts).await,
            Action::Use(Named { name }) => {
                if !contexts.contexts.contains_key(&name) {
                    return Err(ApiError::UnknownContext { name }.into());
                }
                session.output.remark(format!("{name} is asked from now on"));
                contexts.current = Some(name);
            }
            Action::Remove(Removed { name }) => {
                if contexts.contexts.remove(&name).is_none() {
                    return Err(ApiError::UnknownContext { name }.into());
                }
                contexts.current = contexts.current.filter(|current| *current != name);
                session.output.remark(match &contexts.current {
                    Some(current) => format!("{name} is forgotten, {current} is asked"),
                    None => format!("{name} is forgotten, and none is in use: see `leveret context use`"),
                });
            }
            Action::List => {
                let rows = contexts.contexts.into_iter().map(|(name, context)| Row {
                    current: contexts.current.as_ref() == Some(&name),
                    api: context.api,
                    namespace: context.namespace,
                    name,
                });
                session.output.report(&Listed { contexts: rows.collect() })?;
                return Ok(Exit::Done);
            }
        }
        contexts.write(&session.global)?;
        Ok(Exit::Done)
    }
}

impl Add {
    async fn run(self, session: &Session, mut contexts: Contexts) -> Result<Exit, Failure> {
        let Some(api) = session.global.api.clone() else {
            return Err(Failure::new(Exit::Usage, "say where the centre is: --api https://HOST:PORT"));
        };
        let token = match &self.token_file {
            None => session.global.token.clone(),
            Some(file) => {
                let text = if file.as_os_str() == "-" {
                    io::read_to_string(io::stdin())
                } else {
                    std::fs::read_to_string(file)
                };
                let text = text.map_err(|error| {
                    Failure::new(Exit::Usage, format!("{}: cannot be read: {error}", file.display()))
                })?;
                Some(text.trim().to_owned())
            }
        };
        // It is to be found from elsewhere too.
        let ca = self.ca.map(std::path::absolute).transpose()?;
        let context = Context { api, token, ca, namespace: self.namespace };
        let client = Api::new(&context)?;
        if !self.unchecked {
            client.get::<serde_json::Value>(&["version"], &[]).await?;
        }
        contexts.contexts.insert(self.name.clone(), context);
        let current = contexts.current.get_or_insert_with(|| self.name.clone()).clone();
        contexts.write(&session.global)?;
        session.output.remark(if current == self.name {
            format!("{current} is remembered, and asked from now on")
        } else {
            format!("{} is remembered; {current} is still the one in use", self.name)
        });
        Ok(Exit::Done)
    }
}

impl Report for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.contexts.is_empty() {
            return writeln!(out, "no centre is remembered");
        }
        let mut rows = table(["", "name", "api", "namespace"]);
        for row in &self.contexts {
            let current = if row.current { "*" } else { "" };
            rows.add_row([current, &row.name, &row.api, row.namespace.as_deref().unwrap_or("-")]);
        }
        write_table(out, &rows)
    }
}
