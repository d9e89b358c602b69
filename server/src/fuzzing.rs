//! The parser's face for the fuzz target; compiled under `cfg(fuzzing)` and in tests.

use crate::http1::{
    chunk::{Decoder, Step},
    head::{self, Framing, Head, Limits},
};

const LIMITS: Limits = Limits {
    head_bytes: 8 * 1024,
    line_bytes: 2 * 1024,
    fields: 100,
};

/// Reads `bytes` as a request with its body.
///
/// # Panics
/// If a part lies outside of the bytes, or a chunked body depends on how it is cut.
pub fn request(bytes: &[u8]) {
    let (mut head, mut fields) = (Head::default(), Vec::new());
    let Ok(true) = head::parse(bytes, &LIMITS, &mut fields, &mut head) else {
        return;
    };
    assert!(head.length <= bytes.len());
    let parts = fields.iter().flat_map(|field| [&field.name, &field.value]);
    for part in parts.chain([&head.target, &head.path]).chain(&head.query) {
        assert!(part.start <= part.end && part.end <= head.length);
    }
    assert!(bytes[..head.length].ends_with(b"\r\n\r\n"));
    if head.framing == Framing::Chunked {
        let body = &bytes[head.length..];
        assert_eq!(decode(body, body.len().max(1)), decode(body, 1));
    }
}

/// The decoded body and where it ends, or `None` if it is malformed.
fn decode(body: &[u8], piece: usize) -> Option<(Vec<u8>, Option<usize>)> {
    let (mut decoder, mut data, mut at) = (Decoder::new(), Vec::new(), 0);
    while at < body.len() {
        let input = &body[at..body.len().min(at + piece)];
        match decoder.step(input).ok()? {
            Step::Framing(used) => at += used,
            Step::Done(used) => return Some((data, Some(at + used))),
            Step::Data(left) => {
                let count = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                data.extend_from_slice(&input[..count]);
                decoder.took(count as u64);
                at += count;
            }
        }
    }
    Some((data, None))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    const SEED: &[u8] = b"POST /a?b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n";

    proptest! {
        #[test]
        fn garbage_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            super::request(&bytes);
        }

        #[test]
        fn a_request_with_a_few_bytes_changed_does_no_harm(
            changes in proptest::collection::vec((0..SEED.len(), any::<u8>()), 0..4)
        ) {
            let mut bytes = SEED.to_vec();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            super::request(&bytes);
        }
    }
}
