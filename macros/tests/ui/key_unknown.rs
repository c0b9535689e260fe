use leveret_macros::Task;

#[derive(Task)]
#[task(name = "email.send", timeuot = "30s")]
struct Typing;

#[derive(Task)]
#[task(name = "email.send", retry = 8)]
struct Nearby;

#[derive(Task)]
#[task(name = "email.send", colour = "red")]
struct Faraway;

fn main() {}
