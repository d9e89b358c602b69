//! Bytes from a stranger, read as the head of a response: how they are cut makes no difference. The first byte says how, and
//! whether it answers `HEAD`.
//!
//! `cargo +nightly fuzz run response` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((&first, bytes)) = bytes.split_first() {
        maniple_server::fuzzing::response(bytes, usize::from(first >> 1) + 1, first & 1 == 0);
    }
});
