//! `leveret workers`: see which workers there are, and steer them.

mod centre;
mod limits;
mod list;
mod pausing;
mod running;
mod show;
mod shown;
mod steering;

use std::time::Duration;

use clap::{Args, Subcommand};
use leveret::common::{
    control::{Control, Target},
    duration,
    registry::Instance,
};

use crate::{
    failure::{Exit, Failure},
    session::Session,
};

/// List the workers that run, and steer them
///
/// They ask the broker; where a centre is named, by --api, --context or their variables, they ask that. Over the broker
/// whoever may write to the exchange of control may steer, over a centre an operator whose token is for all namespaces.
/// A centre cannot be asked to `ping`, `log` and `cancel`; `limits` takes one.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  leveret workers\n  leveret workers running\n  leveret workers pause mail --everywhere --reason \
                  maintenance\n  leveret workers stop --worker mail-1\n  leveret workers drain --worker mail-1 --context production"
)]
pub(crate) struct Workers {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(list::List),
    Show(show::Show),
    Running(running::Running),
    Cancel(running::Cancel),
    Pause(pausing::Pause),
    Resume(pausing::Resume),
    Concurrency(steering::Concurrency),
    Limits(limits::Limits),
    Limit(steering::Limit),
    Log(steering::Log),
    Drain(steering::Drain),
    Stop(steering::Stop),
    Ping(steering::Ping),
}

impl Workers {
    pub(crate) async fn run(self, session: Session) -> Result<Exit, Failure> {
        match self.action {
            None => self.list.run(session).await,
            Some(Action::List(list)) => list.run(session).await,
            Some(Action::Show(show)) => show.run(session).await,
            Some(Action::Running(running)) => running.run(session).await,
            Some(Action::Cancel(cancel)) => cancel.run(session).await,
            Some(Action::Pause(pause)) => pause.run(session).await,
            Some(Action::Resume(resume)) => resume.run(session).await,
            Some(Action::Concurrency(concurrency)) => concurrency.run(session).await,
            Some(Action::Limits(limits)) => limits.run(session).await,
            Some(Action::Limit(limit)) => limit.run(session).await,
            Some(Action::Log(log)) => log.run(session).await,
            Some(Action::Drain(drain)) => drain.run(session).await,
            Some(Action::Stop(stop)) => stop.run(session).await,
            Some(Action::Ping(ping)) => ping.run(session).await,
        }
    }
}

/// How long to wait for answers.
#[derive(Debug, Args)]
struct Patience {
    /// How long workers have to answer, and what they have not begun by then they do not do; a centre gives them 2s
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "1s")]
    wait: Duration,
}

/// Which workers are meant.
#[derive(Debug, Args)]
struct Whom {
    /// Only workers of this name
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// Only this instance
    #[arg(long, value_name = "UUID", conflicts_with = "worker")]
    instance: Option<Instance>,
}

impl Whom {
    /// The target, if one was given.
    fn target(self) -> Option<Target> {
        self.worker.map(Target::Worker).or(self.instance.map(Target::Instance))
    }
}

/// A connection to steer by.
async fn control(session: &Session) -> Result<Control, Failure> {
    let pool = session.admin(session.settings()?.broker).await?;
    Ok(Control::on(pool.link().clone()).map_err(leveret::common::topology::TopologyError::from)?)
}
