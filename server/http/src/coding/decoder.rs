//! A body out of its coding, as it is read.

use std::io::{self, BufRead, Read};

#[cfg(feature = "brotli")]
use brotli::{BrotliResult, BrotliState, enc::StandardAlloc};

use super::Coding;
use crate::body::{BodyError, Decode};

/// What has come of the body and was not decompressed yet. Where there is none, its reader is told so, and asks again later.
#[derive(Debug)]
struct Inlet {
    bytes: Box<[u8]>,
    /// Which of them are there.
    from: usize,
    to: usize,
    has_ended: bool,
}

/// Read of what travels at a time.
const PIECE: usize = 4 * 1024;

/// After so much the others have their turn.
const TURN: usize = 64 * 1024;

impl Read for Inlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Inlet {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &self.bytes[self.from..self.to] {
            [] if !self.has_ended => Err(io::ErrorKind::WouldBlock.into()),
            there => Ok(there),
        }
    }

    fn consume(&mut self, count: usize) {
        self.from += count;
    }
}

/// A decompressor that is given what travels as it asks for it.
enum Kind {
    #[cfg(feature = "zstd")]
    Zstd(zstd::stream::read::Decoder<'static, Inlet>),
    #[cfg(feature = "brotli")]
    Brotli(Box<Brotli>),
    #[cfg(feature = "gzip")]
    Gzip(Box<flate2::bufread::MultiGzDecoder<Inlet>>),
}

/// The window that RFC 9659 has every recipient of zstd take, as a power of 2.
#[cfg(feature = "zstd")]
const MOST_WINDOW: u32 = 23;

impl Kind {
    fn new(coding: Coding) -> io::Result<Self> {
        let inlet = Inlet {
            bytes: vec![0; PIECE].into(),
            from: 0,
            to: 0,
            has_ended: false,
        };
        Ok(match coding {
            #[cfg(feature = "zstd")]
            Coding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(inlet)?;
                decoder.window_log_max(MOST_WINDOW)?;
                Self::Zstd(decoder)
            }
            #[cfg(feature = "brotli")]
            Coding::Brotli => Self::Brotli(Box::new(Brotli::new(inlet))),
            #[cfg(feature = "gzip")]
            Coding::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(inlet))),
        })
    }

    fn inlet(&mut self) -> &mut Inlet {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd(decoder) => decoder.get_mut(),
            #[cfg(feature = "brotli")]
            Self::Brotli(decoder) => &mut decoder.inlet,
            #[cfg(feature = "gzip")]
            Self::Gzip(decoder) => decoder.get_mut(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd(decoder) => decoder.read(buffer),
            #[cfg(feature = "brotli")]
            Self::Brotli(decoder) => decoder.read(buffer),
            #[cfg(feature = "gzip")]
            Self::Gzip(decoder) => decoder.read(buffer),
        }
    }
}

/// brotli's own readers keep what lies behind the end of a body, and take windows of up to 1 GiB that RFC 7932 does not have.
#[cfg(feature = "brotli")]
struct Brotli {
    inlet: Inlet,
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    has_ended: bool,
}

#[cfg(feature = "brotli")]
impl Brotli {
    fn new(inlet: Inlet) -> Self {
        let alloc = StandardAlloc::default;
        Self {
            inlet,
            state: BrotliState::new_strict(alloc(), alloc(), alloc()),
            has_ended: false,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut written, mut total) = (0, 0);
        while !self.has_ended {
            let input = self.inlet.fill_buf()?;
            let is_at_end = input.is_empty();
            let (mut left, mut used) = (input.len(), 0);
            let mut room = buffer.len() - written;
            let result = brotli::BrotliDecompressStream(
                &mut left,
                &mut used,
                input,
                &mut room,
                &mut written,
                buffer,
                &mut total,
                &mut self.state,
            );
            self.inlet.consume(used);
            match result {
                BrotliResult::ResultFailure => return Err(io::ErrorKind::InvalidData.into()),
                BrotliResult::NeedsMoreInput if is_at_end => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                BrotliResult::ResultSuccess => self.has_ended = true,
                BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
            }
            if written > 0 {
                break;
            }
        }
        Ok(written)
    }
}

/// Decompresses a body as it is read; what comes out is bounded.
pub(crate) struct Decoder {
    kind: Kind,
    /// Whether anything has come: an empty body is one in any coding.
    has_begun: bool,
    limit: u64,
    left: u64,
    /// What came out since others had their turn.
    turn: usize,
}

impl Decoder {
    pub(crate) fn new(coding: Coding, limit: u64) -> io::Result<Self> {
        Ok(Self {
            kind: Kind::new(coding)?,
            has_begun: false,
            limit,
            left: limit,
            turn: 0,
        })
    }

