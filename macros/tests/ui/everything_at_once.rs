use leveret_macros::Task;

#[derive(Task)]
#[task(name = "", queue = "a.b", timeout = "soon", retries = -1, colour = "red")]
struct Wrong<T>(T);

fn main() {}
