//! What workers can be told, and which of them.

use serde::{Deserialize, Serialize};

use super::{Pause, Refusal, RefusalKind};
use crate::{registry::Instance, task::TaskId, topology::QueueName};

/// The largest command that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// Something that workers are told to do. As JSON, `{"command": "pause", "queue": "mail", "reason": "maintenance"}`.
///
/// A field that is not known is refused, not skipped: a worker that does not know a restriction must not carry out more
/// than it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Command {
    /// Answer.
    Ping {},
    /// Say what has been done so far.
    Stats {},
    /// List the tasks that run.
    Running {
        /// Of this queue alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<QueueName>,
    },
    /// Say everything about yourself.
    Announce {},
    /// Cancel tasks by their ids: those that run, and if they are to be remembered those that have yet to begin.
    Cancel {
        /// The ids.
        ids: Vec<TaskId>,
        /// Why, for the log and for the handler.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// For how long, in milliseconds, the ids are remembered: a delivery of one of them ends as cancelled before its
        /// handler is called. Without it, what does not run is not cancelled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remember_ms: Option<u64>,
        /// Only tasks that were brought back from the dead letters so often at most: a replay is a new life. Without it any
        /// are meant; what is remembered then ends with the life in which a delivery of it was cancelled first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replays: Option<u32>,
    },
    /// Cancel every task of one name that runs.
    CancelAll {
        /// The name.
        task: String,
        /// Why, for the log and for the handler.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Take no more tasks from a queue, until told to resume or stopped.
    Pause {
        /// The queue.
        queue: QueueName,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Who wants it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Take tasks from a queue again.
    Resume {
        /// The queue.
        queue: QueueName,
    },
    /// Look whether a queue is paused everywhere: that has just changed.
    Look {
        /// The queue.
        queue: QueueName,
        /// Why it is paused, if it is: so that workers need not all read the flag at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pause: Option<Pause>,
    },
    /// Run so many tasks of a queue at once.
    Concurrency {
        /// The queue.
        queue: QueueName,
        /// Tasks at once, 1 to 65535.
        tasks: u16,
    },
    /// List the limits, and how much they admit now.
    Limits {},
    /// Change a limit.
    Limit(LimitChange),
    /// Change what is logged.
    Log {
        /// A level, or a list such as `info,leveret_worker=debug`.
        filter: String,
    },
    /// Finish what runs, take no more, and stay up.
    Drain {},
    /// Finish what runs within the grace period, and end.
    Stop {},
}

/// A limit and what it is to be. What is not said stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitChange {
    /// The limit's name.
    pub name: String,
    /// Tasks at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Tasks in a time, such as `100/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Back to what the configuration says; the other two are absent then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
}

impl Command {
    /// Cancels tasks that run, by their ids.
    pub fn cancel(ids: impl IntoIterator<Item = TaskId>, reason: Option<String>) -> Self {
        Self::Cancel { ids: ids.into_iter().collect(), reason, remember_ms: None, replays: None }
    }

    /// Reads a command from the body of a message.
    ///
    /// # Errors
    /// [`Refusal`] with what is wrong with it.
    pub fn read(body: &[u8]) -> Result<Self, Refusal> {
        if body.len() > LARGEST {
            let text = format!("a command has at most {LARGEST} bytes, this has {}", body.len());
            return Err(Refusal::new(RefusalKind::Malformed, text));
        }
        let command: Self = serde_json::from_slice(body).map_err(|error| {
            let text = error.to_string();
            let unknown = text.starts_with("unknown variant");
            let kind = if unknown { RefusalKind::UnknownCommand } else { RefusalKind::Malformed };
            Refusal::new(kind, format!("this is no command: {text}"))
        })?;
        let wrong = |text: &str| Err(Refusal::new(RefusalKind::Malformed, text));
        match &command {
            Self::Cancel { ids, .. } if ids.is_empty() => wrong("`ids` is empty: name the tasks to cancel"),
            Self::Cancel { remember_ms: Some(0), .. } => wrong("`remember_ms` is 0: leave it out, or give a time"),
            Self::Concurrency { tasks: 0, .. } => wrong("`tasks` is 0: choose 1 to 65535, or pause the queue"),
            Self::Limit(LimitChange { concurrency, rate, reset, .. })
                if *reset == (concurrency.is_some() || rate.is_some()) =>
            {
                wrong("give `concurrency`, `rate` or both, or `reset` alone")
            }
            _ => Ok(command),
        }
    }

