use leveret_macros::Task;

#[derive(Task)]
struct NoAttribute;

#[derive(Task)]
#[task(queue = "email")]
struct OnlyQueue;

fn main() {}
