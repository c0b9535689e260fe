//! How fast events are taken in. Not a test of speed: `cargo test --test watch -- --ignored --nocapture rate`.

use leveret_common::clock::Clock;

use crate::stage::*;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures, and asserts nothing"]
async fn rate() {
    both(async |url| {
        let store = store(&url, Clock::system()).await;
        let shared = store.database().is_shared();
        for (round, tasks) in [(0, 256), (1, 256), (2, 256), (3, 256), (4, 25), (5, 25)] {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            for task in 0..tasks {
                first.push(started(&format!("{round} {task}"), task));
                second.push(done(&format!("{round} {task}"), task));
            }
            let began = tokio::time::Instant::now();
            store.apply(&first).await.unwrap();
            let one = began.elapsed();
            store.apply(&second).await.unwrap();
            println!("shared {shared}: {tasks} new in {one:?}, {tasks} changed in {:?}", began.elapsed() - one);
        }
    })
    .await;
}
