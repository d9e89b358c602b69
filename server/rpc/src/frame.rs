//! Frames as they travel: heads, bodies and what is wrong with them, without I/O. The book's chapter on RPC is the specification.

use bytes::{Buf, Bytes, BytesMut};

use crate::status::{Code, Status};

/// Bytes of a head.
pub(crate) const HEAD: usize = 16;

/// The version that is spoken here.
pub(crate) const VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"mrpc";

/// Frames smaller than this every peer takes.
pub(crate) const LEAST_FRAME: u32 = 1024;

/// Bytes of a name in a hello.
pub(crate) const LONGEST_NAME: usize = 255;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hello = 1,
    Request = 2,
    Response = 3,
    Message = 4,
    Window = 5,
    Cancel = 6,
    Ping = 7,
    Pong = 8,
    Goaway = 9,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Kind::Hello,
            2 => Kind::Request,
            3 => Kind::Response,
            4 => Kind::Message,
            5 => Kind::Window,
            6 => Kind::Cancel,
            7 => Kind::Ping,
            8 => Kind::Pong,
            9 => Kind::Goaway,
            _ => return None,
        })
    }

    /// The flags that it may have.
    fn flags(self) -> u8 {
        match self {
            Kind::Request => CHECKSUM | STREAM | IDEMPOTENT,
            Kind::Message => CHECKSUM | END,
            _ => CHECKSUM,
        }
    }
}

/// The last four bytes of the body are the CRC-32 of head and body before them.
pub(crate) const CHECKSUM: u8 = 1;
/// Of a request: messages come behind it.
pub(crate) const STREAM: u8 = 2;
/// Of a message: it is none, and none comes behind it.
pub(crate) const END: u8 = 4;
/// Of a request: it may be carried out twice.
pub(crate) const IDEMPOTENT: u8 = 8;

/// Which call a frame is about: a slot of the caller's, and how often that was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallId {
    pub(crate) slot: u32,
    pub(crate) serial: u32,
}

/// A frame as it came.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) call: CallId,
    /// Without the checksum.
    pub(crate) body: Bytes,
}

/// Why a connection ends, in its `GOAWAY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The sender is about to end.
    Leaving = 0,
    /// The peer sent what it may not.
    Protocol = 1,
    /// A frame is larger than the sender takes.
    TooLarge = 2,
    /// A checksum is another.
    Checksum = 3,
    /// No version is spoken by both.
    Version = 4,
}

/// What is wrong with what a peer sent. Its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) text: &'static str,
}

impl Fault {
    #[cold]
    pub(crate) fn protocol(text: &'static str) -> Self {
        Self {
            reason: Reason::Protocol,
            text,
        }
    }
}

/// Finds the frames in what comes, however it is cut.
#[derive(Debug)]
pub(crate) struct Inlet {
    /// All of it may be read to; the first `filled` bytes have come.
    buffer: BytesMut,
    filled: usize,
    max_frame: u32,
}

/// Bytes that are read at once; a larger frame gets memory of its own.
const CHUNK: usize = 32 * 1024;
/// With less room than this a read is not worth its call.
const LEAST_ROOM: usize = 2 * 1024;

impl Inlet {
    pub(crate) fn new(max_frame: u32) -> Self {
        Self {
            buffer: BytesMut::new(),
            filled: 0,
            max_frame,
        }
    }

