//! Bytes from a stranger, read as a form of parts: nothing panics, and how they are cut, which the first
//! byte says, makes no difference.
//!
//! `cargo +nightly fuzz run multipart` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((&piece, bytes)) = bytes.split_first() {
        maniple_server::fuzzing::multipart(bytes, usize::from(piece) + 1);
    }
});
