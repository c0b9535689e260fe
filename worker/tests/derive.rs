//! What `#[derive(Task)]` gives a type, seen with the real trait. What it says about mistakes: macros/tests/ui/

use std::time::Duration;

// As a program sees the facade crate: the derive and the trait under one name, found as `::leveret`.
extern crate self as leveret;
pub use leveret_common::task::{__private, Task, TaskDefaults};
use leveret_common::{message::Message, retry::Backoff, schemars::JsonSchema, task::Unique};
pub use leveret_macros::Task;

use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Serialize, Deserialize, Task)]
#[task(name = "email.send", queue = "email", timeout = "1m 30s", retries = 8, backoff = "1s..10m x3 equal")]
#[task(give_up_after = "2h", priority = 7, long = true)]
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

#[derive(Serialize, Deserialize)]
struct Customer {
    id: u64,
}

#[derive(Serialize, Deserialize, JsonSchema, Task)]
#[schemars(crate = "leveret_common::schemars")]
#[task(
    name = "bill.send",
    key = "{ customer.id }-{region}",
    unique(key = "{{{invoice}}}", window = "1h"),
    schema = true
)]
struct SendBill {
    #[schemars(with = "u64")]
    customer: Customer,
    region: String,
    invoice: String,
}

#[derive(Serialize, Deserialize, JsonSchema, Task)]
#[schemars(crate = "leveret_common::schemars")]
#[task(name = "tree.grow", key = "0", unique = "1h", schema = false)]
struct Grow(String, u32);

#[test]
fn every_key_is_taken_over() {
    assert_eq!(SendEmail::NAME, "email.send");
    let expected = TaskDefaults::new()
        .queue("email")
        .timeout(Duration::from_secs(90))
        .retries(8)
        .backoff("1s..10m x3 equal".parse().unwrap())
        .give_up_after(2 * HOUR)
        .priority(7)
        .long(true);
    assert_eq!(SendEmail::DEFAULTS, expected);
}

#[test]
fn what_is_not_said_is_left_to_the_worker() {
    assert_eq!(ClearCache::NAME, "cache.clear");
    assert_eq!(ClearCache::DEFAULTS, TaskDefaults::new());
    assert_eq!((ClearCache.key(), ClearCache.unique(), ClearCache::schema()), (None, None, None));
}

#[test]
fn tuples_and_enums_are_tasks_and_attributes_add_up() {
    assert_eq!(CountPages::NAME, "page.count");
    assert_eq!(CountPages::DEFAULTS, TaskDefaults::new().timeout(Duration::from_micros(1500)).retries(0));
    assert_eq!((Notify::NAME, Notify::DEFAULTS.queue), ("notify", "high-prio_1"));
}

#[test]
fn a_backoff_of_any_shape_is_what_its_text_says() {
    macro_rules! same {
        ($($text:literal)*) => {$({
            #[derive(Serialize, Deserialize, Task)]
            #[task(name = "t", backoff = $text)]
            struct Any;
            assert_eq!(Any::DEFAULTS.backoff, $text.parse::<Backoff>().ok(), "{}", $text);
        })*};
    }
    same!("2s..1h" "2s..1h none" "30s..30s" "linear 10s..5m" "linear 10s..5m full" "1s, 5s,30s" "1s,5s equal" "30s" "1h 30m full" "0s");
}

#[test]
fn keys_are_made_of_fields() {
    let bill =
        |invoice: &str| SendBill { customer: Customer { id: 7 }, region: "eu".to_owned(), invoice: invoice.to_owned() };
    assert_eq!(bill("17").key().as_deref(), Some("7-eu"));
    assert_eq!(bill("17").unique(), Some(Unique::new("{17}", HOUR)));
    assert_eq!(bill(&"1".repeat(300)).unique().map(|unique| unique.key.len()), Some(36));
    let grow = |height| Grow("oak".to_owned(), height);
    assert_eq!(grow(1).key().as_deref(), Some("oak"));
    assert_eq!(grow(1).unique(), Unique::of(&("oak", 1), HOUR));
    assert_ne!(grow(1).unique(), grow(2).unique());
}

#[test]
fn a_message_takes_what_the_task_says_unless_it_says_otherwise_itself() {
    let bill = SendBill { customer: Customer { id: 7 }, region: "eu".to_owned(), invoice: "17".to_owned() };
    let header = |message: Message, name: &str| message.headers().get_str(name).map(str::to_owned);
    let message = || Message::of(&bill).unwrap();
    assert_eq!(header(message(), "leveret-key").as_deref(), Some("7-eu"));
    assert_eq!(header(message(), "leveret-unique").as_deref(), Some("{17}"));
    assert_eq!(header(message().key("mine"), "leveret-key").as_deref(), Some("mine"));
    assert_eq!(header(message().unique("mine", HOUR), "leveret-unique").as_deref(), Some("mine"));
}

#[test]
fn a_schema_is_announced_where_there_is_one() {
    let schema = SendBill::schema().unwrap();
    assert_eq!(schema["properties"]["invoice"]["type"], "string");
    assert_eq!(schema["required"], serde_json::json!(["customer", "region", "invoice"]));
    assert_eq!((Grow::schema(), SendEmail::schema()), (None, None));
}
