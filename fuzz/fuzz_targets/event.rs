//! Any text in a server-sent event: its client gets that event, and nothing else.
//!
//! `cargo +nightly fuzz run event` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| maniple_server::fuzzing::event(bytes));
