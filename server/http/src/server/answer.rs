//! The sending side of a connection that is served: how an answer is put on its way.
//!
//! A head and a short body are collected in the connection's [`Out`], a long one is written behind what is there. One that
//! is made meanwhile is [`stream`](super::stream)'s.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use http::StatusCode;

use super::{date, out::Out, state::Connection, usual};
use crate::{
    http1::{
        conversation::{Content, Ending, Sent, connection_option},
        response::{Extra, Head, UsualHead, write_head},
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

    /// Keeps answers back like [`keep_back`](Self::keep_back), for so long.
    #[cold]
    pub(super) fn keep_back_for(self, moment: Duration) -> io::Result<()> {
        if self.out.is_kept_back() || self.out.keep_back_for(self.connection, moment) {
            return Ok(());
        }
        self.flush()
    }

    /// Appends a response whose body is there.
    #[inline(always)]
    pub(super) fn send(
        self,
        response: &Response,
        extra: Extra<'_>,
        keep: bool,
        asked: Asked,
    ) -> io::Result<Sent> {
        let mut output = self.out.bytes();
        let bytes = response.body.bytes();
        if let (Some(content_type), Some(bytes)) = (response.content_type, bytes)
            && response.status == StatusCode::OK
            && (bytes.len() as u64) < UsualHead::LONGEST
            && (keep && asked.http_11 && !asked.of_head)
            && extra.map.is_none()
        {
            let head = UsualHead {
                content_type,
                length: bytes.len() as u64,
                id: extra.id,
            };
            usual::write(&mut output, head);
            output.extend_from_slice(bytes);
            if output.len() > MAX_OUTPUT {
                drop(output);
                self.flush()?;
            }
            return Ok(Sent::Whole);
        }
        let (ending, has_body) = append_head(&mut output, response, extra, keep, asked);
        match bytes {
            Some(bytes) if has_body => {
                if bytes.len() > COPIED_BODY {
                    drop(output);
                    self.out.flush_with(bytes, self.connection, self.stall)?;
                    return Ok(Sent::Whole);
                }
                output.extend_from_slice(bytes);
                if output.len() > MAX_OUTPUT {
                    drop(output);
                    self.flush()?;
                }
                Ok(Sent::Whole)
            }
            _ => Ok(Sent::all(ending)),
        }
    }

    /// Appends the head of a response; how its body ends, and whether it is sent.
    pub(super) fn append_head(
        self,
        response: &Response,
        keep: bool,
        asked: Asked,
    ) -> (Ending, bool) {
        let extra = response.extra();
        append_head(&mut self.out.bytes(), response, extra, keep, asked)
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
                extra: response.extra(),
                ending: Ending::NoBody,
                connection: None,
            },
        );
        date::end_head(&mut output);
        drop(output);
        self.flush()
    }
}

/// Appends the head of a response to what is collected; how its body ends, and whether it is sent.
#[inline(never)]
fn append_head(
    output: &mut Vec<u8>,
    response: &Response,
    extra: Extra<'_>,
    keep: bool,
    asked: Asked,
) -> (Ending, bool) {
    let content = Content {
        status: response.status,
        headers: extra.map,
        length: match &response.body.kind {
            BodyKind::Reader { length, .. } | BodyKind::Writer { length, .. } => *length,
            _ => response.body.bytes().map(|bytes| bytes.len() as u64),
        },
        of_head: asked.of_head,
        http_11: asked.http_11,
    };
    let (ending, has_body) = content.ending();
    write_head(
        output,
        &Head {
            status: response.status,
            content_type: response.content_type,
            extra,
            ending,
            connection: connection_option(keep, asked.http_11, ending),
        },
    );
    date::end_head(output);
    (ending, has_body)
}
