use leveret_macros::Task;

#[derive(Task)]
#[task(name = "bill.send", unique = true)]
struct NoWindow;

#[derive(Task)]
#[task(name = "bill.send", unique = "0s")]
struct Zero;

#[derive(Task)]
#[task(name = "bill.send", unique(key = "invoice"))]
struct NoWindowInParentheses {
    invoice: u64,
}

#[derive(Task)]
#[task(name = "bill.send", unique(key = "{invioce}", window = "1h"))]
struct Typing {
    invoice: u64,
}

#[derive(Task)]
#[task(name = "bill.send", unique(windows = "1h"))]
struct UnknownKey;

#[derive(Task)]
#[task(name = "bill.send", unique(window = "1h", window = "2h"))]
struct Twice;

fn main() {}
