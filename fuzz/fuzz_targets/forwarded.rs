//! Bytes from a stranger, read as what header fields say of a client; a line is a field.
//!
//! `cargo +nightly fuzz run forwarded` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| maniple_server::fuzzing::forwarded(bytes));
