use leveret_macros::Task;

#[derive(Task)]
#[task(name = "bill.send", key = "custmer")]
struct Typing {
    customer: String,
    region: String,
}

#[derive(Task)]
#[task(name = "bill.send", key = "{customer}-{land}")]
struct NoSuchField {
    customer: String,
    region: String,
}

#[derive(Task)]
#[task(name = "bill.send", key = "{2}")]
struct NoSuchPosition(u64, u64);

#[derive(Task)]
#[task(name = "bill.send", key = "customer")]
struct NoFields;

#[derive(Task)]
#[task(name = "bill.send", key = "{customer")]
struct NotClosed {
    customer: String,
}

#[derive(Task)]
#[task(name = "bill.send", key = "{{all}}")]
struct AlwaysTheSame {
    customer: String,
}

#[derive(Task)]
#[task(name = "bill.send", key = "customer")]
enum Variants {
    One { customer: String },
}

#[derive(Task)]
#[task(name = "bill.send", key = customer)]
struct NoText {
    customer: String,
}

fn main() {}
