//! `leveret schedules apply`.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use leveret::producer::plan::Definition;
use serde_json::{Value, json};

use crate::{
    api::{Rows, cell},
    commands::Namespace,
    failure::{Exit, Failure},
    session::Session,
    settings::Settings,
};

/// Make or change the schedules of a file at a centre, over REST
///
/// The file is TOML with [schedules.NAME] tables as in leveret.toml, or JSON with a definition under each name. None is
/// removed. From then on they are the API's: a centre whose own leveret.toml has the same names leaves them alone.
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret schedules apply -f schedules.toml --dry-run")]
pub(super) struct Apply {
    /// The file
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Change nothing, and say what would come of it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    namespace: Namespace,
}

impl Apply {
    pub(super) async fn run(self, session: Session) -> Result<Exit, Failure> {
        let definitions = self.read(&session)?;
        let (api, namespace) = session.api()?;
        let mut query = self.namespace.query(namespace);
        if self.dry_run {
            query.push(("dry_run", "true".to_owned()));
        }
        let (mut answers, mut rows) = (Vec::new(), Vec::new());
        for (name, definition) in &definitions {
            let saved: Value = api.put(&["schedules", name], &query, definition).await.map_err(|error| {
                let exit = error.exit();
                Failure::new(exit, format!("{name}: {error}"))
            })?;
            let what = match (saved["is_new"].as_bool(), saved["has_changed"].as_bool()) {
                (Some(true), _) => "made",
                (_, Some(true)) => "changed",
                _ => "unchanged",
            };
            rows.push([name.clone(), what.to_owned(), cell(&saved, "/times/0/local"), cell(&saved, "/warnings")]);
            answers.push(saved);
        }
        let header = ["name", "what", "next", "warnings"];
        let json = json!({ "schedules": answers });
        session.output.report(&Rows { rows, header, json, none: "the file has no schedules" })?;
        Ok(Exit::Done)
    }

    fn read(&self, session: &Session) -> Result<BTreeMap<String, Definition>, Failure> {
        if self.file.extension().is_none_or(|extension| extension != "json") {
            let mut global = session.global.clone();
            global.config = Some(self.file.clone());
            let settings = Settings::load(&global)?;
            settings.check_schedules()?;
            return Ok(settings.schedules);
        }
        let file = self.file.display();
        let text = std::fs::read(&self.file)
            .map_err(|error| Failure::new(Exit::Config, format!("{file}: cannot be read: {error}")))?;
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&text))
            .map_err(|error| Failure::new(Exit::Config, format!("{file}: {error}")))
    }
}
