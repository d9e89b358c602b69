//! A recording as it lies in a file: records with times, each with a checksum. The book's chapter on RPC is the specification.

use std::{error::Error, fmt, io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{CHECKSUM, CallId, Fault, Frame, HEAD, Inlet, Kind};

/// What a recording begins with.
pub(crate) const MAGIC: [u8; 8] = *b"mrpcfile";
/// The version that is written, and the highest that is read.
pub(crate) const VERSION: u16 = 1;
/// Bytes before the first record.
pub(crate) const FILE_HEAD: usize = 24;
/// Bytes before the body of each record.
pub(crate) const RECORD_HEAD: usize = 24;
/// A longer body is none: the longest frame, and more.
const LONGEST: usize = u32::MAX as usize / 2;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// One record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Since the recording began.
    pub(crate) at: Duration,
    pub(crate) connection: u32,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A connection, by the addresses of its ends.
    Begun {
        client: String,
        server: String,
    },
    Frame(Way, Frame),
    /// The connection has ended.
    Ended,
    /// So many frames were not recorded here.
    LeftOut(u64),
    /// The recording was ended: nothing is behind this.
    End,
}

impl What {
    fn number(&self) -> u8 {
        match self {
            What::Begun { .. } => 1,
            What::Frame(Way::ToServer, _) => 2,
            What::Frame(Way::ToClient, _) => 3,
            What::Ended => 4,
            What::LeftOut(_) => 5,
            What::End => 6,
        }
    }
}

/// What a file begins with. `began` is in microseconds since the beginning of 1970.
pub(crate) fn file_head(began: u64) -> [u8; FILE_HEAD] {
    let mut head = [0; FILE_HEAD];
    head[..8].copy_from_slice(&MAGIC);
    head[8..10].copy_from_slice(&VERSION.to_be_bytes());
    head[16..].copy_from_slice(&began.to_be_bytes());
    head
}

/// Appends a record that is no frame.
pub(crate) fn write(out: &mut Vec<u8>, record: &Record) {
    let number = record.what.number();
    write_body(
        out,
        number,
        record.at,
        record.connection,
        |out| match &record.what {
            What::Begun { client, server } => {
                let client = &client.as_bytes()[..client.len().min(255)];
                out.push(client.len() as u8);
                out.extend_from_slice(client);
                out.extend_from_slice(server.as_bytes());
            }
            What::LeftOut(frames) => out.extend_from_slice(&frames.to_be_bytes()),
            What::Frame(_, frame) => {
                out.extend_from_slice(&frame_head(
                    frame.kind,
                    frame.flags,
                    frame.call,
                    frame.body.len(),
                ));
                out.extend_from_slice(&frame.body);
            }
            What::Ended | What::End => {}
        },
    );
}

/// Appends a frame, whose body lies in these pieces.
pub(crate) fn write_frame(
    out: &mut Vec<u8>,
    (way, at, connection): (Way, Duration, u32),
    (kind, flags, call): (Kind, u8, CallId),
    body: [&[u8]; 2],
) {
    let number = match way {
        Way::ToServer => 2,
        Way::ToClient => 3,
    };
    write_body(out, number, at, connection, |out| {
        out.extend_from_slice(&frame_head(
            kind,
            flags,
            call,
            body[0].len() + body[1].len(),
        ));
        body.iter().for_each(|piece| out.extend_from_slice(piece));
    });
}

/// The head that a frame has without a checksum.
fn frame_head(kind: Kind, flags: u8, call: CallId, length: usize) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&(length as u32).to_be_bytes());
    head[4..6].copy_from_slice(&[kind as u8, flags & !CHECKSUM]);
    head[8..12].copy_from_slice(&call.slot.to_be_bytes());
    head[12..].copy_from_slice(&call.serial.to_be_bytes());
    head
}

fn write_body(
    out: &mut Vec<u8>,
    number: u8,
    at: Duration,
    connection: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[number, 0, 0, 0]);
    let micros = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
    out.extend_from_slice(&micros.to_be_bytes());
    out.extend_from_slice(&connection.to_be_bytes());
    body(out);
    let length = (out.len() - start - RECORD_HEAD) as u32;
    let sum = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&sum.to_be_bytes());
}

