//! What `#[derive(Task)]` gives a type, seen with the real trait. What it says about mistakes: macros/tests/ui/

use std::time::Duration;

// As a program sees the facade crate: the derive and the trait under one name, found as `::leveret`.
extern crate self as leveret;
pub use leveret_common::task::{Task, TaskDefaults};
pub use leveret_macros::Task;

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(name = "email.send", queue = "email", timeout = "1m 30s", retries = 8)]
struct SendEmail {
    _to: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(name = "cache.clear", crate = "::leveret_common::task")]
struct ClearCache;

#[derive(Serialize, Deserialize, Task)]
#[task(name = "page.count", timeout = "1500us")]
#[task(retries = 0)]
struct CountPages(Vec<u8>, u32);

#[derive(Serialize, Deserialize, Task)]
#[task(name = "notify", queue = "high-prio_1")]
enum Notify {
    _Mail { to: String },
    _Text(String),
}

#[test]
fn every_key_is_taken_over() {
    assert_eq!(SendEmail::NAME, "email.send");
    let expected = TaskDefaults::new().queue("email").timeout(Duration::from_secs(90)).retries(8);
    assert_eq!(SendEmail::DEFAULTS, expected);
}

#[test]
fn what_is_not_said_is_left_to_the_worker() {
    assert_eq!(ClearCache::NAME, "cache.clear");
    assert_eq!(ClearCache::DEFAULTS, TaskDefaults::new());
}

#[test]
fn tuples_and_enums_are_tasks_and_attributes_add_up() {
    assert_eq!(CountPages::NAME, "page.count");
    assert_eq!(CountPages::DEFAULTS, TaskDefaults::new().timeout(Duration::from_micros(1500)).retries(0));
    assert_eq!((Notify::NAME, Notify::DEFAULTS.queue), ("notify", "high-prio_1"));
}
