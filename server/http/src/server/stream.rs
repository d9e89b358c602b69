//! Bodies that are sent as they are made: given by a reader, or written by a function.
//!
//! What of a body is in a file is sent by the kernel, where it can (sendfile(2)).
//!
//! What is made is collected in the connection's [`Out`](super::out::Out) as it is to go over the wire, so that the courier
//! can send it at any moment while users' code waits.

use std::{
    fs::File,
    io::{self, IoSliceMut, Read},
    mem,
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::FileExt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use maniple::panics;
use rustix::{
    fs::{Advice, fadvise},
    io::{Errno, ReadWriteFlags, preadv2},
};

use super::{answer::Way, faults::report_broken_body};
use crate::{
    http1::{
        conversation::{Ending, Sent},
        response::{Chunk, END_OF_TRAILERS, LAST_CHUNK, LAST_SIZE, append_trailer, write_chunk},
    },
    response::BodyKind,
    source::Source,
    writer::{BodyWriter, Flush, Sink, Tried},
};

/// A function's body is sent when so much of it is there.
const FULL: usize = 16 * 1024;

/// Sends a body as it is made; `asked` is that of the request. An error is the connection's.
#[cold]
pub(super) fn send(
    way: Way<'_>,
    body: &mut BodyKind,
    headers: Option<&HeaderMap>,
    ending: Ending,
    asked: &mut (dyn Read + Send),
) -> io::Result<Sent> {
    match body {
        BodyKind::Reader { reader, length } => send_read(way, &mut **reader, *length, ending),
        BodyKind::Writer { .. } => match mem::replace(body, BodyKind::Static(b"")) {
            BodyKind::Writer { write, length } => {
                send_written(way, headers, length, ending, |out| write(asked, out))
            }
            _ => Ok(Sent::Whole),
        },
        _ => Ok(Sent::Whole),
    }
}

/// Sends what a reader gives, each read at once.
fn send_read(
    way: Way<'_>,
    reader: &mut dyn Source,
    length: Option<u64>,
    ending: Ending,
) -> io::Result<Sent> {
    let mut buffer = Vec::new();
    let mut sent = 0;
    let mut by_kernel =
        matches!(ending, Ending::Length(_)) && way.connection.transport.sends_files();
    loop {
        if by_kernel && let Some((file, part)) = reader.in_file() {
            let file = file.clone();
            let wanted = (part.end - part.start).min(FILE_STEP);
            let count = send_of_file(way, &file, part.start..part.start + wanted)?;
            reader.pass(count);
            sent += count;
            // Where it did not send all of it, reading says why.
            by_kernel = count == wanted;
            maniple::yield_now();
            continue;
        }
        way.keep_back()?;
        if buffer.is_empty() {
            buffer.resize(reader.at_once(), 0);
        }
        let read = catch_unwind(AssertUnwindSafe(|| reader.read(&mut buffer)));
        let count = match read {
            Ok(Ok(0)) => break,
            Ok(Ok(count)) => count,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(Err(error)) => {
                report_broken_body(error);
                return Ok(Sent::cut(ending));
            }
            Err(panic) => {
                panics::discard(panic);
                return Ok(Sent::cut(ending));
            }
        };
        sent += count as u64;
        if ending == Ending::Chunked {
            write_chunk(&mut way.out.bytes(), &buffer[..count]);
            way.flush()?;
        } else {
            let body = &buffer[..count];
            way.out.flush_with(body, way.connection, way.stall)?;
        }
    }
    match ending {
        Ending::Chunked => {
            way.out.bytes().extend_from_slice(LAST_CHUNK);
            Ok(Sent::Whole)
        }
        Ending::Close => Ok(Sent::ThenClose),
        _ if length == Some(sent) => Ok(Sent::Whole),
        _ => Ok(Sent::Cut),
    }
}

/// Bytes of a file that are sent before others have their turn, for which they wait some 100 µs. With a quarter of it, a file
/// of 4 MiB costs about twice the CPU time (`compare http --tasks large-file`).
const FILE_STEP: u64 = 1024 * 1024;

/// Bytes of a file between two looks at whether it is in memory: the kernel reads at least as much at a time.
const LOOK: usize = 64 * 1024;

/// Bytes of a file that are read at a time where they are not in memory.
const READ_AHEAD: u64 = 1024 * 1024;

/// Has the kernel send a part of a file, behind what is collected; how much it sent, which is less than all where it cannot
/// or the file has no more.
fn send_of_file(way: Way<'_>, file: &Arc<File>, part: Range<u64>) -> io::Result<u64> {
    match is_in_memory(file, &part) {
        Some(true) => {}
        Some(false) => {
            // sendfile(2) would wait for the disk, and all of this worker with it.
            way.keep_back()?;
            let (file, part) = (file.clone(), part.start..part.start + READ_AHEAD);
            if maniple::fs::reading(move || read_ahead(&file, part)).is_err() {
                return Ok(0);
            }
        }
        None => return Ok(0),
    }
    way.flush()?;
    way.out.send_file(file, part, way.connection, way.stall)
}

/// Whether the kernel has those bytes of a file in memory, as far as it can be asked: it might have given up some between two
/// looks.
fn is_in_memory(file: &File, part: &Range<u64>) -> Option<bool> {
    let mut byte = [0];
    let looks = part.clone().step_by(LOOK).chain([part.end - 1]);
    for at in looks {
        let into = &mut [IoSliceMut::new(&mut byte)];
        match preadv2(file, into, at, ReadWriteFlags::NOWAIT) {
            // None where the file has become shorter.
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Some(false),
            // The kernel or the file system does not know that question.
            Err(_) => return None,
        }
    }
    Some(true)
}

/// Has the kernel read those bytes of a file, and more behind them.
fn read_ahead(file: &File, part: Range<u64>) -> io::Result<()> {
    let more = NonZeroU64::new(4 * READ_AHEAD);
    let _ = fadvise(file, part.start, more, Advice::WillNeed);
    let mut scratch = vec![0; LOOK];
    for at in part.step_by(LOOK) {
        if file.read_at(&mut scratch, at)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Sends what a function writes.
fn send_written(
    way: Way<'_>,
    headers: Option<&HeaderMap>,
    length: Option<u64>,
    ending: Ending,
    write: impl FnOnce(&mut BodyWriter<'_>) -> io::Result<()>,
) -> io::Result<Sent> {
    let mut written = Written {
        way,
        headers,
        ending,
        left: length,
        policy: Flush::default(),
        chunk: None,
        trailers: Vec::new(),
        failed: None,
    };
    // The head leaves, if the function waits.
    if let Err(error) = way.keep_back() {
        // Its destructor is users' code.
        panics::catch(move || drop(write));
        return Err(error);
    }
    let called = catch_unwind(AssertUnwindSafe(|| {
        write(&mut BodyWriter::new(&mut written))
    }));
    if let Some(error) = written.failed {
        // Whatever the function made of it, nothing more can be sent.
        return Err(error);
    }
    match called {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            report_broken_body(error);
            return Ok(Sent::cut(ending));
        }
        Err(panic) => {
            panics::discard(panic);
            return Ok(Sent::cut(ending));
        }
    }
    match ending {
        Ending::Chunked => {
            let mut output = way.out.bytes();
            output.extend_from_slice(LAST_SIZE);
            output.extend_from_slice(&written.trailers);
            output.extend_from_slice(END_OF_TRAILERS);
            Ok(Sent::Whole)
        }
        Ending::Close => Ok(Sent::ThenClose),
        _ if written.left == Some(0) => Ok(Sent::Whole),
        _ => Ok(Sent::Cut),
    }
}

/// A body while a function writes it.
struct Written<'a> {
    way: Way<'a>,
    headers: Option<&'a HeaderMap>,
    ending: Ending,
    /// Bytes that it must still have, if its length was told.
    left: Option<u64>,
    policy: Flush,
    /// The last chunk, while nothing of it can have left.
    chunk: Option<Chunk>,
    trailers: Vec<u8>,
    /// Why nothing more can be sent.
    failed: Option<io::Error>,
}

impl Written<'_> {
    /// Adds a part of at most [`FULL`] bytes to what is collected.
    fn collect(&mut self, part: &[u8]) -> usize {
        let mut output = self.way.out.bytes();
        match self.ending {
            Ending::Chunked => {
                let chunk = self.chunk.take().filter(|chunk| chunk.is_last_of(&output));
                self.chunk = Some(Chunk::append(chunk, &mut output, part));
            }
            _ => output.extend_from_slice(part),
        }
        output.len()
    }

    fn send(&mut self) -> io::Result<()> {
        let sent = self.way.flush();
        self.keep_failure(sent)
    }

    /// Lets what is collected leave by itself when it is time.
    fn leave_behind(&mut self, moment: Duration) -> io::Result<()> {
        let kept = self.way.keep_back_for(moment);
        self.keep_failure(kept)
    }

    fn keep_failure(&mut self, done: io::Result<()>) -> io::Result<()> {
        done.map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            // A wait that was cut short must look like one.
            let (kept, told) = match maniple::cancel::is_cancelled_error(&error) {
                true => (told, error),
                false => (error, told),
            };
            self.failed = Some(kept);
            told
        })
    }
}

