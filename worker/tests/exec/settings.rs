//! What `[tasks."name"]` may say, and what it is told when it says something else.

use std::time::Duration;

use leveret_worker::exec::{CommandLine, ExecSettings, Executor};

fn read(text: &str) -> Result<ExecSettings, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

/// The message for settings that can be read but not used.
fn refused(text: &str) -> String {
    Executor::new(&read(text).unwrap()).unwrap_err().to_string()
}

#[test]
fn the_smallest_table_is_one_line() {
    let settings = read("command = ['convert', '-', '-']").unwrap();
    assert_eq!(settings, ExecSettings::command(["convert", "-", "-"]));
    assert_eq!((settings.queue.as_str(), settings.output_limit), ("default", 65_536));
    assert_eq!((settings.timeout, settings.retries), (None, None));
    assert_eq!(read("command = 'ls | wc -l'").unwrap(), ExecSettings::shell("ls | wc -l"));
    assert_eq!(read("http = { url = 'http://host/' }").unwrap(), ExecSettings::http("http://host/"));
}

#[test]
fn every_option_is_read() {
    let settings = read(
        r#"
        command = "thumbnail"
        queue = "images"
        timeout = "1m 30s"
        retries = 8
        directory = "/srv"
        environment = { SIZE = "128" }
        inherit_environment = false
        output_limit = "1MiB"
        permanent_exit_codes = [2]
        grace = "500ms"
        "#,
    )
    .unwrap();
    assert_eq!(settings.command, Some(CommandLine::Shell("thumbnail".to_owned())));
    assert_eq!(settings.timeout, Some(Duration::from_secs(90)));
    assert_eq!(settings.grace, Some(Duration::from_millis(500)));
    assert_eq!((settings.retries, settings.output_limit), (Some(8), 1 << 20));
    assert_eq!(Executor::new(&settings).unwrap().overtime(), Duration::from_millis(5500));

    let http = read(
        r#"
        [http]
        url = "http://host/hook"
        method = "PUT"
        headers = { authorization = "Bearer secret" }
        success = ["200-299", 304]
        retry = [503]
        "#,
    )
    .unwrap();
    assert_eq!(Executor::new(&http).unwrap().overtime(), Duration::ZERO);
}

#[test]
fn what_cannot_be_read_says_how_to_write_it() {
    for (text, told) in [
        ("comand = 'ls'", "unknown field `comand`"),
        ("http = { url = 'http://h/', metod = 'GET' }", "unknown field `metod`"),
        ("command = 'ls'\ntimeout = 30", "timeout"),
        ("command = 'ls'\ntimeout = 'soon'", "\"30s\""),
        ("command = 'ls'\noutput_limit = 'much'", "\"64KiB\""),
        ("command = 'ls'\nretries = -1", "-1"),
        ("command = 7", "[\"program\", \"argument\"]"),
        ("http = { url = 'http://h/', success = ['2xx'] }", "\"200-299\""),
    ] {
        let message = read(text).unwrap_err();
        assert!(message.contains(told), "{text}: {message}");
    }
}

#[test]
fn what_cannot_be_used_says_the_way_out() {
    for (text, told) in [
        ("queue = 'images'", "write command = [\"program\", \"argument\"] or http"),
        ("command = 'ls'\nhttp = { url = 'http://h/' }", "keep one"),
        ("command = []", "names no program"),
        ("command = ' '", "names no program"),
        ("command = ['']", "names no program"),
        ("command = 'ls'\ntimeout = '0s'", "`timeout` is zero"),
        ("command = 'ls'\npermanent_exit_codes = [0]", "use 1 to 255"),
        ("command = 'ls'\nenvironment = { LEVERET_TASK = 'x' }", "choose another name"),
        ("command = 'ls'\nenvironment = { 'A=B' = 'x' }", "has no `=` in it"),
        ("http = { url = 'http://h/' }\ngrace = '1s'", "`grace` is for commands"),
        ("http = { url = 'http://h/' }\nenvironment = { A = 'b' }", "`environment` is for commands"),
        ("http = { url = 'host/path' }", "\"https://host/path\""),
        ("http = { url = 'ftp://host/' }", "neither http nor https"),
        ("http = { url = 'http://me:secret@host/' }", "put them in `headers`"),
        ("http = { url = 'http://h/', method = 'post' }", "in capitals"),
        ("http = { url = 'http://h/', headers = { Idempotency-Key = 'x' } }", "choose another name"),
        ("http = { url = 'http://h/', headers = { leveret-task = 'x' } }", "choose another name"),
        ("http = { url = 'http://h/', headers = { 'a b' = 'x' } }", "cannot be sent"),
    ] {
        let message = refused(text);
        assert!(message.contains(told), "{text}: {message}");
    }
}

#[test]
fn debug_output_keeps_secrets() {
    let http = read("http = { url = 'http://h/', headers = { authorization = 'swordfish' } }").unwrap();
    let command = read("command = 'ls'\nenvironment = { TOKEN = 'swordfish' }").unwrap();
    for settings in [http, command] {
        let shown = format!("{settings:?} {:?}", Executor::new(&settings).unwrap());
        assert!(!shown.contains("swordfish"), "{shown}");
    }
}
