//! The command line itself: help, completions, and what happens when there is no broker.

mod common;

use std::time::Duration;

use common::{PATIENCE, Site};
use leveret_testkit::{Broker, Direction, FaultProxy, eventually, eventually_eq};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

#[tokio::test]
async fn help_lists_the_exit_codes_and_each_command_has_an_example() {
    let site = Site::new("");
    let help = site.run(&["--help"]).await.expect(0).stdout;
    for code in
        ["0   done", "64  the configuration is wrong", "69  the broker cannot be reached", "75  no answer in time"]
    {
        assert!(help.contains(code), "{help}");
    }
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // What goes on in a further line is indented deeper.
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    for command in names.filter(|name| !name.is_empty() && *name != "help") {
        let help = site.run(&[command, "--help"]).await.expect(0).stdout;
        assert!(help.contains("Example"), "{command}: {help}");
    }
    assert_eq!(site.run(&["--version"]).await.expect(0).stdout, format!("leveret {}\n", env!("CARGO_PKG_VERSION")));
    site.run(&[]).await.expect(2);
    site.run(&["unheard-of"]).await.expect(2);
    let json = site.run(&["queues", "--json", "--unheard-of"]).await.expect(2).stderr;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["error"].as_str().unwrap().contains("--unheard-of"), "{json}");
}

#[tokio::test]
async fn completions_are_made_for_each_shell() {
    let site = Site::new("");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = site.run(&["completions", shell]).await.expect(0).stdout;
        assert!(script.contains("topology") && script.contains("payload-file"), "{shell}");
    }
    let json = site.run(&["completions", "bash", "--json"]).await.expect(0).json();
    assert_eq!(json["shell"], "bash");
    assert!(json["script"].as_str().unwrap().contains("_leveret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_broker_is_a_clear_error_within_ten_seconds() {
    let proxy = FaultProxy::to(Broker::shared().await.url()).await;
    proxy.stall(Direction::Both);
    let refused = Site::at("amqp://127.0.0.1:1", "");
    let silent = Site::at(proxy.url(), "");
    let begun = Instant::now();
    let commands: [&[&str]; 4] = [&["publish", "t"], &["queues"], &["topology", "diff"], &["topology", "apply"]];
    let all = [&refused, &silent].into_iter().flat_map(|site| commands.map(|arguments| (site, arguments)));
    futures_util::future::join_all(all.map(async |(site, arguments)| {
        let ended = site.run(arguments).await.expect(69);
        let said: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(said.len() == 1 && said[0].contains("no broker answers at 127.0.0.1:"), "{arguments:?}: {said:?}");
    }))
    .await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_user_is_said_at_once() {
    let broker = Broker::shared().await;
    let (_, host) = broker.url().split_once('@').unwrap();
    let url = format!("amqp://nobody:secret@{host}");
    let site = Site::at(&url, "[tasks.a]\ncommand = \"true\"\n[schedules.s]\ntask = \"a\"\ncron = \"@daily\"\n");
    let commands: [&[&str]; 4] = [&["queues", "--json"], &["publish", "a"], &["worker"], &["producer"]];
    for arguments in commands {
        let ended = site.run(arguments).await.expect(69);
        assert!(ended.stderr.contains("refused the connection"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_its_broker_and_says_over_http_how_it_is() {
    let vhost = Broker::shared().await.vhost().await;
    let proxy = FaultProxy::to(vhost.url()).await;
    proxy.refuse();
    let site = Site::at(proxy.url(), "[tasks.upper]\ncommand = [\"tr\", \"a-z\", \"A-Z\"]\n");
    let _worker = site.start(&["worker", "--http", "127.0.0.1:0"]);
    let address = eventually(PATIENCE, || async {
        let log = site.read("log");
        let (_, rest) = log.split_once("serving /live, /ready and /metrics address=")?;
        Some(rest.split_whitespace().next()?.to_owned())
    })
    .await;
    assert!(get(&address, "/live").await.starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/ready").await.starts_with("HTTP/1.1 503"));
    proxy.resume();
    eventually(PATIENCE, || async { get(&address, "/ready").await.starts_with("HTTP/1.1 200") }).await;
    let direct = Site::at(vhost.url(), "");
    let done = direct.run(&["publish", "upper", "--payload", "\"a\"", "--wait", "20s"]).await.expect(0);
    assert_eq!(done.stdout, "A\n");
    eventually_eq(PATIENCE, true, || async {
        get(&address, "/metrics")
            .await
            .lines()
            .any(|line| line.starts_with("leveret_") && line.contains("task=\"upper\""))
    })
    .await;
}

#[allow(clippy::unwrap_used, reason = "this is how a test fails")]
async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
