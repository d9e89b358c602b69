//! Bytes of any file, read as a recording of RPC: nothing panics, and how they are read makes no difference. The first byte says
//! how.
//!
//! `cargo +nightly fuzz run recording` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((&first, bytes)) = bytes.split_first() {
        maniple_rpc::fuzzing::recording(bytes, usize::from(first) + 1);
    }
});
