//! What a command is given, and what becomes of its exit code and its output.

use leveret_worker::exec::{ExecFailureKind, ExecSettings, ExecStatus};
use serde_json::{Value, json};

use crate::{request, run};

#[tokio::test]
async fn the_payload_goes_in_and_the_output_comes_out() {
    let output = run(&ExecSettings::command(["cat"]), request(r#"{"pages": 3}"#)).await.unwrap();
    assert_eq!(output.status, ExecStatus::Exit(0));
    assert_eq!(output.result(), json!({"pages": 3}));
    assert!(output.stderr.is_empty() && !output.truncated);

    let output = run(&ExecSettings::command(["true"]), request("{}")).await.unwrap();
    assert_eq!(output.result(), Value::Null);
}

#[tokio::test]
async fn a_text_is_run_by_the_shell_in_the_directory_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("note"), "hello").unwrap();
    let mut settings = ExecSettings::shell("cat note && echo warning >&2");
    settings.directory = Some(directory.path().to_owned());
    let output = run(&settings, request("")).await.unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"hello"[..], &b"warning\n"[..]));
}

#[tokio::test]
async fn the_facts_about_the_task_are_in_the_environment() {
    let mut asked = request("");
    asked.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let mut settings = ExecSettings::command(["env"]);
    settings.environment = [("SIZE", "128")].into_iter().collect();
    settings.inherit_environment = Some(false);
    let output = run(&settings, asked).await.unwrap();
    let mut lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    let expected = [
        "LEVERET_ATTEMPT=2",
        "LEVERET_CONTENT_TYPE=application/json",
        "LEVERET_MAX_ATTEMPTS=5",
        "LEVERET_QUEUE=images",
        "LEVERET_TASK=image.thumbnail",
        "LEVERET_TASK_ID=order-17",
        "SIZE=128",
        "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn the_environment_of_the_worker_is_inherited_unless_refused() {
    let output = run(&ExecSettings::command(["env"]), request("")).await.unwrap();
    let seen = std::str::from_utf8(&output.stdout).unwrap();
    let (name, value) = std::env::vars().find(|(name, _)| name == "PATH").unwrap();
    assert!(seen.lines().any(|line| line == format!("{name}={value}")), "{seen}");
}

#[tokio::test]
async fn the_exit_code_decides_whether_another_attempt_makes_sense() {
    let exits = |code: i32| ExecSettings::shell(format!("echo no such order >&2; exit {code}"));
    let failure = run(&exits(3), request("")).await.unwrap_err();
    assert_eq!(failure.kind, ExecFailureKind::Retryable);
    assert_eq!(failure.to_string(), "the shell command exited with code 3: no such order");
    for (code, kind) in
        [(64, ExecFailureKind::Permanent), (65, ExecFailureKind::Permanent), (75, ExecFailureKind::Retryable)]
    {
        assert_eq!(run(&exits(code), request("")).await.unwrap_err().kind, kind, "{code}");
    }
    let mut settings = exits(3);
    settings.permanent_exit_codes = Some(vec![3]);
    assert_eq!(run(&settings, request("")).await.unwrap_err().kind, ExecFailureKind::Permanent);
}

#[tokio::test]
async fn a_failure_that_says_nothing_on_standard_error_is_explained_by_standard_output() {
    let failure = run(&ExecSettings::shell("echo disk full; exit 1"), request("")).await.unwrap_err();
    assert_eq!(failure.message, "the shell command exited with code 1: disk full");
}

#[tokio::test]
async fn death_by_a_signal_is_named_and_retried() {
    let failure = run(&ExecSettings::shell("kill -9 $$"), request("")).await.unwrap_err();
    assert_eq!(failure.kind, ExecFailureKind::Retryable);
    assert!(failure.message.contains("SIGKILL"), "{failure}");
}

#[tokio::test]
async fn output_without_end_is_cut_and_never_stalls_the_command() {
    let text = "yes out | head -c 10485760; yes error | head -c 10485760 >&2; echo last; echo words >&2";
    let mut settings = ExecSettings::shell(text);
    settings.output_limit = 1000;
    let output = run(&settings, request("")).await.unwrap();
    assert!(output.truncated);
    assert_eq!((output.stdout.len(), output.stderr.len()), (1000, 1000));
    assert!(output.stdout.ends_with(b"last\n") && output.stderr.ends_with(b"words\n"));

    let failure = run(&ExecSettings::shell(format!("{text}; exit 1")), request("")).await.unwrap_err();
    assert!(failure.message.ends_with("words"), "{failure}");
    assert!(failure.message.len() < 2200, "{}", failure.message.len());
}

#[tokio::test]
async fn a_command_need_not_read_its_input() {
    let payload = vec![b'x'; 4 << 20];
    for text in ["exit 0", "exec <&-; echo ignored"] {
        run(&ExecSettings::shell(text), request(payload.clone())).await.unwrap();
    }
    let output = run(&ExecSettings::command(["head", "-c", "1"]), request(payload)).await.unwrap();
    assert_eq!(&output.stdout[..], b"x");
}

#[tokio::test]
async fn output_need_not_be_text() {
    let output = run(&ExecSettings::shell("printf '\\377\\000\\376'"), request("")).await.unwrap();
    assert_eq!(&output.stdout[..], [0xFF, 0, 0xFE]);
    assert_eq!(output.result(), json!("\u{fffd}\0\u{fffd}"));
}

#[tokio::test]
async fn what_cannot_be_run_fails_for_good_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain-file");
    std::fs::write(&plain, "").unwrap();
    let plain = plain.to_str().unwrap().to_owned();
    let mut elsewhere = ExecSettings::command(["true"]);
    elsewhere.directory = Some("/no/such/directory".into());
    for (settings, named) in [
        (ExecSettings::command(["leveret-no-such-program"]), "leveret-no-such-program"),
        (ExecSettings::command([&plain]), "plain-file"),
        (ExecSettings::shell("leveret-no-such-program --now"), "leveret-no-such-program"),
        (elsewhere, "/no/such/directory"),
    ] {
        let failure = run(&settings, request("")).await.unwrap_err();
        assert_eq!(failure.kind, ExecFailureKind::Permanent, "{failure}");
        assert!(failure.message.contains(named), "{failure}");
    }
}

#[tokio::test]
async fn an_id_that_no_environment_can_hold_fails_for_good() {
    let mut asked = request("");
    asked.task_id = "a\0b".to_owned();
    let failure = run(&ExecSettings::command(["true"]), asked).await.unwrap_err();
    assert_eq!(failure.kind, ExecFailureKind::Permanent, "{failure}");
}
