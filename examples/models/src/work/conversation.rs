//! A client's connection, for code that blocks.

use std::{io, net::TcpStream, time::Duration};

use super::{Answer, Request, backend::Stream};

/// How long a client may be silent, or not read, before its connection is closed. Without such a limit a few
/// silent clients would hold all the threads of a pool for good.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests and answers, one after the other.
#[derive(Debug)]
pub struct Conversation<S = TcpStream> {
    stream: S,
    received: Vec<u8>,
    /// Whether the last request asked for the connection's end.
    closes: bool,
    /// What the client still sends is thrown away.
    lingers: bool,
}

impl Conversation {
    /// Over a connection just accepted.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::over(stream))
    }
}

impl<S: Stream> Conversation<S> {
    /// Over any stream that blocks: a coroutine's, for instance.
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            received: Vec::new(),
            closes: false,
            lingers: false,
        }
    }

    /// Blocks until there is a request; `None` if there will be no more.
    ///
    /// # Errors
    ///
    /// If the connection failed or the client was silent for too long.
    pub fn request(&mut self) -> io::Result<Option<Request>> {
        let mut chunk = [0; 2048];
        if self.closes {
            if self.lingers {
                // Closing a socket with unread bytes resets the connection, and the answer could be lost.
                self.stream.end_output()?;
                while self.stream.read(&mut chunk)? > 0 {}
            }
            return Ok(None);
        }
        loop {
            if let Some(request) = Request::take(&mut self.received) {
                self.closes = request.closes;
                self.lingers = request.is_broken();
                return Ok(Some(request));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Says the answer to the last request.
    pub fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(256);
        answer.write_to(self.closes, &mut bytes);
        self.stream.write_all(&bytes)
    }

    /// Says the answer and that no further request is taken on this connection: for models in which a connection
    /// holds what many wait for.
    pub fn last_answer(&mut self, answer: &Answer) -> io::Result<()> {
        self.closes = true;
        self.answer(answer)
    }
}
