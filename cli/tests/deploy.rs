//! What stands in `deploy/` and `docker-compose.yml`, against the binary.

#![allow(clippy::unwrap_used, reason = "this is how a test fails")]

mod common;

use common::Site;

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Each command, as its arguments.
fn commands() -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    for unit in ["deploy/leveret-centre.service", "deploy/leveret-worker.service"] {
        let unit = file(unit);
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/leveret "));
        commands.push(line.unwrap().split(' ').map(str::to_owned).collect());
    }
    for line in file("docker-compose.yml").lines().chain(file("deploy/Dockerfile").lines()) {
        let line = line.trim();
        if let Some(list) = line.strip_prefix("command: ").or_else(|| line.strip_prefix("CMD ")) {
            commands.push(serde_json::from_str(list).unwrap());
        }
    }
    commands
}

#[tokio::test]
async fn commands_of_units_and_containers_are_understood() {
    let commands = commands();
    assert_eq!(commands.len(), 6, "{commands:?}");
    let site = Site::new("");
    for command in commands {
        let arguments: Vec<_> = command.iter().map(String::as_str).chain(["--help"]).collect();
        // What it does not know, it says in place of help.
        let help = site.run(&arguments).await.expect(0).stdout;
        assert!(help.contains(&format!("Usage: leveret {}", command[0])), "{help}");
    }
    site.run(&["centre", "--adress", "127.0.0.1:0", "--help"]).await.expect(2);
    site.write("leveret.toml", &file("deploy/leveret.toml"));
    site.run(&["config", "check"]).await.expect(0);
}

#[tokio::test]
async fn variables_of_containers_are_read_or_told() {
    let compose = file("docker-compose.yml");
    let (told, services) = compose.split_once("\nname: leveret\n").unwrap();
    let site = Site::new("");
    let mut help = String::new();
    for command in [&["centre", "--help"][..], &["worker", "--help"]] {
        help.push_str(&site.run(command).await.expect(0).stdout);
    }
    let mut read = 0;
    for line in services.lines() {
        // Those that the containers take from whoever starts them.
        for part in line.split("${").skip(1) {
            let name = part.split([':', '}']).next().unwrap();
            assert!(told.contains(name), "{name} is not told at the head of docker-compose.yml");
        }
        let name = line.trim().split(':').next().unwrap();
        if name.starts_with("LEVERET_") || name == "AMQP_URL" {
            read += 1;
            assert!(help.contains(&format!("env: {name}")), "{name} is no variable of leveret");
        }
    }
    assert_eq!(read, 3);
    let unit = file("deploy/leveret-centre.service");
    for name in ["LEVERET_ADMIN_TOKEN", "LEVERET_DATABASE"] {
        assert!(unit.contains(name) && help.contains(&format!("env: {name}")), "{name}");
    }
}
