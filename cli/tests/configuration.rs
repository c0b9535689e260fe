//! A wrong configuration is one line that names the place, the key, what is wrong and what to write; exit code 64.

mod common;

use common::Site;

/// A file and what the line about it has to start with and to hold.
const WRONG: &[(&str, &str, &str)] = &[
    ("[worker\n", "leveret.toml:1: this is no TOML", ""),
    ("\n[workr]\n", "leveret.toml:2: [workr]: there is no such key", "did you mean `worker`?"),
    (
        "[worker]\n\nconcurency = 3\n",
        "leveret.toml:3: [worker] concurency: there is no such key",
        "did you mean `concurrency`?",
    ),
    ("[worker]\nconcurrency = \"8\"\n", "leveret.toml:2: [worker] concurrency: \"8\" does not fit", "a whole number"),
    ("[worker]\nconcurrency = 0\n", "leveret.toml:2: [worker] concurrency: 0 tasks at once", "write 1 to 65535"),
    (
        "[worker]\nconcurrency = -1\n",
        "leveret.toml:2: [worker] concurrency: -1 does not fit",
        "a whole number from 0 on",
    ),
    ("[worker]\nprefetch = 0\n", "leveret.toml:2: [worker] prefetch: ", "write 1 to 65535"),
    (
        "[worker]\ngrace = \"soon\"\n",
        "leveret.toml:2: [worker] grace: \"soon\" is no length of time",
        "such as \"250ms\"",
    ),
    ("[worker]\nbackoff = \"1h..2s\"\n", "leveret.toml:2: [worker] backoff: ", "such as \"2s..1h\""),
    (
        "[worker.queues]\nmail = 2\nimages = 0\n",
        "leveret.toml:3: [worker.queues] images: 0 tasks at once",
        "write 1 to 65535",
    ),
    ("[worker.queues]\n\"mail.bulk\" = 2\n", "leveret.toml:2: ", "use 1 to 100 letters, digits, `-` and `_`"),
    (
        "[broker]\nurl = \"http://me:secret@x\"\n",
        "leveret.toml:2: [broker] url: ",
        "write amqp://user:password@host:5672/vhost",
    ),
    ("[broker]\nnamespace = \"a.b\"\n", "leveret.toml:2: [broker] namespace: ", "use 1 to 100 letters"),
    ("[broker]\nframe_max = 1\n", "leveret.toml:2: [broker] frame_max: ", "choose 8192 to 16777216"),
    ("[queues.mail]\nmax_length = 0\n", "leveret.toml:2: [queues.mail] max_length: ", "write 1 or more"),
    (
        "[queues.mail]\ntiers = [\"5s\", \"1s\"]\n",
        "leveret.toml:2: [queues.mail] tiers: ",
        "each longer than the one before",
    ),
    ("[tasks.\"a.b\"]\n", "leveret.toml:1: [tasks.\"a.b\"]: neither `command` nor `http`", "write command ="),
    ("[tasks.a]\ncommand = 3\n", "leveret.toml:2: [tasks.a] command: ", "\"program\", \"argument\""),
    (
        "[tasks.a]\ncommand = \"x\"\n\ntimeout = \"0s\"\n",
        "leveret.toml:4: [tasks.a] timeout: ",
        "write a length of time",
    ),
    ("[tasks.a]\ncommand = \"x\"\nqueue = \"a b\"\n", "leveret.toml:3: [tasks.a] queue: ", "use 1 to 100 letters"),
    ("[tasks.a]\nhttp = { url = \"ftp://x\" }\n", "leveret.toml:2: [tasks.a] http: ", "http"),
    ("[schedules.a]\nevery = \"1s\"\n", "leveret.toml:1: [schedules.a]: `task` is missing", "add it"),
    (
        "[schedules.a]\ntask = \"t\"\n",
        "leveret.toml:1: [schedules.a]: set one of `cron`, `quartz` and `every`",
        "only one",
    ),
    (
        "[schedules.a]\ntask = \"t\"\ncron = \"61 * * * *\"\n",
        "leveret.toml:3: [schedules.a] cron: 61 is out of range",
        "0 to 59",
    ),
    (
        "[schedules.\"a.b\"]\ntask = \"t\"\ncron = \"@daily\"\ntimezone = \"Mars\"\n",
        "leveret.toml:4: [schedules.\"a.b\"] timezone: ",
        "\"Europe/Berlin\"",
    ),
    (
        "[schedules.a]\ntask = \"t\"\ncron = \"@daily\"\noverlap = \"never\"\n",
        "leveret.toml:4: [schedules.a] overlap: `never` is not known",
        "`buffer-one`",
    ),
    (
        "[schedules.a]\ntask = \"t\"\ncron = \"@daily\"\njiter = \"1s\"\n",
        "leveret.toml:4: [schedules.a] jiter: there is no such key",
        "did you mean `jitter`?",
    ),
    ("[centre]\ndatabase = \"mysql://me:secret@x\"\n", "leveret.toml:2: [centre] database: ", "\"sqlite:leveret.db\""),
    ("[centre]\naddress = \"here\"\n", "leveret.toml:2: [centre] address: \"here\"", "such as \"127.0.0.1:9470\""),
    ("[centre.consul]\nagent = \"consul\"\n", "leveret.toml:2: [centre.consul] agent: ", "http://127.0.0.1:8500"),
    ("[telemetry]\nformat = \"xml\"\n", "leveret.toml:2: [telemetry] format: `xml` is not known", "`human` or `json`"),
    ("[telemetry]\nsample = 2.0\n", "leveret.toml:2: [telemetry] sample: 2: ", "from 0 (nothing) to 1 (everything)"),
    ("[http]\n", "leveret.toml:1: [http]: `address` is missing", "add it"),
];

