//! The PostgreSQL and the Redis that the tests share.

use std::{
    path::PathBuf,
    process::{Command as Blocking, Stdio},
    time::Duration,
};

use tokio::{net::TcpStream, process::Command, sync::OnceCell};

use crate::{Broker, script};

/// Long enough to install both on a fresh machine.
const START_DEADLINE: Duration = Duration::from_secs(600);
/// Long enough to make a database on a busy one.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where a service is: as `scripts/services` finds or starts it, once in a process.
async fn recorded(name: &'static str) -> String {
    static STARTED: OnceCell<PathBuf> = OnceCell::const_new();
    let state = STARTED
        .get_or_init(async || {
            let state = script::project().join(".leveret/services/env");
            if !answers(&state).await {
                let mut up = Command::new(script::project().join("scripts/services"));
                up.args(["up", "--quiet"]);
                script::run(up, "", START_DEADLINE).await;
            }
            state
        })
        .await;
    Broker::recorded_value(state, name)
        .unwrap_or_else(|| panic!("scripts/services has not written {name} into {}", state.display()))
}

/// Whether what an earlier start has written still holds, without asking a script.
async fn answers(state: &std::path::Path) -> bool {
    for name in ["POSTGRES_URL", "REDIS_URL"] {
        #[expect(clippy::disallowed_methods, reason = "tests have no binary in front of them that could read it")]
        let named = std::env::var(name).ok();
        let Some(url) = Broker::recorded_value(state, name) else { return false };
        if named.is_some_and(|named| named != url) {
            return false;
        }
        let Ok(url) = url::Url::parse(&url) else { return false };
        let port = url.port().unwrap_or(if name == "REDIS_URL" { 6379 } else { 5432 });
        if TcpStream::connect((url.host_str().unwrap_or("localhost"), port)).await.is_err() {
            return false;
        }
    }
    true
}

/// A PostgreSQL. A cheap clone refers to the same one.
#[derive(Debug, Clone)]
pub struct Postgres {
    url: String,
}

impl Postgres {
    /// The PostgreSQL that all tests share: the one at `POSTGRES_URL`, or the one that `scripts/services` starts.
    ///
    /// # Panics
    /// If there is none and none can be started, with what the script says about it.
    pub async fn shared() -> Self {
        Self { url: recorded("POSTGRES_URL").await }
    }

    /// A fresh database for one test, deleted when the value is dropped.
    ///
    /// # Panics
    /// If the server refuses it.
    pub async fn database(&self) -> Database {
        let name = format!("leveret_test_{}", uuid::Uuid::now_v7().simple());
        let mut psql = Command::new("psql");
        psql.args(["-XqAt", "--command", &format!("create database {name}"), &self.url]);
        script::run(psql, "", DEADLINE).await;
        let mut url = url::Url::parse(&self.url).unwrap_or_else(|error| panic!("'{}' is no URL: {error}", self.url));
        url.set_path(&name);
        Database { url: url.into(), name, server: self.url.clone() }
    }
}

/// A database that one test has to itself. Dropping it deletes it, and ends the connections to it.
#[derive(Debug)]
pub struct Database {
    url: String,
    name: String,
    server: String,
}

impl Database {
    /// `postgres://user@host:port/database`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Waited for, because with the test's process it would end unfinished. A server that is gone needs no cleaning.
        let statement = format!("drop database if exists {} with (force)", self.name);
        let mut psql = Blocking::new("psql");
        psql.args(["-XqAt", "--command", &statement, &self.server]).stdout(Stdio::null()).stderr(Stdio::null());
        drop(psql.status());
    }
}

/// A Redis. A cheap clone refers to the same one.
#[derive(Debug, Clone)]
pub struct Redis {
    url: String,
}

impl Redis {
    /// The Redis that all tests share: the one at `REDIS_URL`, or the one that `scripts/services` starts.
    ///
    /// # Panics
    /// If there is none and none can be started, with what the script says about it.
    pub async fn shared() -> Self {
        Self { url: recorded("REDIS_URL").await }
    }

    /// `redis://host:port/`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A prefix of keys for one test. What is written under it stays until it expires.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("leveret-test-{}:", uuid::Uuid::now_v7().simple())
    }
}
