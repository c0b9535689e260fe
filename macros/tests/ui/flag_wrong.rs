use leveret_macros::Task;

#[derive(Task)]
#[task(name = "video.encode", long = "yes")]
struct NoFlag;

#[derive(Task)]
#[task(name = "video.encode", long)]
struct NoValue;

fn main() {}
