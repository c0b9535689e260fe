//! `leveret completions`: the script that makes a shell complete commands and options.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde::Serialize;

use crate::{
    arguments::Arguments,
    failure::{Exit, Failure},
    output::Report,
    session::Session,
};

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = "Example: leveret completions bash > /etc/bash_completion.d/leveret")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

impl Report for Script {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.script.as_bytes())
    }
}

impl Completions {
    pub(crate) fn run(self, session: &Session) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "leveret", &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        session.output.report(&Script { shell: self.shell.to_string(), script })?;
        Ok(Exit::Done)
    }
}
