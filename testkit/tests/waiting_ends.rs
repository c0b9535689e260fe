//! `eventually` waits for a yes and tells what it saw when none comes.

use std::{cell::Cell, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use leveret_testkit::{eventually, eventually_eq};

#[tokio::test]
async fn a_late_yes_is_a_yes() {
    let asked = Cell::new(0);
    let value = eventually(Duration::from_secs(5), async || {
        asked.set(asked.get() + 1);
        (asked.get() == 3).then_some("here")
    })
    .await;
    assert_eq!((value, asked.get()), ("here", 3));
}

#[tokio::test]
async fn the_panic_names_caller_and_last_value() {
    let waited = eventually_eq(Duration::from_millis(50), 3, async || 2);
    let panic = AssertUnwindSafe(waited).catch_unwind().await.unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("waiting_ends.rs") && text.contains("it is 2, not 3"), "{text}");
}

#[tokio::test]
async fn a_check_that_hangs_is_ended() {
    let waited = eventually(Duration::from_millis(50), async || std::future::pending::<bool>().await);
    let panic = AssertUnwindSafe(waited).catch_unwind().await.unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("not within 50ms"));
}
