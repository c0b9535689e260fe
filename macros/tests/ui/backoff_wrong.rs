use leveret_macros::Task;

#[derive(Task)]
#[task(name = "email.send", backoff = "soon")]
struct NoDelays;

#[derive(Task)]
#[task(name = "email.send", backoff = "1h..2s")]
struct WrongWayRound;

#[derive(Task)]
#[task(name = "email.send", backoff = "linear 10s")]
struct NoRange;

#[derive(Task)]
#[task(name = "email.send", backoff = "1s,500us")]
struct TooFine;

#[derive(Task)]
#[task(name = "email.send", backoff = "30s x3")]
struct NothingToMultiply;

#[derive(Task)]
#[task(name = "email.send", backoff = "2s..1h jitter")]
struct NoSuchWord;

#[derive(Task)]
#[task(name = "email.send", backoff = "2s..1h full none")]
struct Twice;

#[derive(Task)]
#[task(name = "email.send", backoff = 30)]
struct NoText;

fn main() {}