impl Sink for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(error) = &self.failed {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        if let Some(left) = self.left {
            let after = left.checked_sub(bytes.len() as u64);
            self.left = Some(after.ok_or_else(|| {
                let text = "the body is longer than was told";
                io::Error::new(io::ErrorKind::InvalidInput, text)
            })?);
        }
        let full = match self.policy {
            Flush::Each => 1,
            Flush::Bytes(bytes) => bytes.clamp(1, FULL),
            Flush::After(_) => FULL,
        };
        let mut collected = 0;
        for part in bytes.chunks(FULL) {
            collected = self.collect(part);
            if collected >= full {
                self.send()?;
                collected = 0;
            }
        }
        match self.policy {
            Flush::After(moment) if collected > 0 => self.leave_behind(moment),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.failed {
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
            None => self.send(),
        }
    }

    fn try_send(&mut self, bytes: &[u8]) -> io::Result<Tried> {
        if self.failed.is_some() || self.left.is_some() || bytes.len() > FULL {
            return Ok(Tried::Not);
        }
        self.collect(bytes);
        match self.way.out.try_flush(self.way.connection) {
            Ok(true) => Ok(Tried::Sent),
            Ok(false) => {
                // Some of it may have left.
                self.chunk = None;
                Ok(Tried::Taken)
            }
            Err(error) => self.keep_failure(Err(error)).map(|()| Tried::Taken),
        }
    }

    fn set_policy(&mut self, policy: Flush) {
        self.policy = policy;
    }

    fn trailer(&mut self, name: HeaderName, value: HeaderValue) -> io::Result<()> {
        let appended = append_trailer(&mut self.trailers, self.headers, &name, &value);
        appended.map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}
