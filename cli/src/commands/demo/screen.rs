//! What the demo shows while it runs: on a terminal a picture that moves, elsewhere a line now and then.

use std::{collections::BTreeMap, fmt::Display, io::IsTerminal, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{
    cast::Actor,
    ledger::{Books, Standing},
};
use crate::output::Output;

/// How often a line tells how it goes where no picture can move.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// What is shown.
pub(super) struct Screen {
    output: Output,
    begun: Instant,
    picture: Option<Picture>,
    last_line: Instant,
}

/// Lines at the foot of the terminal that change in place.
struct Picture {
    lines: MultiProgress,
    time: ProgressBar,
    counts: ProgressBar,
    actors: BTreeMap<String, ProgressBar>,
}

impl Screen {
    /// `length` is how long tasks will be published; `None` until interrupted.
    pub(super) fn new(output: Output, length: Option<Duration>) -> Self {
        let visible = !output.is_json() && !output.is_quiet() && std::io::stderr().is_terminal();
        let picture = visible.then(|| {
            let lines = MultiProgress::new();
            let time = lines.add(match length {
                Some(length) => ProgressBar::new(length.as_millis() as u64),
                None => ProgressBar::new_spinner(),
            });
            let template = if length.is_some() { "  {bar:30.green} {msg}" } else { "  {spinner} {msg}" };
            set_style(&time, template);
            let counts = lines.add(ProgressBar::new_spinner());
            set_style(&counts, "  {msg}");
            Picture { lines, time, counts, actors: BTreeMap::new() }
        });
        let begun = Instant::now();
        Self { output, begun, picture, last_line: begun }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Something that happened.
    pub(super) fn event(&self, text: impl Display) {
        let line = format!("{:>5.1}s  {text}", self.elapsed().as_secs_f64());
        match &self.picture {
            Some(picture) => drop(picture.lines.println(line)),
            None => self.output.remark(line),
        }
    }

    /// How it stands.
    pub(super) fn show(&mut self, what: &str, books: &Books, actors: &[Actor], gone: &[String]) {
        let standing = books.standing();
        let Standing { published, done, dead } = standing;
        let open = standing.open();
        let counts = format!("published {published}   done {done}   dead {dead}   waiting or running {open}");
        let Some(picture) = &mut self.picture else {
            if self.last_line.elapsed() >= LINE_EVERY {
                self.last_line = Instant::now();
                self.event(counts);
            }
            return;
        };
        picture.time.set_position(self.begun.elapsed().as_millis() as u64);
        picture.time.set_message(what.to_owned());
        picture.time.tick();
        picture.counts.set_message(counts);
        for actor in actors {
            let running = actor.running();
            let tasks: Vec<&str> = running.values().map(String::as_str).collect();
            let done = if actor.works() { format!("done {:<6}", books.done_by(&actor.name)) } else { String::new() };
            let line = format!("{:<10} process {:<8} {done} {}", actor.name, actor.id(), tasks.join("  "));
            picture.line(&actor.name).set_message(line);
        }
        for name in gone {
            let done = books.done_by(name);
            picture.line(name).set_message(format!("{name:<10} {:<16} done {done:<6}", "killed"));
        }
    }

    /// Takes the moving lines away; what happened stays.
    pub(super) fn clear(&mut self) {
        if let Some(picture) = self.picture.take() {
            let _ = picture.lines.clear();
        }
    }
}

impl Picture {
    fn line(&mut self, name: &str) -> &ProgressBar {
        let lines = &self.lines;
        self.actors.entry(name.to_owned()).or_insert_with(|| {
            let bar = lines.add(ProgressBar::new_spinner());
            set_style(&bar, "  {wide_msg}");
            bar
        })
    }
}

fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
