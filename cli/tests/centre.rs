//! The scheduling centre as a person uses it: the real binary, its first token, and the command line over REST.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "this is how a test fails")]

mod common;

use common::{PATIENCE, Running, Site};
use leveret_testkit::{Broker, FaultProxy, Postgres, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const CONFIG: &str = r#"
[centre]
address = "127.0.0.1:0"

[worker]
retries = 0

[tasks.add]
command = "cat; exit 0"

[tasks.fail]
command = "echo no such luck >&2; exit 1"

[schedules.often]
every = "200ms"
task = "add"
payload = { a = 1 }
"#;

/// A centre at work, whose command line knows it as the context `here`.
struct Centre {
    running: Running,
    url: String,
    token: Option<String>,
}

impl Centre {
    async fn start(site: &Site) -> Self {
        let running = site.start_printing(&["centre", "--json"]);
        let started = eventually(PATIENCE, async || {
            let printed = site.read("printed");
            printed.lines().next().map(|line| serde_json::from_str::<Value>(line).unwrap())
        })
        .await;
        let text = |key: &str| started[key].as_str().map(str::to_owned);
        Self { running, url: text("url").unwrap(), token: text("token") }
    }

    async fn remembered(&self, site: &Site) {
        let token = self.token.clone().expect("the first start prints a token");
        site.write("token", &token);
        let add = ["context", "add", "here", "--api", &self.url, "--token-file", "token"];
        site.run(&add).await.expect(0);
    }

    async fn stop(mut self) {
        self.running.signal(Signal::SIGTERM);
        assert_eq!(self.running.ended().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_token_opens_it_and_others_are_made_with_it() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), CONFIG);
    let centre = Centre::start(&site).await;

    let nobody = site.run(&["centre", "status"]).await.expect(64);
    assert!(nobody.stderr.contains("leveret context add NAME"), "{}", nobody.stderr);
    let wrong = site.run(&["centre", "status", "--api", &centre.url, "--token", "guess"]).await.expect(1);
    assert!(wrong.stderr.starts_with("error: the centre at http://127.0.0.1:"), "{}", wrong.stderr);
    assert_eq!(wrong.stderr.lines().count(), 1);

    centre.remembered(&site).await;
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(site.path("leveret/contexts.toml")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let status = site.run(&["centre", "status", "--json"]).await.expect(0).json();
    assert_eq!((&status["centre"]["database"], &status["token"]["role"]), (&json!("sqlite"), &json!("admin")));
    let centres = status["centres"].as_array().unwrap();
    assert_eq!((centres.len(), &centres[0]["version"]), (1, &json!(env!("CARGO_PKG_VERSION"))));
    let listed = site.run(&["context", "list"]).await.expect(0).stdout;
    assert!(listed.contains("here") && !listed.contains(centre.token.as_deref().unwrap()), "{listed}");

    let created = site.run(&["tokens", "create", "look", "--role", "viewer", "--json"]).await.expect(0).json();
    let (secret, id) = (created["secret"].as_str().unwrap(), created["token"]["id"].as_str().unwrap());
    let as_viewer = async |arguments: &[&str]| {
        let who = ["--api", centre.url.as_str(), "--token", secret];
        site.run(&[arguments, &who].concat()).await
    };
    as_viewer(&["schedules", "list"]).await.expect(0);
    let refused = as_viewer(&["schedules", "pause", "often"]).await.expect(1);
    assert!(refused.stderr.contains("operator"), "{}", refused.stderr);
    site.run(&["tokens", "revoke", id]).await.expect(0);
    assert!(!site.run(&["tokens", "list"]).await.expect(0).stdout.contains("look"));
    as_viewer(&["schedules", "list"]).await.expect(1);

    site.run(&["context", "use", "there"]).await.expect(64);
    site.run(&["context", "remove", "here"]).await.expect(0);
    assert_eq!(site.run(&["context", "list"]).await.expect(0).stdout, "no centre is remembered\n");
    centre.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_of_the_file_and_of_the_api_live_together() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), CONFIG);
    let centre = Centre::start(&site).await;
    centre.remembered(&site).await;
    let list = async || site.run(&["schedules", "list", "--json"]).await.expect(0).json()["schedules"].clone();
    let often = eventually(PATIENCE, async || list().await.get(0).cloned()).await;
    assert_eq!((&often["name"], &often["source"]), (&json!("often"), &json!("file")));

    site.write(
        "more.toml",
        "[schedules.daily]\ncron = \"@daily\"\ntask = \"add\"\n[schedules.later]\nevery = \"1h\"\ntask = \"add\"\n",
    );
    let dry = site.run(&["schedules", "apply", "-f", "more.toml", "--dry-run"]).await.expect(0).stdout;
    assert!(dry.contains("daily") && dry.contains("made"), "{dry}");
    assert_eq!(list().await.as_array().map(Vec::len), Some(1));
    let applied = site.run(&["schedules", "apply", "-f", "more.toml", "--json"]).await.expect(0).json();
    assert_eq!(applied["schedules"][1]["is_new"], json!(true));
    assert!(applied["schedules"][0]["times"][0]["local"].is_string(), "{applied}");
    let again = site.run(&["schedules", "apply", "-f", "more.toml"]).await.expect(0).stdout;
    assert!(again.contains("unchanged") && !again.contains("made"), "{again}");

    site.run(&["schedules", "pause", "daily", "--reason", "it rains"]).await.expect(0);
    let daily = site.run(&["schedules", "get", "daily"]).await.expect(0).stdout;
    assert!(daily.contains("paused: it rains") && daily.contains("next runs"), "{daily}");
    site.run(&["schedules", "resume", "daily"]).await.expect(0);
    site.run(&["schedules", "delete", "later"]).await.expect(0);
    let gone = site.run(&["schedules", "get", "later"]).await.expect(1).stderr;
    assert_eq!(gone, "error: there is no schedule later\n");
    site.write("wrong.toml", "[schedules.never]\ncron = \"0 0 31 2 *\"\ntask = \"add\"\n");
    let wrong = site.run(&["schedules", "apply", "-f", "wrong.toml"]).await.expect(64).stderr;
    assert!(wrong.starts_with("error: wrong.toml:2: [schedules.never] cron: "), "{wrong}");
    centre.stop().await;

    // The file names another, and one that the API has made; it no longer names the first.
    let config = CONFIG.replace("[schedules.often]", "[schedules.rarely]");
    let config =
        format!("[broker]\nurl = \"{}\"\n{config}\n[schedules.daily]\nevery = \"1s\"\ntask = \"add\"\n", vhost.url());
    site.write("leveret.toml", &config);
    let centre = Centre::start(&site).await;
    assert_eq!(centre.token, None, "there is a token already");
    let api = ["--api", centre.url.as_str()];
    let token = site.read("token");
    let names = async || {
        let arguments = [&["schedules", "list", "--json", "--token", &token][..], &api[..]].concat();
        let listed = site.run(&arguments).await.expect(0).json();
        let named = |one: &Value| format!("{} {}", one["name"].as_str().unwrap(), one["source"].as_str().unwrap());
        listed["schedules"].as_array().unwrap().iter().map(named).collect::<Vec<_>>()
    };
    eventually(PATIENCE, async || names().await == ["daily api", "rarely file"]).await;
    let said = |log: &str| log.lines().any(|line| line.contains("[schedules.daily] is not applied: one of this name"));
    eventually(PATIENCE, async || said(&site.read("log"))).await;
    centre.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_followed_from_its_publish_to_its_result() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), CONFIG);
    let centre = Centre::start(&site).await;
    centre.remembered(&site).await;
    let _worker = site.start(&["worker", "--name", "w1"]);
    // Without a queue it is refused: so it is tried until the worker has made its queue.
    let publish = ["tasks", "publish", "add", r#"{"hare":1}"#, "--label", "team=a"];
    let id = eventually(PATIENCE, async || {
        let published = site.run(&publish).await;
        (published.code == 0).then(|| published.stdout.trim().to_owned())
    })
    .await;
    let get = async |id: &str| site.run(&["tasks", "get", id, "--json"]).await.json();
    let done = eventually(PATIENCE, async || Some(get(&id).await).filter(|task| task["state"] == "done")).await;
    assert_eq!((&done["result"]["hare"], &done["worker"]), (&json!(1), &json!("w1")));
    assert!(done["attempts"][0]["started_at"].is_string() && done["ended_at"].is_string(), "{done}");

    let published = site.run(&["tasks", "publish", "fail", "--id", "f1"]).await.expect(0);
    assert_eq!(published.stdout, "f1\n");
    eventually(PATIENCE, async || get("f1").await["state"] == "dead").await;
    let text = site.run(&["tasks", "get", "f1"]).await.expect(0).stdout;
    assert!(text.contains("no such luck"), "{text}");
    let listed = site.run(&["tasks", "list", "--state", "dead"]).await.expect(0).stdout;
    assert!(listed.contains("f1") && !listed.contains(&id), "{listed}");
    site.run(&["tasks", "retry", "f1"]).await.expect(0);
    eventually(PATIENCE, async || get("f1").await["replays"] == 1 && get("f1").await["state"] == "dead").await;

    site.run(&["tasks", "publish", "add", "--id", "later", "--delay", "1h"]).await.expect(0);
    let moved = site.run(&["tasks", "reschedule", "later", "--delay", "2h", "--json"]).await.expect(0).json();
    assert!(moved["due_at"].is_string(), "{moved}");
    site.run(&["tasks", "cancel", "later", "--reason", "not any more"]).await.expect(0);
    assert_eq!(get("later").await["state"], "cancelled");
    site.run(&["workers", "pause", "default", "--everywhere"]).await.expect(0);
    site.run(&["tasks", "publish", "add", "--id", "waits"]).await.expect(0);
    let waits = site.run(&["tasks", "cancel", "waits", "--reason", "not any more"]).await.expect(0).stdout;
    assert_eq!(waits, "the task waits is cancelled when its turn comes\n");
    let text = site.run(&["tasks", "get", "waits"]).await.expect(0).stdout;
    assert!(text.contains("cancel requested"), "{text}");
    site.run(&["workers", "resume", "default", "--everywhere"]).await.expect(0);
    eventually(PATIENCE, async || get("waits").await["state"] == "cancelled").await;
    assert_eq!(get("waits").await["started_at"], Value::Null);
    let workers = site.run(&["workers", "--json", "--context", "here"]).await.expect(0).json();
    assert_eq!(workers["workers"][0]["worker"], "w1");
    centre.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_replayed_in_the_background() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), CONFIG);
    let centre = Centre::start(&site).await;
    centre.remembered(&site).await;
    let mut worker = site.start(&["worker"]);
    for _ in 0..3 {
        // It is refused while nobody has declared the queue.
        let publish = ["publish", "fail", "--wait", "20s"];
        eventually(PATIENCE, async || site.run(&publish).await.stdout.contains("dead in attempt 1")).await;
    }
    worker.signal(Signal::SIGTERM);
    worker.ended().await;
    let here = async |arguments: &[&str]| site.run(&[arguments, &["--context", "here"]].concat()).await;
    let queues = async || here(&["queues", "--json"]).await.expect(0).json();
    let counted = |queues: &Value| queues["queues"][0]["queue"] == "default" && queues["queues"][0]["dead"] == 3;
    eventually(PATIENCE, async || counted(&queues().await)).await;

    // Both ways see the same.
    for arguments in [&["dead", "list", "--json"][..], &["dead", "list", "--group", "--json"]] {
        let (mut by_rest, mut by_amqp) = (here(arguments).await.expect(0).json(), site.run(arguments).await.json());
        // One of those that are alike.
        for seen in [&mut by_rest, &mut by_amqp] {
            if let Some(group) = seen.pointer_mut("/groups/0") {
                group.as_object_mut().unwrap().remove("example");
            }
        }
        assert_eq!(by_rest, by_amqp, "{arguments:?}");
    }
    let letters = here(&["dead", "list", "--json"]).await.json()["dead_letters"].clone();
    let ids: Vec<_> = letters.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap()).collect();
    let few = here(&["dead", "list", "--queue", "default", "--id", ids[0], "--id", ids[1], "--json"]).await.expect(0);
    assert_eq!(few.json()["dead_letters"].as_array().map(Vec::len), Some(2));
    let text = here(&["dead", "show", ids[0]]).await.expect(0).stdout;
    assert!(text.contains("no such luck"), "{text}");
    assert!(here(&["dead", "show", "z"]).await.expect(1).stderr.contains("no dead letter has the id \"z\""));

    here(&["dead", "amend", ids[0]]).await.expect(2);
    let change = ["--payload", r#"{"hare":2}"#, "--header", "leveret-key=k7", "--stay"];
    let amended = here(&[&["dead", "amend", ids[0]][..], &change].concat()).await.expect(0).stdout;
    assert_eq!(amended, format!("the task {} is changed, and stays a dead letter\n", ids[0]));
    let whole = here(&["dead", "show", ids[0], "--json"]).await.expect(0).json();
    assert_eq!((&whole["body"], &whole["headers"]["leveret-key"]), (&json!({ "hare": 2 }), &json!("k7")));
    here(&["dead", "amend", "z", "--task", "add"]).await.expect(1);

    here(&["dead", "replay", "--queue", "default"]).await.expect(2);
    let would = here(&["dead", "replay", "--queue", "default", "--all", "--limit", "2", "--dry-run"]).await.expect(0);
    assert_eq!(would.stdout, "2 of 3 in default.dead would be replayed\n");
    let replay = ["dead", "replay", "--queue", "default", "--limit", "2", "--task", "fail", "--wait"];
    site.run(&replay).await.expect(2);
    assert_eq!(here(&replay).await.expect(0).stdout, "done: 2 of 3 were moved or removed\n");
    here(&["dead", "purge", "--queue", "default", "--all"]).await.expect(2);
    let purge = ["dead", "purge", "--queue", "default", "--all", "--yes", "--wait", "--json"];
    let purged = here(&purge).await.expect(0).json();
    assert_eq!((&purged["state"], &purged["done"]), (&json!("done"), &json!(1)));
    let operations = site.run(&["centre", "operations"]).await.expect(0).stdout;
    assert_eq!(operations.lines().count(), 3, "{operations}");
    let missing = here(&["dead", "replay", "--queue", "nowhere", "--all"]).await.expect(1).stderr;
    assert!(missing.contains("nowhere"), "{missing}");
    centre.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_steered_by_a_centre_that_is_named_and_by_no_other() {
    let vhost = Broker::shared().await.vhost().await;
    let limits = "[limits.api]\nconcurrency = 5\nper_worker = true\n";
    let site = Site::at(vhost.url(), &format!("{CONFIG}\n{limits}"));
    let centre = Centre::start(&site).await;
    centre.remembered(&site).await;
    let (mut first, mut second) = (site.start(&["worker", "--name", "w1"]), site.start(&["worker", "--name", "w2"]));
    let here = async |arguments: &[&str]| site.run(&[arguments, &["--context", "here"]].concat()).await;
    let workers = async || here(&["workers", "list", "--json"]).await.expect(0).json()["workers"].clone();
    let both = |workers: &Value| {
        let live = |worker: &&Value| worker["presence"] == "live" && worker["queues"][0]["attached"] == true;
        workers.as_array().unwrap().iter().filter(live).count() == 2
    };
    eventually(PATIENCE, async || both(&workers().await)).await;
    let of = async |name: &str| {
        let workers = workers().await;
        workers.as_array().unwrap().iter().find(|worker| worker["worker"] == name).cloned().unwrap()
    };

    // A worker announces itself before it listens to commands.
    eventually(PATIENCE, async || here(&["workers", "concurrency", "default", "3", "--worker", "w1"]).await.code == 0)
        .await;
    eventually(PATIENCE, async || of("w1").await["queues"][0]["concurrency"] == 3).await;
    assert_ne!(of("w2").await["queues"][0]["concurrency"], 3);
    eventually(PATIENCE, async || here(&["workers", "pause", "default", "--reason", "it rains"]).await.code == 0).await;
    let text = eventually(PATIENCE, async || {
        let text = here(&["workers", "show", "w2"]).await.expect(0).stdout;
        text.contains("paused: it rains (").then_some(text)
    })
    .await;
    assert!(text.contains("ended     ") && text.contains("task      fail"), "{text}");
    let running = here(&["workers", "running"]).await.expect(0).stdout;
    assert_eq!(running, "nothing runs\n");
    let resumed = here(&["workers", "resume", "default"]).await.expect(0).stdout;
    assert_eq!(resumed.lines().filter(|line| line.ends_with("  ok")).count(), 2, "{resumed}");
    let paused = here(&["workers", "pause", "default", "--everywhere", "--reason", "snow"]).await.expect(0).stdout;
    assert!(paused.starts_with("paused everywhere, until it is resumed\n"), "{paused}");
    for way in [&["queues"][..], &["queues", "--context", "here"]] {
        let text = site.run(way).await.expect(0).stdout;
        assert!(text.contains("\ndefault is paused everywhere: snow ("), "{text}");
    }
    here(&["workers", "resume", "default", "--everywhere"]).await.expect(0);

    here(&["workers", "limit", "api", "--concurrency", "2"]).await.expect(0);
    let limits = here(&["workers", "limits"]).await.expect(0).stdout;
    assert!(limits.contains("to 2 by "), "{limits}");
    let unknown = here(&["workers", "limit", "nobody", "--rate", "1/s"]).await.expect(1).stderr;
    assert_eq!(unknown.lines().count(), 1, "{unknown}");

    // What one way cannot do is one line.
    for cannot in [
        &["workers", "ping"][..],
        &["workers", "log", "debug"],
        &["workers", "cancel", "x"],
        &["workers", "limit", "api", "--reset", "--worker", "w1"],
        &["queues", "reshard", "default", "--to", "2"],
    ] {
        let refused = here(cannot).await.expect(2).stderr;
        assert!(refused.contains("cannot be had from a centre") && refused.lines().count() == 1, "{refused}");
    }
    // The context is in use, and not named: so the broker is asked.
    site.run(&["workers", "ping"]).await.expect(0);
    let limits = site.run(&["workers", "limits"]).await.expect(0).stdout;
    assert_eq!(limits.lines().filter(|line| line.starts_with("api ")).count(), 2, "{limits}");
    let nobody = here(&["workers", "drain", "--worker", "w3"]).await.expect(1).stderr;
    assert!(nobody.contains("no worker named \"w3\" is there"), "{nobody}");
    here(&["workers", "stop"]).await.expect(2);

    let instance = of("w1").await["instance"].as_str().unwrap().to_owned();
    here(&["workers", "drain", "--instance", &instance]).await.expect(0);
    eventually(PATIENCE, async || of("w1").await["state"] == "draining").await;
    here(&["workers", "stop", "--all"]).await.expect(0);
    assert_eq!((first.ended().await, second.ended().await), (0, 0));
    centre.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_it_answers_at_once_and_publishes_later() {
    let vhost = Broker::shared().await.vhost().await;
    let proxy = FaultProxy::to(vhost.url()).await;
    proxy.refuse();
    let site = Site::at(proxy.url(), "[centre]\naddress = \"127.0.0.1:0\"\n");
    let begun = tokio::time::Instant::now();
    let centre = Centre::start(&site).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
    centre.remembered(&site).await;
    let ready = reqwest::get(format!("{}/ready", centre.url)).await.unwrap();
    let (status, text) = (ready.status().as_u16(), ready.text().await.unwrap());
    assert!(status == 503 && text.contains("broker"), "{status} {text}");

    let at = chrono::Utc::now() + chrono::Duration::seconds(1);
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    site.write("once.toml", &format!("[schedules.once]\nat = \"{at}\"\ntask = \"add\"\n"));
    site.run(&["schedules", "apply", "-f", "once.toml"]).await.expect(0);
    let tick =
        async || site.run(&["schedules", "history", "once", "--json"]).await.expect(0).json()["ticks"][0].clone();
    eventually(PATIENCE, async || tick().await.is_object()).await;
    assert_eq!(tick().await["published_at"], Value::Null);
    for unavailable in [&["queues"][..], &["workers", "pause", "default", "--everywhere"]] {
        let refused = site.run(&[unavailable, &["--context", "here"]].concat()).await.expect(75).stderr;
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }

    proxy.resume();
    eventually(PATIENCE, async || tick().await["published_at"].is_string()).await;
    eventually(PATIENCE, async || vhost.exists("default").await).await;
    let message = eventually(PATIENCE, async || vhost.take("default").await).await;
    assert_eq!(message.id().as_deref(), tick().await["task_id"].as_str());
    let url = format!("{}/ready", centre.url);
    eventually(PATIENCE, async || reqwest::get(&url).await.unwrap().status().is_success()).await;
    centre.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_it_is_asked_by_whoever_trusts_its_authority() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(
        vhost.url(),
        "[centre]\naddress = \"localhost:0\"\n[centre.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n",
    );
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    site.write("key.pem", &made.signing_key.serialize_pem());
    site.write("cert.pem", &made.cert.pem());
    let centre = Centre::start(&site).await;
    let url = centre.url.replace("127.0.0.1", "localhost").replace("[::1]", "localhost");
    assert!(url.starts_with("https://localhost:"), "{url}");
    site.write("token", centre.token.as_deref().unwrap());
    let add = ["context", "add", "here", "--api", &url, "--token-file", "token"];
    let distrusted = site.run(&add).await.expect(69).stderr;
    assert!(distrusted.contains("certificate") && distrusted.lines().count() == 1, "{distrusted}");
    site.run(&[&add[..], &["--ca", "nowhere.pem"]].concat()).await.expect(64);
    site.write("empty.pem", "");
    site.run(&[&add[..], &["--ca", "empty.pem"]].concat()).await.expect(64);
    site.run(&[&add[..], &["--ca", "cert.pem"]].concat()).await.expect(0);
    site.run(&["centre", "status"]).await.expect(0);
    // The file is found from elsewhere too.
    let contexts = site.read("leveret/contexts.toml");
    assert!(contexts.contains(&format!("ca = \"{}\"", site.path("cert.pem").display())), "{contexts}");
    let plain = url.replace("https:", "http:");
    let token = site.read("token");
    let refused = site.run(&["centre", "status", "--api", &plain, "--token", &token]).await;
    assert!(refused.code != 0 && refused.stderr.lines().count() == 1, "{}", refused.stderr);
    centre.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_watched_as_blocks_and_as_lines_of_json() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), CONFIG);
    let centre = Centre::start(&site).await;
    centre.remembered(&site).await;
    let lists = [
        &["schedules", "list"][..],
        &["schedules", "history", "often"],
        &["tasks", "list"],
        &["workers", "list", "--context", "here"],
        &["workers", "list"],
        &["queues", "list", "--context", "here"],
        &["queues", "list"],
        &["centre", "status"],
        &["centre", "operations"],
    ];
    for list in lists {
        let mut watching = site.watch(&[list, &["--watch", "100ms", "--json"]].concat());
        let seen = std::cell::Cell::new(0);
        watching.until(|_| seen.replace(seen.get() + 1) >= 2).await;
        let mut watching = site.start_printing(&[list, &["--watch", "100ms"]].concat());
        // As often as it looks there is a block, and an empty line after it.
        let blocks = |text: &str| text.split("\n\n").filter(|block| !block.trim().is_empty()).count();
        eventually(PATIENCE, async || blocks(&site.read("printed")) >= 2).await;
        assert!(!site.read("printed").contains('\x1b'), "{list:?}");
        watching.signal(Signal::SIGINT);
        assert_eq!(watching.ended().await, 0, "{list:?}");
    }
    centre.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_it_from_starting_is_one_line() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), "[centre]\ndatabase = \"sqlite:/nowhere/at/all.db\"\n");
    let ended = site.run(&["centre"]).await.expect(69);
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: no connection to the database sqlite:/nowhere/at/all.db"), "{}", ended.stderr);
    let site = Site::at(vhost.url(), "[centre]\n\nadress = \"127.0.0.1:0\"\n");
    let ended = site.run(&["centre"]).await.expect(64);
    assert!(
        ended.stderr.starts_with("error: leveret.toml:6: [centre] adress: there is no such key"),
        "{}",
        ended.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_centre_that_is_killed_loses_no_tick_and_doubles_none() {
    let vhost = Broker::shared().await.vhost().await;
    let site = Site::at(vhost.url(), &CONFIG.replace("every = \"200ms\"", "every = \"200ms\"\nmissed = \"all\""));
    let mut centre = Centre::start(&site).await;
    centre.remembered(&site).await;
    let token = centre.token.clone().unwrap();
    let _worker = site.start(&["worker"]);
    let history = async |url: &str| {
        let arguments = ["schedules", "history", "often", "--limit", "5000", "--json", "--api", url, "--token", &token];
        let ended = site.run(&arguments).await;
        let ticks = if ended.code == 0 { ended.json()["ticks"].as_array().cloned() } else { None };
        ticks.unwrap_or_default()
    };
    let moment = |tick: &Value| {
        let text = tick["scheduled_at"].as_str().unwrap();
        chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    };
    let done = |tick: &&Value| tick["state"] == "done";
    eventually(PATIENCE, async || history(&centre.url).await.iter().filter(done).count() >= 5).await;
    centre.running.signal(Signal::SIGKILL);
    centre.running.ended().await;

    // Its lease holds for some seconds yet: ticks are missed until then.
    let again = Centre::start(&site).await;
    let restarted = chrono::Utc::now().timestamp_millis();
    let ticks = eventually(PATIENCE, async || {
        let ticks = history(&again.url).await;
        let caught_up = ticks.iter().any(|tick| done(&tick) && moment(tick) > restarted + 3_000);
        (caught_up && ticks.iter().filter(|tick| moment(tick) <= restarted + 3_000).all(|tick| done(&tick)))
            .then_some(ticks)
    })
    .await;
    let mut moments: Vec<_> = ticks.iter().map(moment).collect();
    moments.sort_unstable();
    let gaps: Vec<_> = moments.windows(2).map(|two| two[1] - two[0]).filter(|gap| *gap != 200).collect();
    assert!(gaps.is_empty(), "{gaps:?} in {moments:?}");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_centres_share_the_work_and_one_goes_on_alone() {
    let vhost = Broker::shared().await.vhost().await;
    let database = Postgres::shared().await.database().await;
    let config = CONFIG.replace("[centre]", &format!("[centre]\ndatabase = \"{}\"", database.url()));
    let (site, other) = (Site::at(vhost.url(), &config), Site::at(vhost.url(), &config));
    let first = Centre::start(&site).await;
    let second = Centre::start(&other).await;
    assert_eq!(second.token, None, "the first has made the only one");
    let token = first.token.clone().unwrap();
    let ask = async |centre: &str, arguments: &[&str]| {
        site.run(&[arguments, &["--json", "--api", centre, "--token", &token]].concat()).await.expect(0).json()
    };
    let shards = async |centre: &str| {
        let centres = ask(centre, &["centre", "status"]).await["centres"].as_array().cloned().unwrap_or_default();
        centres.iter().map(|centre| centre["shards"].as_i64().unwrap_or(0)).collect::<Vec<_>>()
    };
    eventually(PATIENCE, async || shards(&first.url).await == [32, 32]).await;

    eventually(PATIENCE, async || vhost.exists("default.dead").await).await;
    for number in 0..40 {
        let named = lapin::BasicProperties::default().with_type("add".into());
        let named = named.with_message_id(format!("id-{number}").try_into().unwrap());
        vhost.publish("leveret.dead", "default", named, "{}").await;
    }
    let replay = ["dead", "replay", "--queue", "default", "--all", "--rate", "20/s"];
    let begun = ask(&first.url, &replay).await;
    let (second_url, id) = (second.url.clone(), begun["id"].as_str().unwrap().to_owned());
    first.stop().await;
    let operation = async || {
        let all = ask(&second_url, &["centre", "operations"]).await;
        all["operations"].as_array().unwrap().iter().find(|one| one["id"] == id.as_str()).cloned().unwrap()
    };
    let done = eventually(PATIENCE, async || Some(operation().await).filter(|one| one["state"] == "done")).await;
    assert_eq!(done["done"], 40);
    assert_ne!(done["centre"], begun["centre"]);
    eventually(PATIENCE, async || shards(&second_url).await == [64]).await;
    second.stop().await;
}

/// A stand-in for the agent of Consul: what it is told, as method, path, token and body.
async fn agent() -> (String, std::sync::Arc<parking_lot::Mutex<Vec<(String, String, Value)>>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let told = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let notes = told.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let notes = notes.clone();
            tokio::spawn(async move {
                let mut text = String::new();
                let mut buffer = [0; 4096];
                // One request a connection: it is told that this one closes.
                loop {
                    let read = stream.read(&mut buffer).await.unwrap();
                    text.push_str(&String::from_utf8_lossy(&buffer[..read]));
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let field = |name: &str| {
                        let line =
                            head.lines().find_map(|line| line.to_lowercase().strip_prefix(name).map(str::to_owned));
                        line.unwrap_or_default().trim().to_owned()
                    };
                    if body.len() < field("content-length:").parse().unwrap_or(0) {
                        continue;
                    }
                    let request = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
                    let body = serde_json::from_str(body).unwrap_or(Value::Null);
                    notes.lock().push((request, field("x-consul-token:"), body));
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    return;
                }
            });
        }
    });
    (url, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn consul_is_told_when_it_comes_how_it_is_and_when_it_goes() {
    let vhost = Broker::shared().await.vhost().await;
    let (agent, told) = agent().await;
    let consul =
        format!("[centre.consul]\nagent = \"{agent}\"\ntoken = \"s3cret\"\ntags = [\"test\"]\ninterval = \"1s\"\n");
    let site = Site::at(vhost.url(), &format!("{CONFIG}\n{consul}"));
    assert!(!site.run(&["config", "show"]).await.expect(0).stdout.contains("s3cret"));
    let centre = Centre::start(&site).await;
    let port: u16 = centre.url.rsplit_once(':').unwrap().1.parse().unwrap();
    eventually(PATIENCE, async || told.lock().iter().any(|(request, ..)| request.contains("/check/update/"))).await;
    let (request, token, body) = told.lock()[0].clone();
    assert_eq!((request.as_str(), token.as_str()), ("PUT /v1/agent/service/register", "s3cret"));
    assert_eq!((&body["Name"], &body["Port"], &body["Tags"]), (&json!("leveret"), &json!(port), &json!(["test"])));
    assert_eq!((&body["Address"], &body["Check"]["TTL"]), (&json!("127.0.0.1"), &json!("3s")));
    let id = body["ID"].as_str().unwrap();
    let well = told.lock().iter().any(|(request, _, body)| {
        *request == format!("PUT /v1/agent/check/update/service:{id}") && body["Status"] == "passing"
    });
    assert!(well, "{:?}", told.lock());
    centre.stop().await;
    assert_eq!(told.lock().last().unwrap().0, format!("PUT /v1/agent/service/deregister/{id}"));
}