#[tokio::test]
async fn a_wrong_file_is_one_line_with_place_key_and_fix() {
    let mut misses = String::new();
    for (config, start, fix) in WRONG {
        let site = Site::new(config);
        let ended = site.run(&["config", "check"]).await;
        let said = &ended.stderr;
        let right = ended.code == 64
            && said.starts_with(&format!("error: {start}"))
            && said.contains(fix)
            && said.lines().count() == 1
            && !said.contains("secret");
        if !right {
            misses += &format!("\n{config}wanted: {start} .. {fix}\nexit {}: {said}", ended.code);
        }
    }
    assert!(misses.is_empty(), "{misses}");
}

#[tokio::test]
async fn commands_that_use_it_say_the_same_as_the_check() {
    let site = Site::new("[tasks.a]\ncommand = \"x\"\ntimeout = \"0s\"\n[schedules.a]\ntask = \"t\"\n");
    let worker = site.run(&["worker"]).await.expect(64);
    assert!(worker.stderr.starts_with("error: leveret.toml:3: [tasks.a] timeout: "), "{}", worker.stderr);
    let producer = site.run(&["producer"]).await.expect(64);
    assert!(producer.stderr.starts_with("error: leveret.toml:4: [schedules.a]: "), "{}", producer.stderr);
    let json = site.run(&["worker", "--json"]).await.expect(64);
    let error: serde_json::Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!(error["exit"], 64);
}

#[tokio::test]
async fn without_tasks_or_schedules_it_says_how_to_add_one() {
    let site = Site::new("");
    let worker = site.run(&["worker"]).await.expect(64);
    assert!(worker.stderr.contains("[tasks.\"hello\"]"), "{}", worker.stderr);
    let producer = site.run(&["producer"]).await.expect(64);
    assert!(producer.stderr.contains("[schedules.hourly]"), "{}", producer.stderr);
}

#[tokio::test]
async fn what_is_right_is_summed_up() {
    let config = "[tasks.a]\ncommand = [\"cat\"]\nqueue = \"images\"\n[schedules.s]\ntask = \"a\"\ncron = \"@daily\"\n";
    let site = Site::new(config);
    let json = site.run(&["config", "check", "--json"]).await.expect(0).json();
    assert_eq!(json["file"], "leveret.toml");
    assert_eq!(json["queues"], serde_json::json!(["default", "images"]));
    assert_eq!(json["tasks"], serde_json::json!(["a"]));
    assert_eq!(json["schedules"], serde_json::json!(["s"]));
    let text = site.run(&["config", "check"]).await.expect(0).stdout;
    assert!(text.starts_with("leveret.toml is right\n"), "{text}");
}

#[tokio::test]
async fn what_is_shown_holds_the_defaults_and_no_secret() {
    let site = Site::at(
        "amqp://me:secret@broker/shop",
        "[worker]\nretries = 3\n[tasks.a]\ncommand = [\"cat\"]\nenvironment = { TOKEN = \"secret\" }\n[tasks.b]\n\
         http = { url = \"https://example.com/\", headers = { authorization = \"secret\" } }\n\
         [telemetry]\notlp = \"http://me:secret@collector:4318\"\n",
    );
    let ended = site.run(&["config", "show"]).await.expect(0);
    assert!(!ended.stdout.contains("secret"), "{}", ended.stdout);
    let shown = ended.json();
    assert_eq!(shown["broker"]["url"], "amqp://me@broker:5672/shop");
    assert_eq!(shown["worker"]["grace"], "30s");
    assert_eq!(shown["tasks"]["a"]["retries"], 3);
    assert_eq!(shown["tasks"]["b"]["http"]["method"], "POST");
}

#[tokio::test]
async fn another_file_and_another_broker_can_be_named() {
    let site = Site::new("[worker]\nnonsense = 1\n");
    site.write("other.toml", "[queues.mail]\n");
    let arguments = ["config", "check", "--json", "--config", "other.toml", "--url", "amqp://elsewhere/"];
    let json = site.run(&arguments).await.expect(0).json();
    assert_eq!(json["queues"], serde_json::json!(["mail"]));
    assert_eq!(json["broker"], serde_json::json!(["amqp://guest@elsewhere:5672/%2f"]));
    let missing = site.run(&["config", "check", "--config", "missing.toml"]).await.expect(64);
    assert!(missing.stderr.starts_with("error: missing.toml: cannot be read: "), "{}", missing.stderr);
    let url = site.run(&["config", "check", "--config", "other.toml", "--url", "http://me:secret@x"]).await.expect(64);
    assert!(url.stderr.contains("--url") && !url.stderr.contains("secret"), "{}", url.stderr);
}

/// `docs/leveret.toml` says that it has every key, and their defaults.
#[tokio::test]
async fn the_documented_file_has_every_key_with_its_default() {
    const DOCUMENTED: &str = include_str!("../../docs/leveret.toml");
    let shown = async |config: &str| Site::new(config).run(&["config", "show", "--json"]).await.expect(0).json();
    let (documented, defaults) = (shown(DOCUMENTED).await, shown("").await);
    for table in ["broker", "worker", "centre", "telemetry"] {
        let defaults = defaults[table].as_object().expect("a table");
        for (key, default) in defaults {
            assert!(DOCUMENTED.contains(key.as_str()), "[{table}] {key} is not documented");
            // Names are this machine's, and the example consumes from queues of its own.
            let example = matches!(key.as_str(), "name" | "url" | "queues" | "pools");
            assert!(example || documented[table][key] == *default, "[{table}] {key} is not {default} by default");
        }
    }
}
