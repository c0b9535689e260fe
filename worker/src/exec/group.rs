use std::{io, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    process::{Child, Command},
    signal::unix::{self, SignalKind},
};

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A running command with its descendants: one process group, which does not outlive this value.
///
/// The command's process is not reaped before the last signal to the group has been sent. Until then it is at least a
/// zombie, and the kernel gives its number to no other process or group: a signal can never hit a stranger.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    leader: Child,
    /// Number of the leader and of the group; `None` once the leader is reaped.
    id: Option<Pid>,
    /// Wakes up when a child of the worker has exited, this one or another.
    exits: unix::Signal,
}

impl ProcessGroup {
    /// Starts the command as the leader of a new group.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        // Listening starts before the command does, so that no exit is missed.
        let exits = unix::signal(SignalKind::child())?;
        let leader = command.process_group(0).spawn()?;
        let id = leader.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { leader, id, exits })
    }

    pub(super) fn leader(&mut self) -> &mut Child {
        &mut self.leader
    }

    /// Resolves once the leader has exited, and leaves it to be reaped. May be dropped and called again.
    pub(super) async fn exited(&mut self) {
        while !self.has_exited() {
            if self.exits.recv().await.is_none() {
                // The runtime hands out no more signals: look again after a while.
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }

    fn has_exited(&self) -> bool {
        let Some(id) = self.id else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error means that there is nothing left to wait for.
        waitid(WaitId::Pid(id), options).map_or(true, |status| status.is_some())
    }

    /// Sends a signal to every process of the group.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // The group may have ended by itself meanwhile, which is as good.
            kill_process_group(id, signal).ok();
        }
    }

    /// Kills what is left of the group, then reaps the leader: `None` when it has not exited even so.
    pub(super) fn end(mut self) -> Option<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.leader.try_wait().ok().flatten();
        if status.is_some() {
            self.id = None;
        }
        status
    }
}

impl Drop for ProcessGroup {
    /// Kills the group; the runtime reaps the leader in the background.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
