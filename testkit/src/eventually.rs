//! Waiting for a condition, with a deadline.

use std::{
    fmt::{Debug, Display},
    panic::Location,
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What a check may answer: `bool`, `Option` or `Result`. `false`, `None` and `Err` mean "not yet".
pub trait Answer {
    /// What a yes brings along.
    type Value;

    /// The value, or why it is not there yet.
    ///
    /// # Errors
    /// The reason as a text for the panic message.
    fn answer(self) -> Result<Self::Value, String>;
}

impl Answer for bool {
    type Value = ();

    fn answer(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("the condition does not hold".to_owned()) }
    }
}

impl<T> Answer for Option<T> {
    type Value = T;

    fn answer(self) -> Result<T, String> {
        self.ok_or_else(|| "there is nothing yet".to_owned())
    }
}

impl<T, E: Display> Answer for Result<T, E> {
    type Value = T;

    fn answer(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Asks `check` again and again until it says yes, and returns what came with the yes.
///
/// The pauses between two checks grow from 10 to 200 ms.
///
/// # Panics
/// At the deadline, with the caller's line and the last "not yet"; also when a single check takes until then.
///
/// ```ignore
/// eventually(Duration::from_secs(10), async || vhost.ready("images").await == 0).await;
/// ```
#[track_caller]
pub fn eventually<A: Answer>(deadline: Duration, check: impl AsyncFnMut() -> A) -> impl Future<Output = A::Value> {
    poll(deadline, check, Location::caller())
}

/// Reads a value again and again until it equals `expected`.
///
/// # Panics
/// At the deadline, with the caller's line and the value that was read last.
#[track_caller]
pub fn eventually_eq<T: PartialEq + Debug>(
    deadline: Duration,
    expected: T,
    mut read: impl AsyncFnMut() -> T,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    let check = async move || {
        let value = read().await;
        if value == expected { Ok(()) } else { Err(format!("it is {value:?}, not {expected:?}")) }
    };
    poll(deadline, check, caller)
}

async fn poll<A: Answer>(
    deadline: Duration,
    mut check: impl AsyncFnMut() -> A,
    caller: &'static Location<'static>,
) -> A::Value {
    let end = Instant::now() + deadline;
    let mut pause = FIRST_PAUSE;
    let mut last = "the first check was never done".to_owned();
    loop {
        let hung = match timeout_at(end, check()).await.map(Answer::answer) {
            Ok(Ok(value)) => return value,
            Ok(Err(reason)) => {
                last = reason;
                false
            }
            Err(_) => true,
        };
        // A check that never waits is never cut short, so the clock is asked as well; the last check is at the deadline.
        assert!(!hung && Instant::now() < end, "{caller}: not within {deadline:?}: {last}");
        sleep_until(end.min(Instant::now() + pause)).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}