    /// Where the next bytes are to go.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        // A head that was refused is never read on from.
        let wanted = match self.head_bytes() {
            Some(head) => HEAD.saturating_add(length_of(head).min(self.max_frame) as usize),
            None => 0,
        };
        let room = self.buffer.len() - self.filled;
        if self.buffer.len() < wanted || (wanted <= self.filled && room < LEAST_ROOM) {
            self.buffer.truncate(self.filled);
            let whole = wanted.max(CHUNK);
            if whole > CHUNK {
                // Zeros of the system's own, of which none is there before it is written to.
                let mut larger = BytesMut::zeroed(whole);
                larger[..self.filled].copy_from_slice(&self.buffer);
                self.buffer = larger;
            } else {
                // The same memory again, if all frames in it are gone.
                self.buffer.reserve(whole - self.filled);
                self.buffer.resize(whole, 0);
            }
        }
        &mut self.buffer[self.filled..]
    }

    /// So many bytes have come there.
    pub(crate) fn fill(&mut self, count: usize) {
        debug_assert!(self.filled + count <= self.buffer.len());
        self.filled += count;
    }

    /// All of these have come at once.
    pub(crate) fn take_whole(&mut self, bytes: &[u8]) {
        self.buffer.truncate(self.filled);
        self.buffer.extend_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// Whether a frame has begun.
    pub(crate) fn is_within(&self) -> bool {
        self.filled > 0
    }

    fn head_bytes(&self) -> Option<&[u8; HEAD]> {
        self.buffer[..self.filled].first_chunk()
    }

    /// The next frame, once all of it has come.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Fault> {
        let Some(head) = self.head_bytes().copied() else {
            return Ok(None);
        };
        let length = length_of(&head);
        let [_, _, _, _, kind, flags, zero, other_zero, ..] = head;
        let kind = Kind::of(kind).ok_or_else(|| Fault::protocol("a frame of no known kind"))?;
        if flags & !kind.flags() != 0 || zero != 0 || other_zero != 0 {
            return Err(Fault::protocol("flags that the frame cannot have"));
        }
        if length > self.max_frame {
            return Err(Fault {
                reason: Reason::TooLarge,
                text: "a frame that is larger than allowed",
            });
        }
        let whole = HEAD + length as usize;
        if self.filled < whole {
            return Ok(None);
        }
        let number =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let call = CallId {
            slot: number(8),
            serial: number(12),
        };
        self.filled -= whole;
        let mut body = self.buffer.split_to(whole).freeze();
        if flags & CHECKSUM != 0 {
            check(&mut body)?;
        }
        body.advance(HEAD);
        Ok(Some(Frame {
            kind,
            flags,
            call,
            body,
        }))
    }
}

fn length_of(head: &[u8; HEAD]) -> u32 {
    u32::from_be_bytes([head[0], head[1], head[2], head[3]])
}

/// Takes the checksum off a frame that has one.
fn check(frame: &mut Bytes) -> Result<(), Fault> {
    let at = frame.len() - 4;
    if at < HEAD {
        return Err(Fault::protocol("a checksum that has no room"));
    }
    if frame[at..] != crc32fast::hash(&frame[..at]).to_be_bytes() {
        return Err(Fault {
            reason: Reason::Checksum,
            text: "a frame that is not what was sent",
        });
    }
    frame.truncate(at);
    Ok(())
}

/// Frames that are to be written: their bytes, and attachments between these.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// Before which of `bytes` an attachment comes.
    pub(crate) parts: Vec<(usize, Bytes)>,
    attached: usize,
    /// How much is written already.
    pub(crate) written: usize,
}

/// Attachments that are smaller are copied.
const COPIED: usize = 1024;
/// Memory that is kept for the next frames.
const KEPT: usize = 64 * 1024;

/// How frames to a peer are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) max_frame: u32,
    pub(crate) checksums: bool,
}

/// A frame is larger than the peer takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooLarge;

