//! Bytes from a stranger, read as requests: nothing panics, and how they are cut makes no difference.
//!
//! `cargo +nightly fuzz run request` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| maniple_server::fuzzing::request(bytes));
