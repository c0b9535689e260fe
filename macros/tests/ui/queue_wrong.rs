use leveret_macros::Task;

#[derive(Task)]
#[task(name = "email.send", queue = "email.bulk")]
struct Dot;

#[derive(Task)]
#[task(name = "email.send", queue = "e mail")]
struct Space;

#[derive(Task)]
#[task(name = "email.send", queue = "")]
struct Empty;

#[derive(Task)]
#[task(name = "email.send", queue = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq")]
struct Long;

fn main() {}
