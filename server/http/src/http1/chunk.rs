//! Chunked bodies (RFC 9112, 7.1): a decoder that is fed as bytes come.
//!
//! Strict: line ends of CR LF only, sizes of up to 16 hexadecimal digits and nothing around them,
//! extensions and trailers within bounds. Extensions are skipped, trailers are checked, and kept for who wants them.
//!
//! A size is what a peer claims, up to 2^64 - 1. It is held against what the body may still have as soon
//! as it has been read, and nothing is added to it.

#![deny(clippy::arithmetic_side_effects)]

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    Reject,
    scan::{is_text, is_token},
};

/// What has been read of a chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decoder {
    state: State,
    /// Bytes of data that further chunks may have.
    allowance: u64,
    /// Bytes that extensions and trailers may still have.
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

/// What a body gets whose chunks claim more than it may have.
pub(crate) const TOO_LARGE: Reject =
    Reject::new(StatusCode::PAYLOAD_TOO_LARGE, "chunked body too large");

/// The fields in lines of trailers that a decoder has let through. Those that say how a message is to be read are left out:
/// it has been read (RFC 9110, 6.5.1).
pub(crate) fn trailers(lines: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let field = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = field
            && !is_framing(&name)
        {
            fields.append(name, value);
        }
    }
    fields
}

/// Whether such a field says how a message is to be read, or who asks, for which it is too late behind a body.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    use http::header::{
        AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
        COOKIE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    };
    const FRAMES: [HeaderName; 13] = [
        AUTHORIZATION,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        EXPECT,
        HOST,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    FRAMES.contains(name)
}

/// What a body gets whose extensions and trailers are longer than they may be.
pub(crate) const TOO_MUCH_OVERHEAD: Reject = Reject::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "chunk extensions or trailers too large",
);

/// Bytes of all extensions and trailers of one body, unless told otherwise.
pub(crate) const USUAL_OVERHEAD: usize = 8 * 1024;

impl Decoder {
    /// For a body of at most `limit` bytes, whose extensions and trailers have at most `overhead`.
    pub(crate) fn new(limit: u64, overhead: usize) -> Self {
        Self {
            state: State::Size {
                value: 0,
                digits: 0,
            },
            allowance: limit,
            overhead,
        }
    }

    /// Allows less data from now on, if it allows more.
    pub(crate) fn allow_at_most(&mut self, data: u64) {
        self.allowance = self.allowance.min(data);
    }

