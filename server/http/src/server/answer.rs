//! The sending side of a connection that is served: how an answer is put on its way.
//!
//! A head and a short body are collected in the connection's [`Out`], a long one is written behind what is there, and
//! one that a handler's reader gives is sent as it is read.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use maniple::panics;

use super::{date, faults::report_broken_body, out::Out, state::Connection};
use crate::{
    http1::{
        conversation::{Content, Ending, Sent, connection_option},
        response::{Head, LAST_CHUNK, write_chunk, write_head},
    },
    response::{BodyKind, Response},
};

/// The way out of a connection.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) out: &'a Rc<Out>,
    pub(super) connection: &'a Arc<Connection>,
    /// How long the client may take nothing.
    pub(super) stall: Duration,
}

/// What an answer must know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) of_head: bool,
    pub(super) http_11: bool,
}

/// Answers are collected up to this before they are sent, when requests come faster than that.
const MAX_OUTPUT: usize = 64 * 1024;

/// Bodies up to this are copied behind their head, to leave in the same write.
const COPIED_BODY: usize = 16 * 1024;

/// Read at a time of a body that a handler's reader gives.
const STREAM_READ: usize = 16 * 1024;

impl Way<'_> {
    /// Sends what has been collected.
    #[inline]
    pub(super) fn flush(self) -> io::Result<()> {
        self.out.flush(self.connection, self.stall)
    }

    /// Lets what has been collected leave while users' code runs, if that waits.
    #[inline]
    pub(super) fn keep_back(self) -> io::Result<()> {
        if self.out.is_kept_back() || self.out.keep_back(self.connection) {
            return Ok(());
        }
        self.flush()
    }

    /// Appends a response.
    #[inline(always)]
    pub(super) fn send(
        self,
        response: &mut Response,
        keep: bool,
        asked: Asked,
    ) -> io::Result<Sent> {
        let content = Content {
            status: response.status,
            headers: response.headers.as_deref(),
            length: match &response.body.kind {
                BodyKind::Reader { length, .. } => *length,
                _ => response.body.bytes().map(|bytes| bytes.len() as u64),
            },
            of_head: asked.of_head,
            http_11: asked.http_11,
        };
        let (ending, has_body) = content.ending();
        let mut output = self.out.bytes();
        write_head(
            &mut output,
            &Head {
                status: response.status,
                content_type: response.content_type,
                headers: response.headers.as_deref(),
                ending,
                connection: connection_option(keep, asked.http_11, ending),
            },
        );
        date::end_head(&mut output);
        if !has_body {
            return Ok(Sent::all(ending));
        }
        match response.body.bytes() {
            Some(bytes) if bytes.len() <= COPIED_BODY => {
                output.extend_from_slice(bytes);
                if output.len() > MAX_OUTPUT {
                    drop(output);
                    self.flush()?;
                }
                Ok(Sent::Whole)
            }
            Some(bytes) => {
                drop(output);
                self.out.flush_with(bytes, self.connection, self.stall)?;
                Ok(Sent::Whole)
            }
            None => {
                drop(output);
                self.stream_body(&mut response.body.kind, ending)
            }
        }
    }

    /// Sends a head behind which the bytes are no longer HTTP's (RFC 9110, 7.8 and 9.3.6).
    #[cold]
    pub(super) fn send_last_head(self, response: &Response) -> io::Result<()> {
        let mut output = self.out.bytes();
        write_head(
            &mut output,
            &Head {
                status: response.status,
                content_type: None,
                headers: response.headers.as_deref(),
                ending: Ending::NoBody,
                connection: None,
            },
        );
        date::end_head(&mut output);
        drop(output);
        self.flush()
    }

    /// Sends a body as its reader gives it.
    #[cold]
    fn stream_body(self, body: &mut BodyKind, ending: Ending) -> io::Result<Sent> {
        let BodyKind::Reader { reader, length } = body else {
            return Ok(Sent::Whole);
        };
        let mut buffer = vec![0; STREAM_READ];
        let mut sent = 0;
        loop {
            self.keep_back()?;
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
            {
                let mut output = self.out.bytes();
                match ending {
                    Ending::Chunked => write_chunk(&mut output, &buffer[..count]),
                    _ => output.extend_from_slice(&buffer[..count]),
                }
            }
            self.flush()?;
        }
        match ending {
            Ending::Chunked => {
                self.out.bytes().extend_from_slice(LAST_CHUNK);
                Ok(Sent::Whole)
            }
            Ending::Close => Ok(Sent::ThenClose),
            _ if *length == Some(sent) => Ok(Sent::Whole),
            _ => Ok(Sent::Cut),
        }
    }
}
