//! Nothing that a command started outlives its attempt, however the attempt ends.

use std::{path::Path, time::Duration};

use leveret_worker::exec::{ExecFailureKind, ExecSettings, Executor};
use tokio::time::Instant;

use crate::{PATIENCE, eventually, request, run};

/// Starts three descendants, two of them deaf to SIGTERM and without a hold on the output, and waits for ever.
const FAMILY: &str = "sleep 1000 & echo $! >> pids
    (trap '' TERM; sleep 1000 & echo $! >> pids; wait) > /dev/null 2>&1 &
    echo $! >> pids
    echo $$ > leader
    wait";

fn family(directory: &Path, text: &str) -> ExecSettings {
    let mut settings = ExecSettings::shell(text);
    settings.directory = Some(directory.to_owned());
    settings.grace = Some(Duration::from_millis(100));
    settings
}

fn pids(directory: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(directory.join("pids")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn leader(directory: &Path) -> u32 {
    std::fs::read_to_string(directory.join("leader")).unwrap().trim().parse().unwrap()
}

/// Whether the command and its descendants have said that they are there.
fn is_complete(directory: &Path) -> bool {
    pids(directory).len() == 3 && std::fs::metadata(directory.join("leader")).is_ok_and(|file| file.len() > 0)
}

/// Whether a process runs. One that is dead and waits for its parent, or for init, to notice does not.
fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), Some('Z' | 'X'))
}

fn is_reaped(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

async fn assert_gone(pids: &[u32]) {
    eventually(&format!("processes {pids:?} are gone"), || !pids.iter().any(|&pid| runs(pid))).await;
}

#[tokio::test]
async fn at_the_timeout_the_whole_family_dies() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = family(directory.path(), FAMILY);
    // Long enough for the family to assemble on a busy machine.
    settings.timeout = Some(Duration::from_secs(2));
    let failure = run(&settings, request("")).await.unwrap_err();
    assert_eq!(failure.kind, ExecFailureKind::TimedOut);
    assert!(failure.message.contains("did not finish within 2s"), "{failure}");
    assert!(is_complete(directory.path()), "the family was there");
    assert!(is_reaped(leader(directory.path())), "the command itself leaves no zombie");
    assert_gone(&pids(directory.path())).await;
}

#[tokio::test]
async fn the_timeout_of_the_task_goes_before_that_of_the_settings() {
    let mut settings = ExecSettings::command(["sleep", "1000"]);
    settings.timeout = Some(Duration::from_secs(1000));
    let mut asked = request("");
    asked.timeout = Some(Duration::from_millis(20));
    assert_eq!(run(&settings, asked).await.unwrap_err().kind, ExecFailureKind::TimedOut);
}

#[tokio::test]
async fn dropping_the_future_kills_the_whole_family() {
    let directory = tempfile::tempdir().unwrap();
    let executor = Executor::new(&family(directory.path(), FAMILY)).unwrap();
    let attempt = tokio::spawn(async move { executor.run(request("")).await });
    eventually("the family is there", || is_complete(directory.path())).await;
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());
    assert_gone(&pids(directory.path())).await;
    let leader = leader(directory.path());
    eventually("the command itself leaves no zombie", || is_reaped(leader)).await;
}

#[tokio::test]
async fn cancelling_kills_the_whole_family() {
    let directory = tempfile::tempdir().unwrap();
    let executor = Executor::new(&family(directory.path(), FAMILY)).unwrap();
    let asked = request("");
    let cancelled = asked.cancelled.clone();
    let attempt = tokio::spawn(async move { executor.run(asked).await });
    eventually("the family is there", || is_complete(directory.path())).await;
    cancelled.cancel();
    let failure = tokio::time::timeout(PATIENCE, attempt).await.unwrap().unwrap().unwrap_err();
    assert_eq!(failure.kind, ExecFailureKind::Cancelled);
    assert_gone(&pids(directory.path())).await;
}

#[tokio::test]
async fn a_command_that_heeds_sigterm_is_not_kept_for_the_whole_grace() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = family(directory.path(), "trap 'echo tidied up >&2; exit 0' TERM; sleep 1000 & wait");
    settings.grace = Some(Duration::from_secs(600));
    settings.timeout = Some(Duration::from_secs(2));
    let failure = run(&settings, request("")).await.unwrap_err();
    assert_eq!(failure.kind, ExecFailureKind::TimedOut, "too late is too late, whatever the exit code");
    assert!(failure.message.ends_with("tidied up"), "{failure}");
}

#[tokio::test]
async fn a_grandchild_that_holds_the_output_open_does_not_hold_up_the_task() {
    let directory = tempfile::tempdir().unwrap();
    let settings = family(directory.path(), "sleep 1000 & echo $! >> pids; echo $$ > leader; echo done");
    let before = Instant::now();
    let output = run(&settings, request("")).await.unwrap();
    assert_eq!(&output.stdout[..], b"done\n");
    assert!(before.elapsed() < PATIENCE / 2);
    assert!(is_reaped(leader(directory.path())));
    let pids = pids(directory.path());
    assert_eq!(pids.len(), 1);
    assert_gone(&pids).await;
}

#[tokio::test]
async fn a_grandchild_in_the_background_dies_with_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let settings = family(directory.path(), "sleep 1000 > /dev/null 2>&1 < /dev/null & echo $! >> pids");
    run(&settings, request("")).await.unwrap();
    let pids = pids(directory.path());
    assert_eq!(pids.len(), 1);
    assert_gone(&pids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_at_once_are_all_noticed_and_reaped() {
    let executor = Executor::new(&ExecSettings::shell("cat > /dev/null; echo $$")).unwrap();
    let attempts: Vec<_> = (0..100)
        .map(|_| {
            let executor = executor.clone();
            tokio::spawn(async move { executor.run(request("{}")).await })
        })
        .collect();
    for attempt in attempts {
        let output = tokio::time::timeout(PATIENCE, attempt).await.unwrap().unwrap().unwrap();
        let pid: u32 = std::str::from_utf8(&output.stdout).unwrap().trim().parse().unwrap();
        assert!(is_reaped(pid), "{pid}");
    }
}
