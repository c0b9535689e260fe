use leveret_macros::Task;

/// The part of `leveret` that the derive names, so that this file needs nothing else.
mod stub {
    pub trait Task {
        const NAME: &'static str;
        const DEFAULTS: TaskDefaults;
        fn schema() -> Option<__private::Value>;
    }

    pub struct TaskDefaults;

    impl TaskDefaults {
        pub const fn new() -> Self {
            Self
        }
    }

    pub mod __private {
        pub struct Value;

        pub struct Probe<T>(core::marker::PhantomData<T>);

        impl<T> Probe<T> {
            pub const NEW: Self = Self(core::marker::PhantomData);
        }

        pub trait WithoutSchema {
            const HAS_SCHEMA: bool = false;

            fn schema(&self) -> Option<Value> {
                None
            }
        }

        impl<T> WithoutSchema for Probe<T> {}
    }
}

#[derive(Task)]
#[task(name = "bill.send", schema = true, crate = "crate::stub")]
struct SendBill;

fn main() {}
