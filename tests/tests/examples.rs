//! Each program in `examples/` does what it shows, at a broker of the test's own, and ends by itself.
//!
//! `cargo test` and `cargo nextest run` build the examples; after a build of this test alone they may be missing.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test reports by failing")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
};

use leveret_tests::{Place, within};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
};

/// Where cargo puts the examples of the build that this test is of.
fn binary(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.parent().unwrap().parent().unwrap().join("examples").join(example);
    let built = std::fs::metadata(&binary).and_then(|about| about.modified());
    let written = std::fs::metadata(source(example)).and_then(|about| about.modified()).unwrap();
    assert!(
        built.is_ok_and(|built| built >= written),
        "the example {example} is not built, or was before it was changed: cargo build --workspace --examples"
    );
    binary
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn source(example: &str) -> PathBuf {
    examples().join(example).with_extension("rs")
}

/// Runs an example to its end, and gives what it printed. Once it has printed `until`, if that is given, it gets this
/// signal.
async fn run(example: &str, signal: Option<(&str, &str)>) -> String {
    let place = Place::new().await;
    let mut child = Command::new(binary(example))
        .arg(place.vhost.url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut errors = child.stderr.take().unwrap();
    let mut printed = String::new();
    let mut signal = signal;
    let ending = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            printed.push_str(&line);
            printed.push('\n');
            if let Some((_, signal)) = signal.take_if(|(until, _)| line.contains(*until)) {
                let id = child.id().unwrap().to_string();
                assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
            }
        }
        child.wait().await.unwrap()
    };
    let patience = std::time::Duration::from_secs(60);
    let Ok(status) = tokio::time::timeout(patience, ending).await else {
        panic!("the example {example} does not end; it has printed\n{printed}");
    };
    let mut said = String::new();
    within("its errors are read", errors.read_to_string(&mut said)).await.unwrap();
    assert!(status.success(), "{example}: {status}\n{printed}{said}");
    printed
}

macro_rules! examples {
    ($($example:ident: [$($line:expr),+] $(, $until:literal $signal:literal)?;)+) => {
        const RUN: &[&str] = &[$(stringify!($example)),+];

        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $example() {
                let signal: Option<(&str, &str)> = None $(.or(Some(($until, $signal))))?;
                let printed = run(stringify!($example), signal).await;
                for line in [$($line),+] {
                    assert!(printed.contains(line), "{line:?} is missing in\n{printed}");
                }
            }
        )+
    };
}

examples! {
    delays: [" s: in two seconds", " s: later", " s: at once"];
    events: ["import.run started, attempt 1", "of Some(3)", "failed: the last row is missing", "done in attempt 2"];
    first_task: ["Hello, world! This is attempt 1 of task"], "Hello" "-INT";
    follow_ups: [
        "the invoice of order 7 comes from attempt 2",
        "order 7 is archived",
        "nothing came of the attempt that failed"
    ];
    graceful_shutdown: ["finishing what runs", "encoded"], "encoding" "-TERM";
    handlers: [
        "5040 = [2, 2, 2, 2, 3, 3, 5, 7]",
        "hare@example.org writes to ada@example.org",
        "4 rows in one statement"
    ];
    layers: [
        "attempt 1 at there: done",
        "attempt 1 at missing: No such file",
        "attempt 2 at slow: ",
        "attempt 3 at slow: two attempts are enough"
    ];
    limits: ["at 12 a second", "at once: of all 3, of the hare's 2", "the pace is another now"];
    long_tasks: ["refused: task \"film.render\" may run for 1day", "20 frames rendered, redelivered: false"];
    once: ["invoice 17: publish 1\n", "invoice 18: another invoice", "charged 499 cents", "4 of 104 tasks had to be run"];
    once_sqlite: ["charged in attempt 2", "501 of 1000 cents are left"];
    outbox: ["ship order 1\nship order 2\nship order 4\nship order 5\n", "0 left in the outbox"];
    pools: ["of the first 40, 3", "paused: the mail server is down", "and normal ones again"];
    publish_many: ["10000 of 10000 stored", "no queue takes \"nowhere\""];
    remote_control: ["scaler is Live", "it runs image.scale", "1 called off", "8 tasks at once now", "it has stopped"];
    results: ["words: 5, letters: 20", "is Some(\"dead\")", "there is nothing to count"];
    retries: ["order 1 captured at attempt 3"];
    routes: [
        "ann warms 334 keys: share Some((0, 3))",
        "what is bob's is run by bob",
        "and by another while bob is away: true"
    ];
    schedule: ["seconds ticked: Some((\"seconds\"", "the evening clock ticks next at"];
    schema: ["report.send in queue Some(\"reports\")", "How many pages at most.", "\"maximum\": 500"];
    shards: ["each account in its order"];
    testing: ["done"];
    time_limits: ["100 pages: told to end after", "OutOfTime", "1000 pages: ended", "200 pages: told to end after", "Requested(\"the customer left\")"];
}

#[test]
fn none_is_left_out_and_each_says_what_it_shows_and_how_to_run_it() {
    let files = std::fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path());
    let sources: Vec<_> = files.filter(|file| file.extension().is_some_and(|extension| extension == "rs")).collect();
    let names: BTreeSet<_> = sources.iter().map(|file| file.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, RUN.iter().copied().collect());
    for file in &sources {
        let text = std::fs::read_to_string(file).unwrap();
        let command = format!("--example {}", file.file_stem().unwrap().to_str().unwrap());
        let said: Vec<_> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(said.len() >= 3 && said.iter().any(|line| line.contains(&command)), "{}", file.display());
    }
}