impl From<TooLarge> for Status {
    fn from(_: TooLarge) -> Self {
        Status::new(Code::ResourceExhausted, "larger than the peer takes")
    }
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.attached - self.written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.parts.clear();
        (self.attached, self.written) = (0, 0);
    }

    /// Adds a frame, whose body `body` appends, but for the attachment behind it.
    pub(crate) fn push(
        &mut self,
        manner: Manner,
        (kind, flags, call): (Kind, u8, CallId),
        attachment: &Bytes,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLarge>,
    ) -> Result<(), TooLarge> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEAD]);
        let built = body(&mut self.bytes);
        let sum = if manner.checksums { 4 } else { 0 };
        let length = self.bytes.len() - start - HEAD + attachment.len() + sum;
        if built.is_err() || length > manner.max_frame as usize {
            self.bytes.truncate(start);
            return Err(TooLarge);
        }
        let flags = if manner.checksums {
            flags | CHECKSUM
        } else {
            flags
        };
        let head = &mut self.bytes[start..start + HEAD];
        head[..4].copy_from_slice(&(length as u32).to_be_bytes());
        head[4..6].copy_from_slice(&[kind as u8, flags]);
        head[8..12].copy_from_slice(&call.slot.to_be_bytes());
        head[12..].copy_from_slice(&call.serial.to_be_bytes());
        if manner.checksums {
            let mut crc = crc32fast::Hasher::new();
            crc.update(&self.bytes[start..]);
            crc.update(attachment);
            self.attach(attachment);
            self.bytes.extend_from_slice(&crc.finalize().to_be_bytes());
        } else {
            self.attach(attachment);
        }
        Ok(())
    }

    fn attach(&mut self, attachment: &Bytes) {
        if attachment.len() < COPIED {
            self.bytes.extend_from_slice(attachment);
        } else {
            self.parts.push((self.bytes.len(), attachment.clone()));
            self.attached += attachment.len();
        }
    }

    /// What is not written yet, in pieces, of which `take` is told until it wants no more.
    pub(crate) fn pieces<'a>(&'a self, mut take: impl FnMut(&'a [u8]) -> bool) {
        let (mut from, mut skip) = (0, self.written);
        let mut give = |piece: &'a [u8]| {
            let rest = &piece[skip.min(piece.len())..];
            skip -= piece.len() - rest.len();
            rest.is_empty() || take(rest)
        };
        for (at, part) in &self.parts {
            if !give(&self.bytes[from..*at]) || !give(part) {
                return;
            }
            from = *at;
        }
        give(&self.bytes[from..]);
    }
}

/// What each side says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u16,
    /// Whether it wants frames with checksums.
    pub(crate) checksums: bool,
    pub(crate) max_frame: u32,
    pub(crate) max_calls: u32,
    pub(crate) window: u32,
    pub(crate) name: String,
}

const HELLO: usize = 20;

impl Hello {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&u16::from(self.checksums).to_be_bytes());
        for number in [self.max_frame, self.max_calls, self.window] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let name = self.name.as_bytes();
        let length = name.len().min(LONGEST_NAME);
        out.push(length as u8);
        out.extend_from_slice(&name[..length]);
    }

    pub(crate) fn read(frame: &Frame) -> Result<Self, Fault> {
        if frame.kind != Kind::Hello {
            return Err(Fault::protocol("the first frame is no hello"));
        }
        let mut body = &frame.body[..];
        if body.len() <= HELLO || body[..4] != MAGIC {
            return Err(Fault::protocol("a hello of something else"));
        }
        body.advance(4);
        let (version, wishes) = (body.get_u16(), body.get_u16());
        let [max_frame, max_calls, window] = [body.get_u32(), body.get_u32(), body.get_u32()];
        let length = usize::from(body.get_u8());
        // What is behind the name a later version has put there.
        let name = body
            .get(..length)
            .ok_or_else(|| Fault::protocol("a hello that is cut"))?;
        if version == 0 {
            return Err(Fault {
                reason: Reason::Version,
                text: "version 0",
            });
        }
        if max_frame < LEAST_FRAME || window == 0 {
            return Err(Fault::protocol("limits too small to speak at all"));
        }
        // It is put into logs.
        let name = String::from_utf8_lossy(name);
        let name = name.chars().map(|c| if c.is_control() { '?' } else { c });
        Ok(Self {
            version,
            checksums: wishes & 1 != 0,
            max_frame,
            max_calls,
            window,
            name: name.collect(),
        })
    }
}

/// A body in parts: what is known of it, and the three that follow.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) metadata: Bytes,
    pub(crate) message: Bytes,
    pub(crate) attachment: Bytes,
}