/// Why a recording cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// How many records are whole.
    pub records: u64,
    /// The byte of the file at which the first begins that is not.
    pub at: u64,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, at, what } = self;
        write!(f, "{what}, at byte {at}, behind {records} whole records")
    }
}

impl Error for Damaged {}

/// Why there is no next record.
#[derive(Debug)]
pub(crate) enum Unread {
    Io(io::Error),
    Damaged(Damaged),
}

/// Reads records from what gives the bytes of a file, in order.
pub(crate) struct Reader<R> {
    source: R,
    buffer: BytesMut,
    /// Where the buffer begins, in the file.
    at: u64,
    records: u64,
    is_over: bool,
}

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

impl<R: FnMut(&mut [u8]) -> io::Result<usize>> Reader<R> {
    /// Reads the head of the file.
    pub(crate) fn open(source: R) -> Result<Self, Unread> {
        let mut reader = Self {
            source,
            buffer: BytesMut::new(),
            at: 0,
            records: 0,
            is_over: false,
        };
        if !reader.fill(FILE_HEAD)? {
            return Err(reader.damaged("this is no recording: it is too short"));
        }
        if reader.buffer[..8] != MAGIC {
            return Err(reader.damaged("this is no recording"));
        }
        let version = u16::from_be_bytes([reader.buffer[8], reader.buffer[9]]);
        if version != VERSION {
            return Err(reader.damaged("a recording of another version"));
        }
        reader.take(FILE_HEAD);
        Ok(reader)
    }

    /// The next record; none behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Unread> {
        if self.is_over {
            return match self.fill(1)? {
                true => Err(self.damaged("something is behind its end")),
                false => Ok(None),
            };
        }
        if !self.fill(RECORD_HEAD)? {
            return Err(self.damaged(match self.buffer.is_empty() {
                true => "it has no end: who wrote it was not ended in order",
                false => "it is cut within a record",
            }));
        }
        let length = (&self.buffer[..]).get_u32() as usize;
        if length > LONGEST {
            return Err(self.damaged("a record that is longer than any"));
        }
        let whole = RECORD_HEAD + length;
        if !self.fill(whole)? {
            return Err(self.damaged("it is cut within a record"));
        }
        let sum = (&self.buffer[4..]).get_u32();
        if crc32fast::hash(&self.buffer[8..whole]) != sum {
            return Err(self.damaged("a record that is not what was written"));
        }
        let bytes = self.buffer.split_to(whole).freeze();
        let record = read(bytes).map_err(|what| self.damaged(what))?;
        self.at += whole as u64;
        self.records += 1;
        self.is_over = matches!(record.what, What::End);
        Ok(Some(record))
    }

    /// How many records there were.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    fn take(&mut self, count: usize) {
        self.buffer.advance(count);
        self.at += count as u64;
    }

    /// Whether there are so many bytes.
    fn fill(&mut self, count: usize) -> Result<bool, Unread> {
        while self.buffer.len() < count {
            let filled = self.buffer.len();
            // As it comes, so that a length that is wrong costs no memory.
            self.buffer.resize(filled + CHUNK, 0);
            let read = (self.source)(&mut self.buffer[filled..]);
            self.buffer
                .truncate(filled + read.as_ref().map_or(0, |&read| read));
            if read.map_err(Unread::Io)? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn damaged(&self, what: &'static str) -> Unread {
        Unread::Damaged(Damaged {
            records: self.records,
            at: self.at,
            what,
        })
    }
}

fn read(mut bytes: Bytes) -> Result<Record, &'static str> {
    const UNKNOWN: &str = "a record of no known kind";
    bytes.advance(8);
    let number = bytes.get_u8();
    bytes.advance(3);
    let (micros, connection) = (bytes.get_u64(), bytes.get_u32());
    let what = match number {
        1 => {
            const CUT: &str = "addresses that are cut";
            let (&length, rest) = bytes.split_first().ok_or(CUT)?;
            let (client, server) = rest.split_at_checked(length.into()).ok_or(CUT)?;
            let [client, server] =
                [client, server].map(|text| String::from_utf8_lossy(text).into());
            What::Begun { client, server }
        }
        2 => What::Frame(Way::ToServer, frame(&bytes)?),
        3 => What::Frame(Way::ToClient, frame(&bytes)?),
        4 => What::Ended,
        5 if bytes.len() == 8 => What::LeftOut(bytes.get_u64()),
        6 => What::End,
        _ => return Err(UNKNOWN),
    };
    Ok(Record {
        at: Duration::from_micros(micros),
        connection,
        what,
    })
}

