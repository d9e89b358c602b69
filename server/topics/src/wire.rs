//! What a broker says, whichever it is, and how it is read.

use std::{
    io::{self, BufRead, Read},
    sync::Arc,
};

/// One thing that a broker has said.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    /// A message to a topic, by its name at the broker.
    Message(String, Arc<[u8]>),
    /// One that is longer than may be, and was passed over.
    TooLong(String),
    /// The oldest command without an answer is done.
    Done,
    /// The oldest command without an answer is refused.
    Refused(String),
    /// It asks for a sign of life.
    Ping,
    /// Nothing that matters.
    Nothing,
}

/// A line of a protocol has at most so many bytes.
const LONGEST_LINE: u64 = 64 * 1024;

/// A line without its end.
pub(crate) fn line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    input.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        None if line.len() as u64 == LONGEST_LINE => Err(wrong("a line without an end")),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// So many bytes and a line's end behind them; `None` if that is more than may be, and they are passed over.
pub(crate) fn bytes(
    input: &mut impl BufRead,
    count: u64,
    most: usize,
) -> io::Result<Option<Vec<u8>>> {
    let kept = match count <= most as u64 {
        true => {
            let mut kept = vec![0; count as usize];
            input.read_exact(&mut kept)?;
            Some(kept)
        }
        false => {
            if io::copy(&mut input.take(count), &mut io::sink())? < count {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            None
        }
    };
    let mut end = [0; 2];
    input.read_exact(&mut end)?;
    match &end == b"\r\n" {
        true => Ok(kept),
        false => Err(wrong("bytes without an end")),
    }
}

pub(crate) fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}
