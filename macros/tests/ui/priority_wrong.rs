use leveret_macros::Task;

#[derive(Task)]
#[task(name = "email.send", priority = 10)]
struct TooHigh;

#[derive(Task)]
#[task(name = "email.send", priority = "high")]
struct NoNumber;

fn main() {}
