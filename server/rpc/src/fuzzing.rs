//! For the fuzzer: any bytes of a peer's as frames, and any bytes of a file's as a recording.

use crate::{
    frame::{self, Frame, Goaway, Hello, Inlet, Kind, Request, Response},
    recording::{Reader, Unread},
};

/// Reads what came as frames, cut into steps, and each body as what it says that it is: nothing panics, no limit is passed,
/// and how the bytes are cut makes no difference.
#[doc(hidden)]
pub fn frames(bytes: &[u8], step: usize) {
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, step.max(1)), whole);
}

/// Reads a file as a recording, in steps of so many bytes: nothing panics, and how it is read makes no difference.
#[doc(hidden)]
pub fn recording(bytes: &[u8], step: usize) {
    assert_eq!(records(bytes, step.max(1)), records(bytes, usize::MAX));
}

/// The records in words, and what was wrong.
fn records(mut bytes: &[u8], step: usize) -> Vec<String> {
    let source = |out: &mut [u8]| {
        let count = bytes.len().min(step).min(out.len());
        out[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        Ok(count)
    };
    let told = |unread| match unread {
        Unread::Damaged(damaged) => damaged.to_string(),
        Unread::Io(error) => error.to_string(),
    };
    let mut seen = Vec::new();
    let mut reader = match Reader::open(source) {
        Ok(reader) => reader,
        Err(unread) => return vec![told(unread)],
    };
    loop {
        match reader.next() {
            Ok(Some(record)) => seen.push(format!("{record:?}")),
            Ok(None) => return seen,
            Err(unread) => {
                seen.push(told(unread));
                return seen;
            }
        }
    }
}

const LIMIT: u32 = 4096;

/// The frames in words, and whether there was a fault.
fn read(bytes: &[u8], step: usize) -> Vec<String> {
    let mut inlet = Inlet::new(LIMIT);
    let (mut rest, mut seen) = (bytes, Vec::new());
    loop {
        match inlet.next() {
            Ok(Some(frame)) => {
                assert!(frame.body.len() <= LIMIT as usize);
                seen.push(tell(frame));
                continue;
            }
            Ok(None) => {}
            Err(fault) => {
                seen.push(fault.text.to_owned());
                return seen;
            }
        }
        if rest.is_empty() {
            return seen;
        }
        let room = inlet.room();
        assert!(!room.is_empty());
        let count = rest.len().min(step).min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        inlet.fill(count);
        rest = &rest[count..];
    }
}

fn tell(frame: Frame) -> String {
    let told = match frame.kind {
        Kind::Hello => Hello::read(&frame).map(|read| format!("{read:?}")),
        Kind::Request => Request::read(frame.body).map(|read| {
            let metadata = crate::Metadata::read(read.parts.metadata.clone());
            format!("{read:?} {metadata:?}")
        }),
        Kind::Response => Response::read(frame.body).map(|read| format!("{read:?}")),
        Kind::Message => frame::read_message(frame.body).map(|read| format!("{read:?}")),
        Kind::Window => frame::read_window(&frame.body).map(|read| format!("{read:?}")),
        Kind::Goaway => Goaway::read(&frame.body).map(|read| format!("{read:?}")),
        Kind::Cancel | Kind::Ping | Kind::Pong => Ok(format!("{frame:?}")),
    };
    told.unwrap_or_else(|fault| fault.text.to_owned())
}
