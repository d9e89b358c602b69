//! What is sent of a file: its bytes in memory, or the open file, in parts.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
    sync::Arc,
};

use bytes::{Buf, Bytes};

use crate::{response::Body, source::Source};

/// Bytes of a file that are read, and in memory, at a time.
const AT_ONCE: u64 = 256 * 1024;

/// Where the bytes are.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Memory(Bytes),
    Disk(Arc<File>),
}

/// A piece of a body.
#[derive(Debug)]
pub(super) enum Piece {
    Text(Bytes),
    Of(Range<u64>),
}

impl Content {
    /// That part of it as a body.
    pub(super) fn body(&self, range: Range<u64>) -> Body {
        match (
            self,
            usize::try_from(range.start),
            usize::try_from(range.end),
        ) {
            (Self::Memory(bytes), Ok(start), Ok(end)) => bytes.slice(start..end).into(),
            _ => {
                let length = range.end - range.start;
                self.pieces(vec![Piece::Of(range)], length)
            }
        }
    }

    /// These pieces as a body, which have that length together.
    pub(super) fn pieces(&self, pieces: Vec<Piece>, length: u64) -> Body {
        let reader = Pieces {
            content: self.clone(),
            left: pieces.into(),
            at_hand: Bytes::new(),
        };
        Body::from_source(reader, length)
    }

    fn read(&self, from: u64, bytes: u64) -> io::Result<Bytes> {
        match self {
            Self::Memory(all) => {
                let (from, bytes) = (from as usize, bytes as usize);
                Ok(all.slice(from..from + bytes))
            }
            Self::Disk(file) => {
                let file = file.clone();
                let read = maniple::fs::reading(move || {
                    let mut part = vec![0; bytes as usize];
                    file.read_exact_at(&mut part, from).map(|()| part)
                });
                read.map(Bytes::from)
            }
        }
    }
}

/// Reads pieces one after the other. A file that has become shorter is an error, which cuts the answer.
struct Pieces {
    content: Content,
    left: VecDeque<Piece>,
    at_hand: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at_hand.is_empty() {
            match self.left.front_mut() {
                None => return Ok(0),
                Some(Piece::Text(text)) => {
                    self.at_hand = std::mem::take(text);
                    self.left.pop_front();
                }
                Some(Piece::Of(range)) if range.is_empty() => drop(self.left.pop_front()),
                Some(Piece::Of(range)) => {
                    let bytes = (range.end - range.start).min(AT_ONCE);
                    self.at_hand = self.content.read(range.start, bytes)?;
                    range.start += bytes;
                }
            }
        }
        let count = self.at_hand.len().min(buffer.len());
        self.at_hand.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Source for Pieces {
    fn in_file(&self) -> Option<(&Arc<File>, Range<u64>)> {
        match (self.left.front(), &self.content) {
            (Some(Piece::Of(range)), Content::Disk(file)) if self.at_hand.is_empty() => {
                (!range.is_empty()).then(|| (file, range.clone()))
            }
            _ => None,
        }
    }

    fn pass(&mut self, bytes: u64) {
        if let Some(Piece::Of(range)) = self.left.front_mut() {
            range.start += bytes;
        }
    }

    fn at_once(&self) -> usize {
        64 * 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_one_after_the_other_from_memory_and_from_a_file() {
        let path = std::env::temp_dir().join(format!("maniple-pieces-{}", std::process::id()));
        let bytes: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        for content in [
            Content::Memory(bytes.clone().into()),
            Content::Disk(Arc::new(file)),
        ] {
            let mut reader = Pieces {
                content,
                left: VecDeque::from([
                    Piece::Text(Bytes::from_static(b"begin")),
                    Piece::Of(5..5),
                    Piece::Of(7..560_000),
                    Piece::Text(Bytes::from_static(b"end")),
                ]),
                at_hand: Bytes::new(),
            };
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            let expected = [b"begin", &bytes[7..560_000], b"end"].concat();
            assert!(all == expected);
        }
    }
}
