use leveret_macros::Task;

#[derive(Task)]
#[task = "email.send"]
struct NoParentheses;

#[derive(Task)]
#[task("email.send")]
struct NoKey;

#[derive(Task)]
#[task(name)]
struct NoValue;

#[derive(Task)]
#[task(name = "email.send" queue = "email")]
struct NoComma;

#[derive(Task)]
#[task(name = "email.send", crate = "no path")]
struct NoPath;

fn main() {}
