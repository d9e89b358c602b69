//! Codecs: bytes to messages and back, and lines as the one that is ready.

use std::{borrow::Cow, sync::Arc};

/// How messages look on the wire. Each connection has two clones: one decodes, one encodes, so that either may keep
/// what it knows of its direction.
///
/// # Examples
/// A byte of length, and so many bytes:
/// ```
/// use maniple_parts::actor::{Codec, CodecError};
///
/// #[derive(Clone)]
/// struct Short;
///
/// impl Codec for Short {
///     type In = Vec<u8>;
///     type Out = Vec<u8>;
///
///     fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, Vec<u8>)>, CodecError> {
///         let Some((&length, rest)) = input.split_first() else { return Ok(None) };
///         let message = rest.get(..length.into());
///         Ok(message.map(|message| (1 + message.len(), message.to_vec())))
///     }
///
///     fn encode(&mut self, message: &Vec<u8>, output: &mut Vec<u8>) -> Result<(), CodecError> {
///         let length = message.len().try_into().map_err(|_| CodecError::TooLong { limit: 255 })?;
///         output.push(length);
///         output.extend_from_slice(message);
///         Ok(())
///     }
/// }
///
/// let mut bytes = Vec::new();
/// Short.encode(&b"hi".to_vec(), &mut bytes).unwrap();
/// assert_eq!(Short.decode(&bytes), Ok(Some((3, b"hi".to_vec()))));
/// assert_eq!(Short.decode(&bytes[..2]), Ok(None));
/// ```
pub trait Codec: Clone + Send + 'static {
    /// What is received.
    type In: Send + 'static;
    /// What is sent.
    type Out: Clone + Send + Sync + 'static;

    /// The first message in `input` and how many bytes it takes up, more than 0; `None` if it is not all there yet:
    /// then the next call has the same bytes and more.
    ///
    /// # Errors
    /// If no message can begin like this. The connection then ends.
    fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, Self::In)>, CodecError>;

    /// Appends a message to `output`.
    ///
    /// # Errors
    /// If the message cannot be written; what was appended of it is taken back. The connection then ends, once what
    /// was queued before has been sent.
    fn encode(&mut self, message: &Self::Out, output: &mut Vec<u8>) -> Result<(), CodecError>;

    /// About how many bytes a message takes up while it is queued, for
    /// [`Builder::outgoing_bytes`](super::Builder::outgoing_bytes). Default: 0, so that messages alone are counted.
    fn size(message: &Self::Out) -> usize {
        let _ = message;
        0
    }
}

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// It is longer than it may be.
    #[error("message of more than {limit} bytes")]
    TooLong {
        /// Bytes that it may have.
        limit: usize,
    },
    /// It is not what the protocol has.
    #[error("malformed message: {0}")]
    Malformed(Cow<'static, str>),
}

/// Lines of UTF-8 that end in `\n`, with an optional `\r` before it that is dropped.
///
/// A line that is sent must not have a `\n` in it, which would be a second line to the peer: that is an error.
///
/// # Examples
/// ```
/// use maniple_parts::actor::{Codec, CodecError, LineCodec};
/// let mut lines = LineCodec::new(5);
/// assert_eq!(lines.decode(b"hello\r\nwor"), Ok(Some((7, "hello".to_owned()))));
/// assert_eq!(lines.decode(b"wor"), Ok(None));
/// assert_eq!(lines.decode(b"worlds"), Err(CodecError::TooLong { limit: 5 }));
/// ```
#[derive(Clone, Debug)]
pub struct LineCodec {
    limit: usize,
    /// So much of the input has no end of a line.
    searched: usize,
}

impl LineCodec {
    /// For received lines of at most `limit` bytes, their end not counted.
    pub fn new(limit: usize) -> Self {
        Self { limit, searched: 0 }
    }
}

impl Codec for LineCodec {
    type In = String;
    type Out = Arc<str>;

    fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, String)>, CodecError> {
        let searched = self.searched.min(input.len());
        let end = memchr::memchr(b'\n', &input[searched..]).map(|at| searched + at);
        let line = &input[..end.unwrap_or(input.len())];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.limit {
            return Err(CodecError::TooLong { limit: self.limit });
        }
        self.searched = match end {
            Some(_) => 0,
            None => input.len(),
        };
        let Some(end) = end else { return Ok(None) };
        let line = std::str::from_utf8(line)
            .map_err(|_| CodecError::Malformed("line is not UTF-8".into()))?;
        Ok(Some((end + 1, line.to_owned())))
    }

    fn encode(&mut self, message: &Arc<str>, output: &mut Vec<u8>) -> Result<(), CodecError> {
        if memchr::memchr(b'\n', message.as_bytes()).is_some() {
            return Err(CodecError::Malformed("line with a line end in it".into()));
        }
        output.extend_from_slice(message.as_bytes());
        output.push(b'\n');
        Ok(())
    }

    fn size(message: &Arc<str>) -> usize {
        message.len().saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines of a text that comes in pieces of so many bytes.
    fn lines(limit: usize, text: &[u8], piece: usize) -> Result<Vec<String>, CodecError> {
        let (mut codec, mut input, mut lines) = (LineCodec::new(limit), Vec::new(), Vec::new());
        for piece in text.chunks(piece) {
            input.extend_from_slice(piece);
            while let Some((taken, line)) = codec.decode(&input)? {
                input.drain(..taken);
                lines.push(line);
            }
        }
        Ok(lines)
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        for piece in 1..12 {
            let text = b"one\r\n\ntwo\nthree\r\nrest";
            assert_eq!(
                lines(5, text, piece).unwrap(),
                ["one", "", "two", "three"],
                "{piece}"
            );
        }
    }

    #[test]
    fn a_line_may_have_its_limit_and_no_byte_more() {
        for piece in [1, 3, 100] {
            assert_eq!(lines(3, b"abc\r\n", piece).unwrap(), ["abc"]);
            for long in [&b"abcd\n"[..], b"abcd\r\n", b"abc\rd\n", b"abcdefgh"] {
                let error = lines(3, long, piece).unwrap_err();
                assert_eq!(error, CodecError::TooLong { limit: 3 });
            }
        }
    }

    #[test]
    fn what_is_not_text_or_not_one_line_is_an_error() {
        assert!(matches!(
            lines(9, b"\xff\n", 9),
            Err(CodecError::Malformed(_))
        ));
        let mut output = Vec::new();
        let injected = LineCodec::new(9).encode(&"a\nb".into(), &mut output);
        assert!(matches!(injected, Err(CodecError::Malformed(_))));
        assert!(output.is_empty());
    }
}
