//! Frames of HTTP/2 as they pass, without I/O.

#![deny(clippy::arithmetic_side_effects)]

/// The head of a frame (RFC 9113, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) length: u32,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

const HEAD_BYTES: usize = 9;

/// Finds the heads of frames in bytes that come in any pieces.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    head: [u8; HEAD_BYTES],
    /// How much of the head is there.
    have: usize,
    /// Bytes that belong to no head: of the preface, or of a frame.
    skip: usize,
    /// That of the last frame whose head came.
    last: Option<Frame>,
}

impl Scanner {
    /// One that looks for frames behind so many bytes.
    pub(crate) fn behind(bytes: usize) -> Self {
        Self {
            skip: bytes,
            ..Self::default()
        }
    }

    /// Tells of each frame whose head ends in these bytes.
    pub(crate) fn scan(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip = self.skip.saturating_sub(passed);
                bytes = &bytes[passed..];
                continue;
            }
            let wanted = HEAD_BYTES.saturating_sub(self.have).min(bytes.len());
            let end = self.have.saturating_add(wanted);
            self.head[self.have..end].copy_from_slice(&bytes[..wanted]);
            self.have = end;
            bytes = &bytes[wanted..];
            if self.have == HEAD_BYTES {
                let [a, b, c, kind, flags, s, t, u, v] = self.head;
                let frame = Frame {
                    kind,
                    flags,
                    stream: u32::from_be_bytes([s & 0x7f, t, u, v]),
                    length: u32::from_be_bytes([0, a, b, c]),
                };
                self.have = 0;
                self.skip = frame.length as usize;
                self.last = Some(frame);
                tell(frame);
            }
        }
    }

    /// Whether a frame has begun and not ended.
    pub(crate) fn is_amid(&self) -> bool {
        self.have > 0 || self.skip > 0
    }

    /// Whether a frame has begun that has not come whole, other than one of data.
    pub(crate) fn is_within(&self) -> bool {
        let of_data = self.last.is_some_and(|last| last.kind == DATA);
        self.have > 0 || (self.skip > 0 && !of_data)
    }
}

/// What a client begins with (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn frames_are_found_in_whatever_pieces_they_come() {
        let frames = [
            frame(4, 0, 0, &[0; 12]),
            frame(HEADERS, END_HEADERS, 1, b"head"),
            frame(DATA, 0, 1, &[7; 300]),
            frame(RST_STREAM, 0, 0x8000_0003, &[0; 4]),
        ];
        let bytes = [&PREFACE[..], &frames.concat()].concat();
        for piece in [1, 2, 5, 8, 9, 10, 33, bytes.len()] {
            let mut scanner = Scanner::behind(PREFACE.len());
            let mut found = Vec::new();
            for part in bytes.chunks(piece) {
                scanner.scan(part, |frame| {
                    found.push((frame.kind, frame.stream, frame.length))
                });
            }
            let expected = [(4, 0, 12), (1, 1, 4), (0, 1, 300), (3, 3, 4)];
            assert_eq!(found, expected, "in pieces of {piece}");
            assert!(!scanner.is_within());
        }
    }
}
