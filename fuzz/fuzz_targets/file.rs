//! Bytes from a stranger, read as what is asked of a file: a path, ranges and conditions, a line each, behind the file's length.
//!
//! `cargo +nightly fuzz run file` (needs cargo-fuzz)
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&length, bytes)) = bytes.split_first() else {
        return;
    };
    maniple_server::fuzzing::file(bytes, u64::from(length));
});