/// Cuts what follows a head of a body.
fn parts(mut body: Bytes, metadata: usize, message: usize) -> Result<Parts, Fault> {
    if body.len() < metadata.saturating_add(message) {
        return Err(Fault::protocol("a body that is shorter than its parts"));
    }
    let mut metadata_bytes = Bytes::new();
    if metadata > 0 {
        metadata_bytes = body.split_to(metadata);
    }
    let mut attachment = Bytes::new();
    if body.len() > message {
        attachment = body.split_off(message);
    }
    Ok(Parts {
        metadata: metadata_bytes,
        message: body,
        attachment,
    })
}

const SHORT: &str = "a body that is too short";

/// The body of a request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Microseconds; 0 for none.
    pub(crate) timeout: u64,
    pub(crate) method: Bytes,
    pub(crate) parts: Parts,
}

impl Request {
    pub(crate) fn read(mut body: Bytes) -> Result<Self, Fault> {
        if body.len() < 16 {
            return Err(Fault::protocol(SHORT));
        }
        let timeout = body.get_u64();
        let (method, metadata) = (usize::from(body.get_u16()), usize::from(body.get_u16()));
        let message = body.get_u32() as usize;
        if body.len() < method {
            return Err(Fault::protocol(SHORT));
        }
        let method = body.split_to(method);
        Ok(Self {
            timeout,
            method,
            parts: parts(body, metadata, message)?,
        })
    }

    pub(crate) fn write(
        out: &mut Vec<u8>,
        timeout: u64,
        method: &str,
        metadata: &[u8],
        message: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), TooLarge> {
        let lengths = [method.len(), metadata.len()].map(u16::try_from);
        let [Ok(method_length), Ok(metadata_length)] = lengths else {
            return Err(TooLarge);
        };
        out.extend_from_slice(&timeout.to_be_bytes());
        out.extend_from_slice(&method_length.to_be_bytes());
        out.extend_from_slice(&metadata_length.to_be_bytes());
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(method.as_bytes());
        out.extend_from_slice(metadata);
        write_message(out, at, message)
    }
}

/// Appends a message, and puts its length where there is room for it.
fn write_message(
    out: &mut Vec<u8>,
    length_at: usize,
    message: impl FnOnce(&mut Vec<u8>),
) -> Result<(), TooLarge> {
    let from = out.len();
    message(out);
    let length = u32::try_from(out.len() - from).map_err(|_| TooLarge)?;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// The body of a response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) code: u8,
    pub(crate) parts: Parts,
}

impl Response {
    pub(crate) fn read(mut body: Bytes) -> Result<Self, Fault> {
        if body.len() < 8 {
            return Err(Fault::protocol(SHORT));
        }
        let code = body.get_u8();
        body.advance(1);
        let metadata = usize::from(body.get_u16());
        let message = body.get_u32() as usize;
        Ok(Self {
            code,
            parts: parts(body, metadata, message)?,
        })
    }

    pub(crate) fn write(
        out: &mut Vec<u8>,
        code: u8,
        metadata: &[u8],
        message: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), TooLarge> {
        let length = u16::try_from(metadata.len()).map_err(|_| TooLarge)?;
        out.extend_from_slice(&[code, 0]);
        out.extend_from_slice(&length.to_be_bytes());
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(metadata);
        write_message(out, at, message)
    }
}

/// Reads the body of a message of a stream.
pub(crate) fn read_message(mut body: Bytes) -> Result<Parts, Fault> {
    if body.len() < 4 {
        return Err(Fault::protocol(SHORT));
    }
    let message = body.get_u32() as usize;
    parts(body, 0, message)
}

/// Writes the body of a message of a stream.
pub(crate) fn write_stream_message(
    out: &mut Vec<u8>,
    message: impl FnOnce(&mut Vec<u8>),
) -> Result<(), TooLarge> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write_message(out, at, message)
}

/// Reads the body of a `WINDOW`.
pub(crate) fn read_window(body: &Bytes) -> Result<u32, Fault> {
    match <[u8; 4]>::try_from(&body[..]) {
        Ok(bytes) => Ok(u32::from_be_bytes(bytes)),
        Err(_) => Err(Fault::protocol("a window that is no number")),
    }
}

