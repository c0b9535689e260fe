//! The play itself: who publishes what and when, whom it hits, and how it is brought to an end.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use futures_util::future::{join_all, try_join_all};
use leveret::{Client, Message};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{
    Demo,
    cast::{Actor, Casting},
    foreign::Foreign,
    ledger::{Books, Killed, Ledger},
    part::Part,
    screen::Screen,
    stage::{NAMESPACE, PICTURES, RESULTS, Stage, TEXT},
    work::{Average, Hash, PICTURES_SHIPPED, THUMBNAIL, Words, rounds_per_ms, text_files},
};
use crate::{
    failure::{Exit, Failure},
    session::Session,
    settings::Settings,
    signals::Signals,
};

/// Time between two beats: at each, the client publishes and the picture is drawn a few times.
const BEAT: Duration = Duration::from_millis(500);
/// How long what is still to be done may take when nothing is published any more.
const DRAIN: Duration = Duration::from_secs(15);
/// The worker that is killed.
const VICTIM: &str = "worker-2";

/// Plays it from beginning to end.
pub(super) async fn run(demo: Demo, session: Session, settings: Settings) -> Result<Exit, Failure> {
    let url = raw_url(&session)?;
    let directory = tempfile::Builder::new().prefix("leveret-demo-").tempdir()?;
    let (folder, spare) = (demo.folder.clone(), directory.path().to_owned());
    let files = tokio::task::spawn_blocking(move || text_files(&folder, &spare)).await?;
    let files = files.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot read the folder {}: {error}", demo.folder.display()))
    })?;
    let casting = Casting { url, config: session.global.config.clone(), directory: directory.path().to_owned() };
    fs::write(casting.files(), serde_json::to_vec(&files)?)?;

    let screen = Screen::new(session.output.clone(), (!demo.keep).then_some(demo.length));
    let stage = Stage::set_up(session.admin(settings.broker.clone()).await?).await?;
    // On a connection of their own: three channels are in use until the end.
    let readers = session.admin(settings.broker.clone()).await?;
    let books = Books::open(&readers).await?;
    let client = session.client(settings.broker.clone()).await?;
    let host = settings.broker.url.first().map(leveret::BrokerUrl::host).unwrap_or_default();
    let console =
        demo.console.as_deref().filter(|url| !url.is_empty()).map_or_else(|| console_of(&host), without_login);
    screen.event(format!("the broker is at {host}, its console at {console}/#/queues"));

    let foreign = Foreign::find().await;
    let mut play = Play {
        signals: Signals::listen()?,
        keep: demo.keep,
        length: demo.length,
        foreign,
        foreign_name: foreign.map_or("another client", Foreign::name),
        actors: Vec::new(),
        gone: Vec::new(),
        killed: None,
        files,
        rounds_per_ms: rounds_per_ms()?,
        number: 0,
        casting,
        client,
        books,
        stage,
        screen,
    };
    let played = play.perform().await;
    // Whatever went wrong, the broker is left as it was found.
    let ledger = match played {
        Ok(()) => play.reckon().await,
        Err(failure) => Err(failure),
    };
    play.screen.clear();
    play.actors.clear();
    readers.link().close().await;
    let taken_down = play.stage.take_down().await;
    play.client.close().await;
    play.stage.close().await;
    let ledger = ledger?;
    taken_down?;

    session.output.report(&ledger)?;
    if !ledger.balanced {
        let logs = directory.keep();
        let text = format!("the ledger does not balance: the logs of worker and producer are in {}", logs.display());
        return Err(Failure::new(Exit::Failed, text));
    }
    session.output.remark(format!(
        "\nNext:\n  leveret demo --keep         stays up: watch it in the console, {console}/#/queues\n  \
         leveret worker --help       run your own tasks as commands, written down in leveret.toml\n  \
         leveret dead --help         what to do with a task that will not run"
    ));
    Ok(Exit::Done)
}

struct Play {
    signals: Signals,
    keep: bool,
    length: Duration,
    foreign: Option<Foreign>,
    foreign_name: &'static str,
    actors: Vec<Actor>,
    gone: Vec<String>,
    /// The worker that was killed, and what it was running.
    killed: Option<(String, BTreeMap<String, String>)>,
    files: Vec<PathBuf>,
    rounds_per_ms: u32,
    /// Counts what was published, to take turns between files and pictures.
    number: usize,
    casting: Casting,
    client: Client,
    books: Books,
    stage: Stage,
    screen: Screen,
}

