//! A request on its way over a connection of HTTP/1.1.

use std::io;

use bytes::Bytes;

use super::{
    head::{Outgoing, write_head},
    manner::Manner,
};
use crate::transport::Transport;

/// Bodies up to this are copied behind their head, and so is the beginning of longer ones.
const COPIED_BODY: usize = 4 * 1024;

/// A request on its way.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// The head, and the beginning of the body.
    pub(super) start: Vec<u8>,
    /// What follows of the body.
    pub(super) rest: Bytes,
    /// So much of both has been sent.
    pub(super) sent: usize,
    /// The server takes no more; it may have answered before.
    pub(super) refused: Option<io::ErrorKind>,
    /// The body is not sent before the server says that it wants it.
    pub(super) withheld: bool,
}

impl Sending {
    pub(super) fn load(&mut self, request: &Outgoing<'_>, manner: &Manner) {
        self.load_head(request, manner);
        let copied = request.body.len().min(COPIED_BODY);
        self.start.extend_from_slice(&request.body[..copied]);
        self.rest = request.body.slice(copied..);
    }

    pub(super) fn load_head(&mut self, request: &Outgoing<'_>, manner: &Manner) {
        self.start.clear();
        write_head(&mut self.start, request, manner);
        self.rest = Bytes::new();
        (self.sent, self.refused, self.withheld) = (0, None, false);
    }

    /// What follows a head that has been sent.
    pub(super) fn load_body(&mut self, request: &Outgoing<'_>) {
        self.start.clear();
        self.sent = 0;
        self.rest = request.body.clone();
    }

    /// Whether nothing more is to be sent.
    pub(super) fn is_over(&self) -> bool {
        self.unsent().is_empty()
    }

    pub(super) fn unsent(&self) -> &[u8] {
        match self.sent.checked_sub(self.start.len()) {
            Some(sent) => &self.rest[sent..],
            None => &self.start[self.sent..],
        }
    }

    /// Nothing more is sent; the connection may be kept for long.
    pub(super) fn let_go(&mut self) {
        self.rest = Bytes::new();
        self.sent = self.start.len();
    }

    /// Sends what there is room for; whether there was any.
    pub(super) fn advance(&mut self, stream: &Transport) -> io::Result<bool> {
        if self.is_over() && stream.unsent() == 0 {
            return Ok(false);
        }
        match stream.try_write(self.unsent()) {
            Ok(count) => {
                self.sent += count;
                if self.unsent().is_empty() {
                    self.let_go();
                }
                Ok(true)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(false),
                // It may have answered and closed before it had read everything.
                kind @ (io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    self.refused = Some(kind);
                    self.let_go();
                    Ok(false)
                }
                _ => Err(error),
            },
        }
    }
}