/// What is answered to a ping: the same eight bytes.
pub(crate) fn pong(body: &Bytes) -> Result<[u8; 8], Fault> {
    <[u8; 8]>::try_from(&body[..]).map_err(|_| Fault::protocol("a ping of other than eight bytes"))
}

/// The body of a `GOAWAY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goaway {
    /// Requests of this connection that are answered; of those behind them none was looked at.
    pub(crate) taken: u64,
    pub(crate) reason: u16,
    pub(crate) text: String,
}

impl Goaway {
    /// What is said first, while it is not known how many there will be.
    pub(crate) const SOON: u64 = u64::MAX;

    pub(crate) fn read(body: &Bytes) -> Result<Self, Fault> {
        let mut body = &body[..];
        if body.len() < 10 {
            return Err(Fault::protocol(SHORT));
        }
        let (taken, reason) = (body.get_u64(), body.get_u16());
        let text = String::from_utf8_lossy(&body[..body.len().min(LONGEST_NAME)]);
        let text = text.chars().map(|c| if c.is_control() { '?' } else { c });
        Ok(Self {
            taken,
            reason,
            text: text.collect(),
        })
    }

    pub(crate) fn write(out: &mut Vec<u8>, taken: u64, reason: Reason, text: &str) {
        out.extend_from_slice(&taken.to_be_bytes());
        out.extend_from_slice(&(reason as u16).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Manner = Manner {
        max_frame: 1 << 20,
        checksums: false,
    };
    const SUMMED: Manner = Manner {
        checksums: true,
        ..PLAIN
    };

    fn bytes_of(batch: &Batch) -> Vec<u8> {
        let mut all = Vec::new();
        batch.pieces(|piece| {
            all.extend_from_slice(piece);
            true
        });
        all
    }

    fn read_all(inlet: &mut Inlet, bytes: &[u8], step: usize) -> Result<Vec<Frame>, Fault> {
        let mut frames = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = inlet.room();
            let count = rest.len().min(step).min(room.len());
            room[..count].copy_from_slice(&rest[..count]);
            inlet.fill(count);
            rest = &rest[count..];
            while let Some(frame) = inlet.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    fn requests(manner: Manner) -> Batch {
        let mut batch = Batch::default();
        for number in 0..40_u32 {
            let attachment = Bytes::from(vec![number as u8; number as usize * 997]);
            let call = CallId {
                slot: number,
                serial: number * 3,
            };
            let text = "x".repeat(number as usize);
            let built = batch.push(manner, (Kind::Request, STREAM, call), &attachment, |out| {
                Request::write(out, 7, "/a.B/C", b"meta", |out| {
                    out.extend_from_slice(text.as_bytes())
                })
            });
            built.unwrap();
        }
        batch
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        for manner in [PLAIN, SUMMED] {
            let bytes = bytes_of(&requests(manner));
            for step in [1, 7, 1000, 100_000] {
                let frames = read_all(&mut Inlet::new(1 << 20), &bytes, step).unwrap();
                assert_eq!(frames.len(), 40);
                for (number, frame) in frames.into_iter().enumerate() {
                    assert_eq!(
                        (frame.kind, frame.flags & !CHECKSUM),
                        (Kind::Request, STREAM)
                    );
                    assert_eq!(
                        (frame.call.slot, frame.call.serial),
                        (number as u32, number as u32 * 3)
                    );
                    let request = Request::read(frame.body).unwrap();
                    assert_eq!((request.timeout, &request.method[..]), (7, &b"/a.B/C"[..]));
                    assert_eq!(&request.parts.metadata[..], b"meta");
                    assert_eq!(request.parts.message.len(), number);
                    let attachment = request.parts.attachment;
                    assert_eq!(attachment.len(), number * 997);
                    assert!(attachment.iter().all(|&byte| byte == number as u8));
                }
            }
        }
    }

    #[test]
    fn what_is_written_in_part_goes_on_where_it_was() {
        let mut batch = requests(PLAIN);
        let whole = bytes_of(&batch);
        for written in [0, 1, 15, 16, 17, 5_000, whole.len() - 1, whole.len()] {
            batch.written = written;
            assert_eq!(bytes_of(&batch), whole[written..]);
            assert_eq!(batch.len(), whole.len() - written);
        }
    }

    #[test]
    fn a_byte_that_changed_is_noticed_by_its_checksum() {
        let whole = bytes_of(&requests(SUMMED));
        // In a flag, a serial, a body and a checksum of the second frame.
        let second = HEAD + 16 + 6 + 4 + 4;
        for at in [second + 15, second + 20, second + 40] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let fault = read_all(&mut Inlet::new(1 << 20), &bytes, 1000).unwrap_err();
            assert_eq!(fault.reason, Reason::Checksum, "{at}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_before_its_body_comes() {
        let head = |length: u32, kind: u8, flags: u8, zero: u8| {
            let mut head = [0; HEAD];
            head[..4].copy_from_slice(&length.to_be_bytes());
            (head[4], head[5], head[7]) = (kind, flags, zero);
            head
        };
        let cases = [
            (head(1025, 2, 0, 0), Reason::TooLarge),
            (head(u32::MAX, 2, 0, 0), Reason::TooLarge),
            (head(0, 0, 0, 0), Reason::Protocol),
            (head(0, 10, 0, 0), Reason::Protocol),
            (head(0, 2, END, 0), Reason::Protocol),
            (head(0, 7, 128, 0), Reason::Protocol),
            (head(0, 7, 0, 1), Reason::Protocol),
            (head(3, 7, CHECKSUM, 0), Reason::Protocol),
        ];
        for (head, reason) in cases {
            let mut inlet = Inlet::new(1024);
            let bytes = [&head[..], &[0; 3]].concat();
            let fault = read_all(&mut inlet, &bytes, 1000).unwrap_err();
            assert_eq!(fault.reason, reason, "{head:?}");
        }
    }

    #[test]
    fn what_is_larger_than_the_peer_takes_is_not_sent() {
        let mut batch = Batch::default();
        let tight = Manner {
            max_frame: 100,
            ..PLAIN
        };
        let head = (Kind::Message, 0, CallId::default());
        let fits = batch.push(tight, head, &Bytes::new(), |out| {
            write_stream_message(out, |out| out.resize(out.len() + 96, 1))
        });
        assert!(fits.is_ok());
        let before = bytes_of(&batch);
        let beyond = batch.push(tight, head, &Bytes::from(vec![0; 50]), |out| {
            write_stream_message(out, |out| out.resize(out.len() + 47, 1))
        });
        assert!(beyond.is_err());
        assert_eq!(bytes_of(&batch), before);
    }

    #[test]
    fn a_hello_says_what_its_sender_takes() {
        let hello = Hello {
            version: VERSION,
            checksums: true,
            max_frame: 5000,
            max_calls: 7,
            window: 9,
            name: "billing".to_owned(),
        };
        let mut body = Vec::new();
        hello.write(&mut body);
        let frame = |body: Vec<u8>| Frame {
            kind: Kind::Hello,
            flags: 0,
            call: CallId::default(),
            body: body.into(),
        };
        assert_eq!(Hello::read(&frame(body.clone())).unwrap(), hello);
        let later = [&body[..], b"more"].concat();
        assert_eq!(Hello::read(&frame(later)).unwrap(), hello);
        for cut in 0..body.len() {
            assert!(Hello::read(&frame(body[..cut].to_vec())).is_err(), "{cut}");
        }
    }

    #[test]
    fn bodies_shorter_than_they_say_are_refused() {
        let body = bytes_of(&requests(PLAIN));
        for cut in 0..26 {
            assert!(Request::read(Bytes::copy_from_slice(&body[HEAD..HEAD + cut])).is_err());
        }
        let huge = [0, 0, 255, 255, 255, 255, 255, 255];
        assert!(Response::read(Bytes::copy_from_slice(&huge)).is_err());
        assert!(read_message(Bytes::copy_from_slice(&[255; 7])).is_err());
        assert!(read_window(&Bytes::copy_from_slice(&[1; 5])).is_err());
        assert!(Goaway::read(&Bytes::copy_from_slice(&[1; 9])).is_err());
    }
}
