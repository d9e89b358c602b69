//! One backend, for code that must not block: many questions under way on one connection.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
};

use super::{Unavailable, backend::parse_reply};

/// The connection to a backend, and for whom each question on it was asked.
#[derive(Debug)]
pub struct Upstream<W> {
    which: usize,
    address: SocketAddr,
    connection: Option<TcpStream>,
    received: Vec<u8>,
    unsent: Vec<u8>,
    waiting: HashMap<u64, W>,
    last_tag: u64,
}

impl<W> Upstream<W> {
    /// The backend with this number; connects with the first question.
    pub fn new(which: usize, address: SocketAddr) -> Self {
        Self {
            which,
            address,
            connection: None,
            received: Vec::new(),
            unsent: Vec::new(),
            waiting: HashMap::new(),
            last_tag: 0,
        }
    }

    /// Its number.
    pub fn which(&self) -> usize {
        self.which
    }

    /// Its connection, if there is one.
    pub fn connection(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// Asks for `id`; the answer will be for `who`. True if there is a new connection, which is to be watched.
    ///
    /// Connecting blocks, which is no wait within one machine; elsewhere it would be one more state.
    ///
    /// # Errors
    ///
    /// If no connection can be made. Nothing has been asked then.
    pub fn ask(&mut self, id: u64, who: W) -> Result<bool, Unavailable> {
        let anew = self.connection.is_none();
        if anew {
            let connection = self
                .connect()
                .map_err(|error| Unavailable::new(self.which, error))?;
            self.connection = Some(connection);
        }
        self.last_tag += 1;
        self.waiting.insert(self.last_tag, who);
        self.unsent
            .extend_from_slice(format!("{} {id}\n", self.last_tag).as_bytes());
        Ok(anew)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// Whether there are questions that the kernel has not yet taken.
    pub fn wants_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Writes and reads as much as the kernel lets it, and says who has which answer. If the connection has ended,
    /// everybody who waits has a failure, and the next question makes a new one.
    pub fn answers(&mut self) -> Vec<(W, Result<u64, Unavailable>)> {
        let outcome = self.exchange();
        let mut answers = Vec::new();
        while let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some((tag, said)) = parse_reply(self.which, &line)
                && let Some(who) = self.waiting.remove(&tag)
            {
                answers.push((who, said));
            }
        }
        if let Err(error) = outcome {
            answers.extend(self.fail(&error));
        }
        answers
    }

    /// Gives the connection up, for instance because it cannot be watched: everybody who waits has a failure.
    pub fn fail(&mut self, error: &io::Error) -> Vec<(W, Result<u64, Unavailable>)> {
        self.connection = None;
        self.received.clear();
        self.unsent.clear();
        let failed = Unavailable::new(self.which, error);
        let waiting = self.waiting.drain();
        waiting.map(|(_, who)| (who, Err(failed.clone()))).collect()
    }

    fn exchange(&mut self) -> io::Result<()> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        while !self.unsent.is_empty() {
            match connection.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut chunk = [0; 16 * 1024];
        loop {
            match connection.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
