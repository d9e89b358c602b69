//! Bytes from a stranger, read as frames of the RPC: nothing panics, no limit is passed, and how they are cut makes no
//! difference. The first byte says how.
//!
//! `cargo +nightly fuzz run rpc` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((&first, bytes)) = bytes.split_first() {
        maniple_rpc::fuzzing::frames(bytes, usize::from(first) + 1);
    }
});
