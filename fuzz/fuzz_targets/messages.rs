//! Bytes from a stranger, read as messages of gRPC: nothing panics, no limit is passed, and how they are cut makes no difference. The
//! first byte says how, and whether they may be compressed.
//!
//! `cargo +nightly fuzz run messages` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((&first, bytes)) = bytes.split_first() {
        maniple_grpc::fuzzing::messages(bytes, usize::from(first >> 1) + 1, first & 1 == 0);
    }
});