impl Play {
    async fn perform(&mut self) -> Result<(), Failure> {
        self.screen.event(format!(
            "{} text files and {} pictures to work on",
            self.files.len(),
            PICTURES_SHIPPED.len()
        ));
        for name in ["worker-1", VICTIM, "worker-3"] {
            self.actors.push(self.casting.start(Part::Worker, name)?);
        }
        try_join_all(self.actors.iter_mut().map(Actor::ready)).await?;
        self.screen.event(format!("three workers wait at the queues {TEXT} and {PICTURES}"));
        self.actors.push(self.casting.start(Part::Producer, "producer")?);
        self.screen.event("a producer publishes by two schedules, and a Rust client all the time");
        match self.foreign {
            Some(foreign) => self.screen.event(format!("and so does {}, a client of another make", foreign.name())),
            None => self.screen.event(
                "no client of another make is installed, so none takes part: install amqp-tools, or pika for python3",
            ),
        }
        if self.keep {
            self.screen.event(self.hints()?);
        }
        self.publish_for_a_while().await?;
        self.drain().await
    }

    async fn publish_for_a_while(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut picture = interval(Duration::from_millis(100));
        let mut beat = 0_u32;
        while self.keep || begun.elapsed() < self.length {
            tokio::select! {
                signal = self.signals.next() => {
                    self.screen.event(format!("{signal}: no more is published"));
                    return Ok(());
                }
                _ = picture.tick() => self.draw("publishing"),
                _ = beats.tick() => {
                    beat += 1;
                    self.beat(beat, begun.elapsed()).await?;
                }
            }
        }
        Ok(())
    }

    async fn beat(&mut self, beat: u32, elapsed: Duration) -> Result<(), Failure> {
        for actor in &mut self.actors {
            actor.check()?;
        }
        if beat % 4 == 2
            && let Some(foreign) = self.foreign
        {
            self.number += 1;
            let (file, ticket) = (self.file(), format!("{}-{}", foreign.name(), self.number));
            let (url, exchange) = (&self.casting.url, self.stage.exchange());
            if let Err(failure) = foreign.publish(url, exchange, &file.to_string_lossy(), &ticket).await {
                self.screen.event(format!("{failure}; it takes no further part"));
                self.foreign = None;
            }
        }
        let mut messages = Vec::new();
        for _ in 0..4 {
            messages.push(self.next_message()?);
        }
        if beat == 3 {
            self.screen.event("one task has a bug: demo.average divides by zero, so each attempt at it panics");
            messages.push(Message::of(&Average { files: Vec::new() })?.max_attempts(3));
        }
        let kill = self.killed.is_none() && elapsed >= self.length.mul_f64(0.45);
        if kill {
            // Enough to do that every worker has its hands full.
            for _ in 0..12 {
                let files = vec![self.file()];
                messages.push(Message::of(&Hash { files, rounds: 300 * self.rounds_per_ms })?);
            }
        }
        let messages = messages.into_iter().map(|message| message.reply_to(RESULTS, None));
        for published in self.client.publish_many(messages).await {
            published?;
        }
        if kill {
            self.kill_one().await?;
        }
        Ok(())
    }

    /// The next message of the Rust client: words, a hash and pictures take turns, and now and then one fails once.
    fn next_message(&mut self) -> Result<Message, Failure> {
        self.number += 1;
        let number = self.number;
        Ok(match number % 4 {
            0 => {
                let (_, picture) = PICTURES_SHIPPED[number / 4 % PICTURES_SHIPPED.len()];
                Message::raw(THUMBNAIL, picture, "image/png").queue(PICTURES)
            }
            1 => Message::of(&Hash { files: vec![self.file()], rounds: 40 * self.rounds_per_ms })?,
            _ => Message::of(&Words { files: vec![self.file()], fail_first: number % 10 == 3, ticket: None })?,
        })
    }

    fn file(&self) -> PathBuf {
        // There is at least one: those that come with the binary.
        self.files.get(self.number % self.files.len().max(1)).cloned().unwrap_or_default()
    }