/// A frame is read as a connection's are.
fn frame(bytes: &Bytes) -> Result<Frame, &'static str> {
    let mut inlet = Inlet::new(u32::MAX);
    inlet.take_whole(bytes);
    match inlet.next() {
        Ok(Some(frame)) if !inlet.is_within() => Ok(frame),
        Ok(_) => Err("a frame of another length"),
        Err(Fault { text, .. }) => Err(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(mut bytes: &[u8], step: usize) -> impl FnMut(&mut [u8]) -> io::Result<usize> {
        move |out| {
            let count = bytes.len().min(step).min(out.len());
            out[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            Ok(count)
        }
    }

    fn some() -> Vec<u8> {
        let mut bytes = file_head(7).to_vec();
        let mut add = |millis, what| {
            let record = Record {
                at: Duration::from_millis(millis),
                connection: 3,
                what,
            };
            write(&mut bytes, &record);
        };
        add(
            0,
            What::Begun {
                client: "a:1".to_owned(),
                server: "b:2".to_owned(),
            },
        );
        for number in 0..5 {
            let frame = Frame {
                kind: Kind::Cancel,
                flags: 0,
                call: CallId {
                    slot: number,
                    serial: 9,
                },
                body: Bytes::new(),
            };
            add(number.into(), What::Frame(Way::ToServer, frame));
        }
        add(6, What::LeftOut(17));
        add(7, What::Ended);
        add(8, What::End);
        bytes
    }

    fn read_all(bytes: &[u8], step: usize) -> Result<Vec<String>, Damaged> {
        let damaged = |unread| match unread {
            Unread::Damaged(damaged) => damaged,
            Unread::Io(error) => panic!("{error}"),
        };
        let mut reader = Reader::open(source(bytes, step)).map_err(damaged)?;
        let mut all = Vec::new();
        while let Some(record) = reader.next().map_err(damaged)? {
            all.push(format!("{record:?}"));
        }
        Ok(all)
    }

    #[test]
    fn records_come_out_as_they_went_in_however_they_are_read() {
        let bytes = some();
        let all = read_all(&bytes, usize::MAX).unwrap();
        assert_eq!(all.len(), 9);
        assert!(
            all[5].contains("slot: 4") && all[5].contains("4ms"),
            "{}",
            all[5]
        );
        assert!(all[6].contains("LeftOut(17)"));
        for step in [1, 7, 100] {
            assert_eq!(read_all(&bytes, step).unwrap(), all);
        }
    }

    #[test]
    fn a_recording_that_is_cut_anywhere_says_where() {
        let bytes = some();
        for cut in 0..bytes.len() {
            let damaged = read_all(&bytes[..cut], usize::MAX).unwrap_err();
            assert!(damaged.at <= cut as u64, "{damaged}");
            let is_between = damaged.at == cut as u64 && cut > 0;
            assert_eq!(
                damaged.what.contains("no end"),
                is_between,
                "{cut}: {damaged}"
            );
        }
        let behind = [&bytes[..], b"x"].concat();
        let damaged = read_all(&behind, usize::MAX).unwrap_err();
        assert_eq!((damaged.records, damaged.at), (9, bytes.len() as u64));
    }

    #[test]
    fn a_recording_in_which_any_byte_changed_says_where() {
        let whole = some();
        // What is zero, and when it began, is not looked at.
        for at in (0..10).chain(FILE_HEAD..whole.len()) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            let damaged = read_all(&bytes, usize::MAX).unwrap_err();
            assert!(damaged.at <= at as u64, "{at}: {damaged}");
        }
    }
}
