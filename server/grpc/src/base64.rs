//! Bytes as text, as fields carry them: padded or not.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};

pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64_STANDARD_NO_PAD.encode(bytes)
}

pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let decoded = match text.last() {
        Some(b'=') => BASE64_STANDARD.decode(text),
        _ => BASE64_STANDARD_NO_PAD.decode(text),
    };
    decoded.ok()
}
