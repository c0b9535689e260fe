//! What `#[derive(Task)]` says about a mistake: each file of `ui/` with the message it gets.

#[test]
fn mistakes_are_told_with_the_way_out() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