    /// Takes more of what travels; whether there was any.
    fn fill(&mut self, raw: Raw<'_>) -> Result<bool, BodyError> {
        let inlet = self.kind.inlet();
        if inlet.from == inlet.to {
            (inlet.from, inlet.to) = (0, 0);
        }
        let count = raw(&mut inlet.bytes[inlet.to..])?;
        inlet.to += count;
        inlet.has_ended = count == 0;
        self.has_begun |= count > 0;
        Ok(count > 0)
    }

    /// The end of what comes out must be that of what travels.
    fn end(&mut self, raw: Raw<'_>) -> Result<usize, BodyError> {
        let inlet = self.kind.inlet();
        let has_more = inlet.from < inlet.to || !inlet.has_ended && self.fill(raw)?;
        match has_more {
            true => Err(GARBLED),
            false => Ok(0),
        }
    }
}

/// Reads some of what travels.
type Raw<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<usize, BodyError>;

const GARBLED: BodyError = BodyError::Malformed {
    reason: "it is not in its coding",
};

impl Decode for Decoder {
    fn read(&mut self, raw: Raw<'_>, buffer: &mut [u8]) -> Result<usize, BodyError> {
        if !self.has_begun && !self.fill(raw)? {
            return Ok(0);
        }
        if self.turn >= TURN {
            self.turn = 0;
            maniple::yield_now();
        }
        loop {
            match self.kind.read(buffer) {
                Ok(0) => return self.end(raw),
                Ok(count) => {
                    self.turn += count;
                    let too_large = BodyError::TooLarge { limit: self.limit };
                    self.left = self.left.checked_sub(count as u64).ok_or(too_large)?;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.fill(raw)?;
                }
                Err(_) => return Err(GARBLED),
            }
        }
    }
}

#[cfg(all(test, feature = "gzip", feature = "brotli", feature = "zstd"))]
pub(crate) mod tests {
    use std::io::Write;

    use http::StatusCode;

    use super::*;
    use crate::coding::CODINGS;

    pub(crate) fn coded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Zstd => zstd::encode_all(bytes, 1).unwrap(),
            Coding::Brotli => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 1, 20);
                encoder.write_all(bytes).unwrap();
                encoder.into_inner()
            }
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    /// Decodes what comes in pieces of that length, into reads of another.
    fn decoded(
        coding: Coding,
        body: &[u8],
        piece: usize,
        room: usize,
    ) -> Result<Vec<u8>, BodyError> {
        let mut decoder = Decoder::new(coding, 1 << 20).unwrap();
        let (mut body, mut all, mut buffer) = (body, Vec::new(), vec![0; room]);
        let mut raw = |into: &mut [u8]| {
            let piece = piece.min(body.len());
            Ok((&mut body).take(piece as u64).read(into).unwrap())
        };
        loop {
            match decoder.read(&mut raw, &mut buffer)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[test]
    fn bodies_come_out_however_they_travel_and_are_read() {
        let text: Vec<u8> = (0..2000)
            .flat_map(|n| format!("{n},").into_bytes())
            .collect();
        for &coding in CODINGS {
            let body = coded(coding, &text);
            for (piece, room) in [(1, 1), (1, 4096), (7, 100), (PIECE, 1), (PIECE, 65536)] {
                let out = decoded(coding, &body, piece, room).unwrap();
                assert_eq!(out, text, "{coding:?} in {piece}, {room}");
            }
            assert_eq!(decoded(coding, b"", 1, 1).unwrap(), b"");
            assert_eq!(decoded(coding, &coded(coding, b""), 1, 10).unwrap(), b"");
        }
        let members = [coded(Coding::Gzip, b"one, "), coded(Coding::Gzip, b"other")].concat();
        assert_eq!(
            decoded(Coding::Gzip, &members, 1, 7).unwrap(),
            b"one, other"
        );
    }

    #[test]
    fn what_breaks_off_or_is_another_thing_is_an_error() {
        for &coding in CODINGS {
            let body = coded(coding, b"some text, and some text");
            for length in 1..body.len() {
                let error = decoded(coding, &body[..length], 5, 100).unwrap_err();
                assert_eq!(
                    error.status(),
                    StatusCode::BAD_REQUEST,
                    "{coding:?}, {length}"
                );
            }
            let behind = [&body[..], b"x"].concat();
            assert!(decoded(coding, &behind, 100, 100).is_err(), "{coding:?}");
            assert!(
                decoded(coding, b"no such thing", 100, 100).is_err(),
                "{coding:?}"
            );
        }
    }
}
