use leveret_macros::Task;

#[derive(Task)]
#[task(name = "email.send", retries = -1)]
struct Negative;

#[derive(Task)]
#[task(name = "email.send", retries = "8")]
struct Quoted;

#[derive(Task)]
#[task(name = "email.send", retries = 4294967296)]
struct TooMany;

fn main() {}
