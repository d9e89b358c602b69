//! Bytes from a stranger, read as fields that a proxy passes on, a line each behind the host.
//!
//! `cargo +nightly fuzz run passed_on` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| maniple_server::fuzzing::passed_on(bytes));