    /// Decodes framing at the start of `input` up to the next data or the end.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<Step, Reject> {
        self.step_by(input, |_| {})
    }

    /// Takes a [`step`](Self::step), and appends the lines of the trailers.
    pub(crate) fn step_keeping(
        &mut self,
        input: &[u8],
        trailers: &mut Vec<u8>,
    ) -> Result<Step, Reject> {
        self.step_by(input, |byte| trailers.push(byte))
    }

    fn step_by(&mut self, input: &[u8], mut keep: impl FnMut(u8)) -> Result<Step, Reject> {
        if let State::Data { left } = self.state {
            return Ok(Step::Data(left));
        }
        if self.state == State::Done {
            return Ok(Step::Done(0));
        }
        for (used, &byte) in (1..).zip(input) {
            self.state = self.next(byte)?;
            match self.state {
                State::TrailerName | State::TrailerValue => keep(byte),
                State::TrailerLf => keep(b'\n'),
                State::Data { .. } => return Ok(Step::Framing(used)),
                State::Done => return Ok(Step::Done(used)),
                _ => {}
            }
        }
        Ok(Step::Framing(input.len()))
    }

    /// `count` bytes of data were used, of those that the last step said are there.
    pub(crate) fn took(&mut self, count: u64) {
        if let State::Data { left } = self.state {
            self.state = match left.saturating_sub(count) {
                0 => State::DataCr,
                left => State::Data { left },
            };
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
                State::Size {
                    value: value << 4 | digit,
                    digits: digits.saturating_add(1),
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
                left => {
                    self.allowance = self.allowance.checked_sub(left).ok_or(TOO_LARGE)?;
                    State::Data { left }
                }
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
        self.overhead = self.overhead.checked_sub(1).ok_or(TOO_MUCH_OVERHEAD)?;
        Ok(state)
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows has failed"
)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    /// Decodes `input`, given in pieces of `piece` bytes.
    fn decode(input: &[u8], piece: usize) -> Result<(Vec<u8>, bool), Reject> {
        decode_within(u64::MAX, input, piece)
    }

    fn decode_within(limit: u64, input: &[u8], piece: usize) -> Result<(Vec<u8>, bool), Reject> {
        let mut decoder = Decoder::new(limit, USUAL_OVERHEAD);
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
        input.resize(USUAL_OVERHEAD + 100, b'x');
        assert!(decode(&input, 1000).is_err());
    }

    /// Sizes that a peer may claim: small ones, those beside a power of two, and any.
    fn claim() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..20_u64,
            (0..64_u32, -20..20_i64).prop_map(|(bits, by)| (1_u64 << bits).wrapping_add_signed(by)),
            (0..20_u64).prop_map(|by| u64::MAX - by),
            any::<u64>(),
        ]
    }

    proptest! {
        /// Whole chunks that keep the limit, then one that claims anything, cut anywhere.
        #[test]
        fn a_claim_beyond_the_limit_is_refused_once_it_is_read(
            limit in claim(),
            before in vec(1..40_usize, 0..6),
            claimed in claim(),
            pad in any::<bool>(),
            upper in any::<bool>(),
            cuts in vec(any::<Index>(), 0..6),
        ) {
            let mut whole = Vec::new();
            let mut sum = 0_u128;
            for size in before {
                if sum + size as u128 > u128::from(limit) {
                    break;
                }
                sum += size as u128;
                whole.extend(format!("{size:x}\r\n{}\r\n", "x".repeat(size)).bytes());
            }
            let digits = match (pad, upper) {
                (true, true) => format!("{claimed:016X}"),
                (true, false) => format!("{claimed:016x}"),
                (false, true) => format!("{claimed:X}"),
                (false, false) => format!("{claimed:x}"),
            };
            let size_line = format!("{digits}\r\n");
            let fits = sum + u128::from(claimed) <= u128::from(limit);
            let mut input = whole.clone();
            input.extend(size_line.bytes());
            let size_ends = input.len();
            input.extend([b'y'; 64]);

            let mut decoder = Decoder::new(limit, USUAL_OVERHEAD);
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(input.len())).collect();
            ends.push(input.len());
            ends.sort_unstable();
            let (mut at, mut data, mut refused_at) = (0, 0_u64, None);
            'input: for end in ends {
                while at < end {
                    match decoder.step(&input[at..end]) {
                        Ok(Step::Framing(used) | Step::Done(used)) => at += used,
                        Ok(Step::Data(left)) => {
                            let count = left.min((end - at) as u64);
                            data += count;
                            decoder.took(count);
                            at += usize::try_from(count).unwrap();
                        }
                        Err(reject) => {
                            refused_at = Some((at, reject));
                            break 'input;
                        }
                    }
                    prop_assert!(data <= limit, "{data} bytes within {limit}");
                    // What follows the claim is no framing when the claim is short.
                    if at >= size_ends && claimed < 64 {
                        break 'input;
                    }
                }
            }
            match refused_at {
                None => prop_assert!(fits, "{claimed} after {sum} fits into {limit}?"),
                Some((at, reject)) => {
                    prop_assert!(!fits, "{claimed} after {sum} does not fit into {limit}?");
                    prop_assert_eq!(reject, TOO_LARGE);
                    prop_assert!(at < size_ends && u128::from(data) == sum);
                }
            }
        }
    }
}
