//! Bytes from a stranger, read as a header of the PROXY protocol: nothing behind it is asked for.
//!
//! `cargo +nightly fuzz run proxy` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| maniple_server::fuzzing::proxy(bytes));
