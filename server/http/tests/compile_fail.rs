//! What must not compile: each file in `ui/` is a mistake that the types are there to stop.

#[test]
fn mistakes_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
