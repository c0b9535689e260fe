//! The processes of the demo: started, listened to, killed, stopped.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use super::part::{News, Part};
use crate::failure::{Exit, Failure};

/// How to start a part: our own binary, with what leads it to the same broker.
#[derive(Clone, Debug)]
pub(super) struct Casting {
    pub(super) url: String,
    pub(super) config: Option<PathBuf>,
    /// Where the list of files is, and the logs go.
    pub(super) directory: PathBuf,
}

/// A process of the demo. Dropped, it is killed.
pub(super) struct Actor {
    pub(super) name: String,
    part: Part,
    process: Child,
    running: Arc<Mutex<BTreeMap<String, String>>>,
    ready: watch::Receiver<bool>,
    log: PathBuf,
}

impl Casting {
    /// The file with the list of files to work on.
    pub(super) fn files(&self) -> PathBuf {
        self.directory.join("files.json")
    }

    /// Starts a part under this name.
    pub(super) fn start(&self, part: Part, name: &str) -> Result<Actor, Failure> {
        let log = self.directory.join(format!("{name}.log"));
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        // The URL may hold a password: it goes where the list of processes does not show it.
        command.env("AMQP_URL", &self.url).env_remove("RUST_BACKTRACE");
        command.args(["demo", "--part", part.as_str(), "--name", name, "--files"]).arg(self.files());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log)?)
            // Ctrl-C is for the demo, which then stops its parts in order.
            .process_group(0)
            .kill_on_drop(true);
        let mut process = command.spawn()?;
        let running = Arc::new(Mutex::new(BTreeMap::new()));
        let (say_ready, ready) = watch::channel(false);
        if let Some(output) = process.stdout.take() {
            let running = running.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    match serde_json::from_str(&line) {
                        Ok(News::Ready) => drop(say_ready.send_replace(true)),
                        Ok(News::Begins { key, task }) => drop(running.lock().insert(key, task)),
                        Ok(News::Ends { key }) => drop(running.lock().remove(&key)),
                        Err(_) => {}
                    }
                }
            });
        }
        Ok(Actor { name: name.to_owned(), part, process, running, ready, log })
    }
}

impl Actor {
    /// Whether it is a worker.
    pub(super) fn works(&self) -> bool {
        self.part == Part::Worker
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// What it runs now: keys and task names.
    pub(super) fn running(&self) -> BTreeMap<String, String> {
        self.running.lock().clone()
    }

    /// Waits until the broker delivers to it.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let ready = timeout(Duration::from_secs(15), self.ready.wait_for(|ready| *ready)).await;
        if matches!(ready, Ok(Ok(_))) {
            return Ok(());
        }
        let text = format!("{} did not start: {}", self.name, last_line(&self.log));
        Err(Failure::new(Exit::Failed, text))
    }

    /// Fails when it has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let text = format!("{} ended by itself ({status}): {}", self.name, last_line(&self.log));
                Err(Failure::new(Exit::Failed, text))
            }
        }
    }

    /// SIGKILL: no handler, no goodbye. What it was running.
    pub(super) async fn kill(mut self) -> Result<BTreeMap<String, String>, Failure> {
        let running = self.running();
        self.process.kill().await?;
        Ok(running)
    }

    /// SIGTERM, and SIGKILL if it takes more than ten seconds.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        if let Some(id) = self.process.id().and_then(|id| i32::try_from(id).ok()) {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        if timeout(Duration::from_secs(10), self.process.wait()).await.is_err() {
            self.process.kill().await?;
        }
        Ok(())
    }
}

fn last_line(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}
