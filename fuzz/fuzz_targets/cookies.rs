//! Bytes from a stranger, read as cookies; a line is a field.
//!
//! `cargo +nightly fuzz run cookies` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| maniple_server::fuzzing::cookies(bytes));
