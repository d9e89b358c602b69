//! Bytes from a stranger, read as requests: what is taken for one keeps the rules, however it is cut.
//!
//! `cargo +nightly fuzz run request -- -dict=fuzz/http.dict` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| maniple_server::fuzzing::request(bytes));
