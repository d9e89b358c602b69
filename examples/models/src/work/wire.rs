//! A client's connection, for code that must not block.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use super::{Answer, Request, request::LONGEST_HEAD};

/// The connection, what has come in and what is to go out. One request is under way at a time; what a client sends
/// meanwhile waits, first here, then in the kernel.
///
/// Its owner does the same in every model: [`read`](Self::read) when told that it is readable (or when asked
/// to look), [`request`](Self::request) for a request, [`answer`](Self::answer), [`write`](Self::write), and drops it when it is
/// [`finished`](Self::finished).
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// A request was handed out and is not yet answered.
    busy: bool,
    /// The client has said that it sends no more.
    ended: bool,
    /// The last request asked for the connection's end.
    closes: bool,
    /// What the client still sends is of no interest, but must be read: closing a socket with unread bytes resets the
    /// connection, and the client might lose the answer that says what was wrong.
    lingers: bool,
    /// How many bytes that was so far.
    thrown_away: usize,
}

/// How much is thrown away before a client has had its chance.
const LONGEST_LINGER: usize = 1024 * 1024;

/// With so many bytes unsent no more is read: what a client that never reads may cost.
const LONGEST_BACKLOG: usize = 64 * 1024;

impl Wire {
    /// Over a connection just accepted, which becomes non-blocking.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            unsent: Vec::new(),
            busy: false,
            ended: false,
            closes: false,
            lingers: false,
            thrown_away: 0,
        })
    }

    /// Takes what has arrived, until there is no more or as much as a request may have. True in the second case: there
    /// may be more then, of which no further event will tell.
    ///
    /// First writes what is unsent: a client that does not read its answers is not read from either.
    pub fn read(&mut self) -> io::Result<bool> {
        self.write()?;
        let mut chunk = [0; 2048];
        while self.wants_read() {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(count) if self.lingers => {
                    self.thrown_away += count;
                    self.ended = self.thrown_away > LONGEST_LINGER;
                }
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(!self.ended)
    }

    /// The next request, if it is complete and the one before is answered.
    pub fn request(&mut self) -> Option<Request> {
        if self.busy || self.closes {
            return None;
        }
        let request = Request::take(&mut self.received)?;
        self.busy = true;
        self.closes = request.closes;
        self.lingers = request.is_broken();
        Some(request)
    }

    /// Notes the answer to the request that is under way, to be written.
    pub fn answer(&mut self, answer: &Answer) {
        answer.write_to(self.closes, &mut self.unsent);
        self.busy = false;
    }

    /// Writes as much as the kernel takes.
    pub fn write(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.lingers && !self.busy && !self.wants_write() {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Whether there is a use for more bytes from the client.
    pub fn wants_read(&self) -> bool {
        let has_room = self.received.len() < LONGEST_HEAD && self.unsent.len() < LONGEST_BACKLOG;
        !self.ended && (self.lingers || !self.closes && has_room)
    }

    /// Whether there are bytes that the kernel has not yet taken.
    pub fn wants_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether nothing is left to be done: the client sends no more, or the last answer has been given.
    pub fn finished(&self) -> bool {
        let over = self.ended || self.closes && !self.lingers;
        over && !self.busy && self.unsent.is_empty()
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}
