use leveret_macros::Task;

#[derive(Task)]
#[task(name = "email.send")]
struct Generic<T> {
    value: T,
}

#[derive(Task)]
#[task(name = "email.send")]
struct Sized<const N: usize>([u8; N]);

#[derive(Task)]
#[task(name = "email.send")]
struct Borrowed<'a>(&'a str);

#[derive(Task)]
#[task(name = "email.send")]
union Either {
    number: u32,
    bytes: [u8; 4],
}

fn main() {}
