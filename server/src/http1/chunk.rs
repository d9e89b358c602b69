//! Chunked bodies (RFC 9112, 7.1): a decoder that is fed as bytes come.
//!
//! Strict: line ends of CR LF only, sizes of up to 16 hexadecimal digits and nothing around them,
//! extensions and trailers within bounds. Extensions are skipped, trailers are checked and dropped.

use super::Reject;

/// What has been read of a chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decoder {
    state: State,
    /// Bytes of extensions and trailers so far.
    overhead: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { value: u64, named: bool },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// What a step of decoding found at the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes of framing were used up; call again with what follows.
    Framing(usize),
    /// At most so many of the next bytes are data; report with [`Decoder::took`] how many were used.
    Data(u64),
    /// The body ended after so many bytes.
    Done(usize),
}

/// Bytes of all extensions and trailers of one body.
const MAX_OVERHEAD: usize = 8 * 1024;

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Size {
                value: 0,
                digits: 0,
            },
            overhead: 0,
        }
    }

    /// Decodes framing at the start of `input` up to the next data or the end.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<Step, Reject> {
        if let State::Data { left } = self.state {
            return Ok(Step::Data(left));
        }
        for (index, &byte) in input.iter().enumerate() {
            self.state = self.next(byte)?;
            match self.state {
                State::Data { left } if left > 0 => return Ok(Step::Framing(index + 1)),
                State::Done => return Ok(Step::Done(index + 1)),
                _ => {}
            }
        }
        if self.state == State::Done {
            return Ok(Step::Done(0));
        }
        Ok(Step::Framing(input.len()))
    }

    /// `count` bytes of data were used.
    pub(crate) fn took(&mut self, count: u64) {
        if let State::Data { left } = &mut self.state {
            *left -= count;
            if *left == 0 {
                self.state = State::DataCr;
            }
        }
    }

    fn next(&mut self, byte: u8) -> Result<State, Reject> {
        let bad_size = Reject::bad("invalid chunk size");
        let bad_end = Reject::bad("invalid line end in chunked body");
        Ok(match (self.state, byte) {
            (State::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == 16 {
                    return Err(Reject::bad("chunk size too large"));
                }
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                let value = value << 4 | digit;
                State::Size {
                    value,
                    digits: digits + 1,
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err(bad_size),
            (State::Size { value, .. }, b'\r') => State::SizeLf { value },
            (State::Size { value, .. }, b';') => State::Extension {
                value,
                named: false,
            },
            (State::Size { .. }, _) => return Err(bad_size),
            // A quoted string cannot hold CR either, so quotes need no tracking.
            (State::Extension { value, named: true }, b'\r') => State::SizeLf { value },
            (State::Extension { value, .. }, byte) if is_text(byte) => {
                self.count(State::Extension { value, named: true })?
            }
            (State::Extension { .. }, _) => return Err(Reject::bad("invalid chunk extension")),
            (State::SizeLf { value }, b'\n') => match value {
                0 => State::TrailerStart,
                left => State::Data { left },
            },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size {
                value: 0,
                digits: 0,
            },
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart, byte) if is_token(byte) => self.count(State::TrailerName)?,
            (State::TrailerName, b':') => self.count(State::TrailerValue)?,
            (State::TrailerName, byte) if is_token(byte) => self.count(State::TrailerName)?,
            (State::TrailerStart | State::TrailerName, _) => {
                return Err(Reject::bad("invalid trailer"));
            }
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, byte) if is_text(byte) => self.count(State::TrailerValue)?,
            (State::TrailerValue, _) => return Err(Reject::bad("invalid trailer")),
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            (state @ (State::Data { .. } | State::Done), _) => state,
            _ => return Err(bad_end),
        })
    }

    fn count(&mut self, state: State) -> Result<State, Reject> {
        self.overhead += 1;
        if self.overhead > MAX_OVERHEAD {
            return Err(Reject::bad("chunk extensions or trailers too large"));
        }
        Ok(state)
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input`, given in pieces of `piece` bytes.
    fn decode(input: &[u8], piece: usize) -> Result<(Vec<u8>, bool), Reject> {
        let mut decoder = Decoder::new();
        let (mut data, mut done) = (Vec::new(), false);
        for mut part in input.chunks(piece) {
            while !part.is_empty() && !done {
                let used = match decoder.step(part)? {
                    Step::Framing(used) => used,
                    Step::Done(used) => {
                        done = true;
                        used
                    }
                    Step::Data(left) => {
                        let count = part.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                        data.extend_from_slice(&part[..count]);
                        decoder.took(count as u64);
                        count
                    }
                };
                part = &part[used..];
            }
        }
        Ok((data, done))
    }

    #[test]
    fn every_split_gives_the_same_body() {
        let input = b"5\r\nhello\r\n6;a=\"b\"\r\n world\r\n0\r\nTrailer: x\r\n\r\n";
        for piece in 1..=input.len() {
            assert_eq!(
                decode(input, piece),
                Ok((b"hello world".to_vec(), true)),
                "{piece}"
            );
        }
    }

    #[test]
    fn an_unfinished_body_is_not_done() {
        let input = b"5\r\nhello\r\n0\r\n\r\n";
        for end in 0..input.len() {
            assert!(!decode(&input[..end], 4).unwrap().1, "{end}");
        }
    }

    #[test]
    fn what_others_might_read_differently_is_rejected() {
        for input in [
            &b"\r\n"[..],
            b" 5\r\n",
            b"+5\r\n",
            b"-5\r\n",
            b"0x5\r\n",
            b"5 \r\n",
            b"5\n",
            b"5\rx",
            b"5;\r\n",
            b"5;a\nb\r\n",
            b"5;a\rb",
            b"11111111111111111\r\n",
            b"5\r\nhellox",
            b"5\r\nhello\n",
            b"0\r\n: x\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\nA: b\0\r\n\r\n",
            b"0\r\n\n",
        ] {
            assert!(decode(input, 64).is_err(), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn extensions_are_bounded() {
        let mut input = b"1;a=".to_vec();
        input.resize(MAX_OVERHEAD + 100, b'x');
        assert!(decode(&input, 1000).is_err());
    }
}
