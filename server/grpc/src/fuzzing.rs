//! What must hold for any bytes that come as messages.

use std::io::{self, Read};

use crate::{
    message::{self, Coding},
    status::Code,
};

const LIMIT: usize = 10_000;

/// Reads `bytes` as a body of messages, compressed or not, whole and in pieces.
///
/// # Panics
/// If what is read depends on the pieces, a message is larger than the limit, or there is an error that is nobody's.
pub fn messages(bytes: &[u8], piece: usize, is_gzip: bool) {
    let coding = Coding::gzip_if(is_gzip);
    let whole = read(bytes, usize::MAX, coding);
    assert_eq!(whole, read(bytes, piece, coding), "in pieces of {piece}");
    let (messages, ended) = whole;
    assert!(messages.iter().all(|(message, _)| message.len() <= LIMIT));
    if !is_gzip {
        assert!(messages.iter().all(|(_, was_compressed)| !was_compressed));
    }
    assert!(matches!(
        ended,
        None | Some(Code::Internal | Code::ResourceExhausted)
    ));
    // What was read is written so that it is read again.
    let mut again = Vec::new();
    for (message, was_compressed) in &messages {
        let coding = Coding::gzip_if(*was_compressed);
        again.extend(message::write(message, coding).expect("it is not too long"));
    }
    assert_eq!(read(&again, piece, coding), (messages, None));
}

/// The messages, and whether each came compressed; and how it ended.
fn read(bytes: &[u8], piece: usize, coding: Coding) -> (Vec<(String, bool)>, Option<Code>) {
    let mut pieces = Pieces { bytes, piece };
    let mut messages = Vec::new();
    loop {
        match message::read(&mut pieces, coding, LIMIT) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(status) => return (messages, Some(status.code())),
        }
    }
}

struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.piece);
        self.bytes.read(&mut buffer[..most])
    }
}

#[cfg(test)]
mod tests {
    use super::messages;

    #[test]
    fn no_bytes_are_read_as_more_than_they_are() {
        let mut state = 7_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u32
        };
        let whole = crate::message::write(&"words".to_owned(), super::Coding::Gzip).unwrap();
        for _ in 0..2_000 {
            let mut bytes = Vec::new();
            for _ in 0..next() % 5 {
                match next() % 4 {
                    0 => bytes.extend(&whole),
                    1 => bytes.extend([0, 0, 0, 0, 3, 10, 1, b'x']),
                    2 => bytes.extend([(next() % 3) as u8, 0, 0, 0, (next() % 5) as u8]),
                    _ => bytes.push(next() as u8),
                }
            }
            let piece = next() as usize % 9 + 1;
            messages(&bytes, piece, next() % 2 == 0);
        }
    }
}
