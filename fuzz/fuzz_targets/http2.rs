//! Bytes from a stranger, read as frames of HTTP/2 and as the fields of a head: how they are cut makes no difference, and a head
//! says the same behind its way through HTTP/1.1. The first byte says how they are cut.
//!
//! `cargo +nightly fuzz run http2` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((&piece, bytes)) = bytes.split_first() {
        maniple_server::fuzzing::http2(bytes, usize::from(piece) + 1);
    }
});
