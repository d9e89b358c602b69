//! Connections to be used again, the latest first, and one exchange over one of them.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
};

use http::Method;
use maniple::{net::TcpStream, sync::Mutex};

use super::{ClientError, response::ResponseHead};

/// Idle connections by host and port.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<HashMap<String, Vec<Pooled>>>,
    per_host: usize,
}

/// A connection, and what has been received but not used.
#[derive(Debug)]
pub(super) struct Pooled {
    pub(super) host: String,
    pub(super) stream: TcpStream,
    pub(super) received: Vec<u8>,
    pub(super) was_kept: bool,
}

/// Why an exchange failed, and whether the request may be repeated.
pub(super) struct Failed {
    pub(super) error: ClientError,
    pub(super) nothing_came: bool,
}

/// A response's head may take this much.
const MAX_HEAD: usize = 64 * 1024;

const READ: usize = 4 * 1024;

impl Pool {
    pub(super) fn new(per_host: usize) -> Self {
        Self {
            idle: Mutex::new(HashMap::new()),
            per_host,
        }
    }

    /// The latest connection that is still alive.
    pub(super) fn take(&self, host: &str) -> Option<Pooled> {
        loop {
            let connection = self.idle.lock().get_mut(host)?.pop()?;
            // An idle connection has nothing to say: bytes or an end mean that it is of no use.
            let mut byte = [0];
            match connection.stream.try_read(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(connection),
                _ => {}
            }
        }
    }

    /// Keeps a connection whose last response was read to its end.
    pub(super) fn put(&self, mut connection: Pooled) {
        connection.was_kept = true;
        let mut idle = self.idle.lock();
        if let Some(kept) = idle.get_mut(&connection.host) {
            if kept.len() < self.per_host {
                kept.push(connection);
            }
        } else if self.per_host > 0 {
            idle.insert(connection.host.clone(), vec![connection]);
        }
    }
}

impl Pooled {
    pub(super) fn new(host: String, stream: TcpStream) -> Self {
        Self {
            host,
            stream,
            received: Vec::new(),
            was_kept: false,
        }
    }

    /// Sends a request and reads the head of its final response.
    pub(super) fn exchange(
        &mut self,
        head: &[u8],
        body: &[u8],
        method: &Method,
    ) -> Result<ResponseHead, Failed> {
        if let Err(error) = self.send(head, body) {
            // The server may have answered before it had read everything, and closed.
            if error.kind() != io::ErrorKind::BrokenPipe
                && error.kind() != io::ErrorKind::ConnectionReset
            {
                return Err(self.failed(error));
            }
        }
        loop {
            match ResponseHead::parse(&self.received, method) {
                Ok(Some(head)) if head.is_interim() => {
                    self.received.drain(..head.length);
                }
                Ok(Some(head)) => {
                    self.received.drain(..head.length);
                    return Ok(head);
                }
                Ok(None) if self.received.len() > MAX_HEAD => {
                    return Err(self.malformed("head too large".to_owned()));
                }
                Ok(None) => {
                    let count = self.fill().map_err(|error| self.failed(error))?;
                    if count == 0 {
                        let gone = io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "connection closed before the response",
                        );
                        return Err(self.failed(gone));
                    }
                }
                Err(reason) => return Err(self.malformed(reason)),
            }
        }
    }

    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        if body.is_empty() {
            return self.stream.write_all(head);
        }
        if body.len() <= READ {
            return self.stream.write_all(&[head, body].concat());
        }
        self.stream.write_all(head)?;
        self.stream.write_all(body)
    }

    /// Receives more behind what is there; 0 at the end.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        let before = self.received.len();
        self.received.resize(before + READ, 0);
        let read = self.stream.read(&mut self.received[before..]);
        self.received
            .truncate(before + *read.as_ref().unwrap_or(&0));
        read
    }

    fn failed(&self, error: io::Error) -> Failed {
        Failed {
            nothing_came: self.received.is_empty(),
            error: ClientError::from_io(&self.host, error),
        }
    }

    fn malformed(&self, reason: String) -> Failed {
        Failed {
            nothing_came: false,
            error: ClientError::Protocol {
                host: self.host.clone(),
                reason,
            },
        }
    }
}
