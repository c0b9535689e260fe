use leveret_macros::Task;

#[derive(Task)]
#[task(name = "email.send", give_up_after = "tomorrow")]
struct NoLength;

#[derive(Task)]
#[task(name = "email.send", give_up_after = "0s")]
struct Zero;

fn main() {}