    /// The value of `command`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ping {} => "ping",
            Self::Stats {} => "stats",
            Self::Running { .. } => "running",
            Self::Announce {} => "announce",
            Self::Cancel { .. } => "cancel",
            Self::CancelAll { .. } => "cancel-all",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Look { .. } => "look",
            Self::Concurrency { .. } => "concurrency",
            Self::Limits {} => "limits",
            Self::Limit(_) => "limit",
            Self::Log { .. } => "log",
            Self::Drain {} => "drain",
            Self::Stop {} => "stop",
        }
    }

    /// Whether it changes nothing, so that it need not be logged.
    pub const fn only_asks(&self) -> bool {
        matches!(
            self,
            Self::Ping {}
                | Self::Stats {}
                | Self::Running { .. }
                | Self::Announce {}
                | Self::Look { .. }
                | Self::Limits {}
        )
    }
}

/// Which workers are meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// All.
    All,
    /// Those of a name.
    Worker(String),
    /// One.
    Instance(Instance),
    /// Those that consume from a queue.
    Queue(QueueName),
}

impl Target {
    /// The routing key at `<namespace>.control`.
    pub fn routing_key(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Worker(name) => format!("worker.{name}"),
            Self::Instance(instance) => format!("instance.{instance}"),
            Self::Queue(queue) => format!("queue.{queue}"),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("no worker"),
            Self::Worker(name) => write!(f, "no worker named {name:?}"),
            Self::Instance(instance) => write!(f, "no worker with instance {instance}"),
            Self::Queue(queue) => write!(f, "no worker of queue {:?}", queue.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (RefusalKind, String) {
        let refusal = Command::read(body.as_bytes()).unwrap_err();
        (refusal.kind, refusal.text)
    }

    #[test]
    fn what_is_no_command_is_refused_with_what_is_wrong() {
        for body in ["", "{", "[1]", "null", "{}", r#"{"command": 7}"#, "\u{feff}{}", &"[".repeat(10_000)] {
            assert_eq!(refused(body).0, RefusalKind::Malformed, "{body:.20}");
        }
        assert_eq!(refused(r#"{"command": "explode"}"#).0, RefusalKind::UnknownCommand);
        // A restriction that is not known must not be skipped.
        let (kind, text) = refused(r#"{"command": "stop", "queue": "mail"}"#);
        assert_eq!(kind, RefusalKind::Malformed);
        assert!(text.contains("`queue`"), "{text}");
        for body in [
            r#"{"command": "cancel", "ids": []}"#,
            r#"{"command": "cancel", "ids": [""]}"#,
            r#"{"command": "cancel", "ids": ["a"], "remember_ms": 0}"#,
            r#"{"command": "cancel", "ids": ["a"], "replays": -1}"#,
            r#"{"command": "concurrency", "queue": "mail", "tasks": 0}"#,
            r#"{"command": "concurrency", "queue": "mail", "tasks": 65536}"#,
            r#"{"command": "pause", "queue": "mail.bulk"}"#,
            r#"{"command": "limit", "name": "api"}"#,
        ] {
            assert_eq!(refused(body).0, RefusalKind::Malformed, "{body}");
        }
    }

    #[test]
    fn a_command_is_what_the_contract_shows() {
        let body = br#"{"command": "cancel-all", "task": "mail.send", "reason": "wrong template"}"#;
        let command = Command::read(body).unwrap();
        let reason = Some("wrong template".to_owned());
        assert_eq!(command, Command::CancelAll { task: "mail.send".to_owned(), reason });
        assert_eq!(serde_json::to_value(&command).unwrap()["command"], command.name());
        assert_eq!(Command::read(br#"{"command": "ping"}"#).unwrap(), Command::Ping {});
    }
}