    /// SIGKILL for one worker, at a moment when it runs something.
    async fn kill_one(&mut self) -> Result<(), Failure> {
        let Some(place) = self.actors.iter().position(|actor| actor.name == VICTIM) else { return Ok(()) };
        let deadline = Instant::now() + Duration::from_secs(3);
        while self.actors[place].running().len() < 2 && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        let victim = self.actors.remove(place);
        let (name, id) = (victim.name.clone(), victim.id());
        let running = victim.kill().await?;
        self.screen.event(format!("kill -9 {id}: {name} is gone, with {} tasks in hand", running.len()));
        self.gone.push(name.clone());
        self.killed = Some((name, running));
        Ok(())
    }

    /// No more is published; what is there is done, as far as time allows.
    async fn drain(&mut self) -> Result<(), Failure> {
        if let Some(place) = self.actors.iter().position(|actor| !actor.works()) {
            self.actors.remove(place).stop().await?;
        }
        let deadline = Instant::now() + DRAIN;
        let mut picture = interval(Duration::from_millis(100));
        // Results may be seen before the copies of what was published: twice in a row is the end.
        let mut still = 0;
        while still < 5 && Instant::now() < deadline {
            tokio::select! {
                signal = self.signals.next() => {
                    self.screen.event(format!("{signal}: what is still to be done is left waiting"));
                    break;
                }
                _ = picture.tick() => {
                    self.draw("no more is published, the rest is being done");
                    still = if self.books.standing().open() == 0 { still + 1 } else { 0 };
                }
            }
        }
        for stopped in join_all(std::mem::take(&mut self.actors).into_iter().map(Actor::stop)).await {
            stopped?;
        }
        Ok(())
    }

    /// Counts, and counts again for a while if it does not come out: the last results may be on their way.
    async fn reckon(&mut self) -> Result<Ledger, Failure> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let (dead, waiting) = (self.stage.dead().await?, self.stage.waiting().await?);
            let mut ledger = self.books.close(&dead, waiting, self.foreign_name);
            if ledger.balanced || Instant::now() > deadline {
                ledger.killed = self.killed.take().map(|(name, running)| Killed::new(name, &running, &self.books));
                ledger.seconds = self.screen.elapsed().as_secs_f64();
                return Ok(ledger);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn draw(&mut self, what: &str) {
        self.screen.show(what, &self.books, &self.actors, &self.gone);
    }

    /// What to try while it stays up, with a configuration that leads to the demo's queues.
    fn hints(&self) -> Result<String, Failure> {
        let file = self.casting.directory.join("leveret.toml");
        let tiers = "tiers = [\"200ms\", \"1s\", \"5s\"]";
        let text = format!(
            "[broker]\nnamespace = \"{NAMESPACE}\"\n\n[queues.{TEXT}]\n{tiers}\n\n[queues.{PICTURES}]\n{tiers}\n"
        );
        fs::write(&file, text)?;
        let file = file.display();
        Ok(format!(
            "it stays up until Ctrl-C; meanwhile, in another terminal (with the same AMQP_URL):\n\
             \x20       leveret queues --config {file} --watch 1s\n\
             \x20       leveret dead list --config {file}\n\
             \x20       leveret dead replay --config {file} --queue {TEXT} --all"
        ))
    }
}

/// The AMQP URL as it was given, with its password: for the processes that we start, and for other makes' clients.
fn raw_url(session: &Session) -> Result<String, Failure> {
    if let Some(url) = session.global.url.clone().filter(|url| !url.is_empty()) {
        return Ok(url);
    }
    let settings = session.settings()?;
    let configured = settings.file().map(fs::read_to_string).transpose()?.unwrap_or_default();
    let url =
        toml::from_str::<toml::Table>(&configured)?.remove("broker").and_then(|broker| match broker.get("url")? {
            toml::Value::Array(urls) => urls.first()?.as_str().map(str::to_owned),
            url => url.as_str().map(str::to_owned),
        });
    Ok(url.unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned()))
}

/// The console's usual address.
fn console_of(host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    format!("http://{name}:15672")
}

/// A URL without user and password, which need not be on everyone's screen.
fn without_login(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{}", host.trim_end_matches('/')),
        _ => url.trim_end_matches('/').to_owned(),
    }
}
