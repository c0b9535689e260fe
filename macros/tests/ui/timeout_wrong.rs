use leveret_macros::Task;

#[derive(Task)]
#[task(name = "email.send", timeout = "30")]
struct NoUnit;

#[derive(Task)]
#[task(name = "email.send", timeout = "soon")]
struct NoNumber;

#[derive(Task)]
#[task(name = "email.send", timeout = 30)]
struct NoText;

#[derive(Task)]
#[task(name = "email.send", timeout = "0s")]
struct Zero;

fn main() {}
