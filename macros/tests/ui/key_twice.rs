use leveret_macros::Task;

#[derive(Task)]
#[task(name = "email.send", queue = "email", queue = "mail")]
struct InOne;

#[derive(Task)]
#[task(name = "email.send")]
#[task(name = "mail.send")]
struct InTwo;

fn main() {}
