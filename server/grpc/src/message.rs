//! Messages in a body: a byte that says whether they are compressed, their length, and they themselves.

use std::io::{self, Read, Write};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use http::{HeaderName, HeaderValue};
use prost::{
    Message,
    bytes::{Buf, Bytes},
};

use crate::status::{Code, Status};

/// How messages are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Coding {
    #[default]
    Identity,
    Gzip,
}

/// How the messages of a call may be compressed, and the answers.
pub(crate) static ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
pub(crate) static ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
pub(crate) static GZIP: HeaderValue = HeaderValue::from_static("gzip");
pub(crate) static ACCEPTED: HeaderValue = HeaderValue::from_static("identity,gzip");
/// What messages are, to HTTP.
pub(crate) static GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Whether that media type is gRPC's with messages of protobuf, whatever its parameters and its case.
pub(crate) fn is_grpc(media_type: &[u8]) -> bool {
    let essence = media_type.split(|&byte| byte == b';').next();
    let essence = essence.unwrap_or_default().trim_ascii();
    [&b"application/grpc"[..], b"application/grpc+proto"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

impl Coding {
    pub(crate) fn gzip_if(compress: bool) -> Self {
        match compress {
            true => Coding::Gzip,
            false => Coding::Identity,
        }
    }

    pub(crate) fn of_name(name: &[u8]) -> Option<Self> {
        match name {
            b"identity" => Some(Coding::Identity),
            b"gzip" => Some(Coding::Gzip),
            _ => None,
        }
    }

    /// Whether a field that lists codings lists this.
    pub(crate) fn is_in(self, list: &[u8]) -> bool {
        list.split(|&byte| byte == b',')
            .any(|name| Self::of_name(name.trim_ascii()) == Some(self))
    }
}

const HEAD: usize = 5;

/// A message as it travels.
pub(crate) fn write<M: Message>(message: &M, coding: Coding) -> Result<Vec<u8>, Status> {
    let mut bytes = Vec::new();
    write_to(&mut bytes, message, coding)?;
    Ok(bytes)
}

/// Writes a message as it travels into a buffer, in place of what is there.
pub(crate) fn write_to<M: Message>(
    bytes: &mut Vec<u8>,
    message: &M,
    coding: Coding,
) -> Result<(), Status> {
    let length = message.encoded_len();
    let too_long = || Status::new(Code::ResourceExhausted, "a message of more than 4 GiB");
    bytes.clear();
    match coding {
        Coding::Identity => {
            bytes.reserve(HEAD + length);
            bytes.extend([0; HEAD]);
            message.encode(bytes).map_err(|_| too_long())?;
        }
        Coding::Gzip => {
            bytes.extend([1, 0, 0, 0, 0]);
            let plain = message.encode_to_vec();
            let mut encoder = GzEncoder::new(std::mem::take(bytes), Compression::fast());
            let written = encoder.write_all(&plain).and_then(|()| encoder.finish());
            *bytes = written.map_err(|error| Status::of_io(&error))?;
        }
    }
    let length = u32::try_from(bytes.len() - HEAD).map_err(|_| too_long())?;
    bytes[1..HEAD].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// What stands before a message.
#[derive(Clone, Copy)]
struct Head {
    flag: u8,
    length: usize,
}

impl Head {
    fn of([flag, a, b, c, d]: [u8; HEAD], limit: usize) -> Result<Self, Status> {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        match length > limit {
            true => Err(too_large(limit)),
            false => Ok(Self { flag, length }),
        }
    }

    /// What stands behind it, and whether that came compressed.
    fn decode<M: Message + Default>(
        self,
        bytes: impl Buf,
        coding: Coding,
        limit: usize,
    ) -> Result<(M, bool), Status> {
        let decoded = match (self.flag, coding) {
            (0, _) => M::decode(bytes),
            (1, Coding::Gzip) => M::decode(&*inflate(bytes.reader(), limit)?),
            (1, Coding::Identity) => {
                let text = "a compressed message, and no grpc-encoding";
                return Err(Status::new(Code::Internal, text));
            }
            (flag, _) => {
                let text = format!("a message begins with {flag}");
                return Err(Status::new(Code::Internal, text));
            }
        };
        match decoded {
            Ok(message) => Ok((message, self.flag == 1)),
            Err(error) => Err(Status::new(Code::Internal, error.to_string())),
        }
    }
}

/// Takes the next message, if all of it is at hand; and whether it came compressed.
pub(crate) fn take<M: Message + Default>(
    bytes: &mut Bytes,
    coding: Coding,
    limit: usize,
) -> Option<Result<(M, bool), Status>> {
    let head = bytes.first_chunk::<HEAD>()?;
    let head = match Head::of(*head, limit) {
        Ok(head) => head,
        Err(status) => return Some(Err(status)),
    };
    if bytes.len() - HEAD < head.length {
        return None;
    }
    bytes.advance(HEAD);
    Some(head.decode(bytes.split_to(head.length), coding, limit))
}

/// Reads the next message, and whether it came compressed; none at the end.
pub(crate) fn read<M: Message + Default>(
    body: &mut (impl Read + ?Sized),
    coding: Coding,
    limit: usize,
) -> Result<Option<(M, bool)>, Status> {
    let mut head = [0; HEAD];
    match fill(body, &mut head)? {
        0 => return Ok(None),
        HEAD => {}
        _ => return Err(cut()),
    }
    let head = Head::of(head, limit)?;
    // What is claimed is not yet reason to set memory aside.
    let mut bytes = vec![0; head.length.min(AT_ONCE)];
    let mut filled = 0;
    loop {
        filled += fill(body, &mut bytes[filled..])?;
        if filled < bytes.len() {
            return Err(cut());
        }
        if filled == head.length {
            break;
        }
        bytes.resize(head.length.min(filled.saturating_mul(2)), 0);
    }
    head.decode(&*bytes, coding, limit).map(Some)
}

/// Reads until the buffer is full or there is no more; how much there was.
fn fill(body: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> Result<usize, Status> {
    let mut filled = 0;
    while filled < buffer.len() {
        match body.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Status::of_io(&error)),
        }
    }
    Ok(filled)
}

/// Bytes of a message that memory is set aside for before any of them is there.
const AT_ONCE: usize = 64 * 1024;

fn inflate(bytes: impl Read, limit: usize) -> Result<Vec<u8>, Status> {
    let mut plain = Vec::new();
    let mut decoder = GzDecoder::new(bytes).take((limit as u64).saturating_add(1));
    match decoder.read_to_end(&mut plain) {
        Ok(_) if plain.len() > limit => Err(too_large(limit)),
        Ok(_) => Ok(plain),
        Err(error) => Err(Status::new(Code::Internal, format!("gzip: {error}"))),
    }
}

#[cold]
fn cut() -> Status {
    Status::new(Code::Internal, "the body ends within a message")
}

#[cold]
fn too_large(limit: usize) -> Status {
    let text = format!("a message is larger than {limit} bytes");
    Status::new(Code::ResourceExhausted, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(bytes: &[u8], coding: Coding) -> Code {
        read::<String>(&mut &bytes[..], coding, 100)
            .unwrap_err()
            .code()
    }

    #[test]
    fn media_types_with_parameters_and_in_any_case_are_grpc_and_those_of_other_messages_are_not() {
        for known in [
            "application/grpc",
            "Application/GRPC",
            "application/grpc+proto",
            "application/grpc ; a=b",
        ] {
            assert!(super::is_grpc(known.as_bytes()), "{known}");
        }
        for other in [
            "",
            "application/grpc-web",
            "application/grpc+json",
            "application/json",
            "application/grpcx",
        ] {
            assert!(!super::is_grpc(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        for coding in [Coding::Identity, Coding::Gzip] {
            let mut body = Vec::new();
            let texts = ["", "one", &"x".repeat(90)];
            for text in texts {
                body.extend(write(&text.to_owned(), coding).unwrap());
            }
            let mut body = &body[..];
            for text in texts {
                let (read, compressed): (String, bool) =
                    read(&mut body, coding, 100).unwrap().unwrap();
                assert_eq!((read.as_str(), compressed), (text, coding == Coding::Gzip));
            }
            assert!(read::<String>(&mut body, coding, 100).unwrap().is_none());
        }
    }

    #[test]
    fn what_is_no_message_is_told() {
        let claim = |length: u32| [&[0][..], &length.to_be_bytes()].concat();
        assert_eq!(code(&claim(101), Coding::Identity), Code::ResourceExhausted);
        assert_eq!(
            code(&claim(u32::MAX), Coding::Identity),
            Code::ResourceExhausted
        );
        assert_eq!(code(&claim(50), Coding::Identity), Code::Internal);
        assert_eq!(code(&[0, 0], Coding::Identity), Code::Internal);
        assert_eq!(code(&[7, 0, 0, 0, 0], Coding::Identity), Code::Internal);
        assert_eq!(code(&[1, 0, 0, 0, 0], Coding::Identity), Code::Internal);
        assert_eq!(code(&[1, 0, 0, 0, 1, 9], Coding::Gzip), Code::Internal);
        assert_eq!(
            code(&[0, 0, 0, 0, 1, 0xff], Coding::Identity),
            Code::Internal
        );
    }

    #[test]
    fn a_message_that_grows_beyond_the_limit_is_not_let_grow() {
        let bomb = write(&"x".repeat(1_000_000), Coding::Gzip).unwrap();
        let read = read::<String>(&mut &bomb[..], Coding::Gzip, 10_000);
        assert_eq!(read.unwrap_err().code(), Code::ResourceExhausted);
    }
}
