//! Bytes from a stranger, read as the target of requests by several methods.
//!
//! `cargo +nightly fuzz run target` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| maniple_server::fuzzing::target(bytes));
