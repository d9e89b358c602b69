//! The client's side of one connection: the greeting, pings, and how a connection is seen to end.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use maniple::net::TcpStream;

/// A connection whose server has greeted.
#[derive(Debug)]
pub struct Session {
    reader: BufReader<TcpStream>,
    /// The server's process.
    pub process: u32,
}

/// How a connection was lost.
#[derive(Debug)]
pub enum Lost {
    /// A FIN: the process closed it, or ended and its kernel did.
    Closed,
    /// An RST: the same, with bytes unread at the other end.
    Reset,
    /// Neither, but no answer for so long.
    Silent(Duration),
    Other(io::Error),
}

const LONGEST_LINE: u64 = 64;

impl Session {
    /// Connects and waits for the greeting: a connection alone shows only that the server's kernel lives.
    ///
    /// `silence` is how long any answer may take, here and later.
    pub fn open(server: SocketAddr, silence: Duration) -> io::Result<Session> {
        Session::over(TcpStream::connect_timeout(&server, silence)?, silence)
    }

    /// Opens a session over a connection that there is.
    pub fn over(stream: TcpStream, silence: Duration) -> io::Result<Session> {
        // Nobody listens, and the kernel has chosen that very port for this end: RFC 9293, 3.5, figure 7.
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "connected to itself",
            ));
        }
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(silence))?;
        let mut session = Session {
            reader: BufReader::with_capacity(256, stream),
            process: 0,
        };
        let greeting = session.line().map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => io::Error::new(error.kind(), "connected, but not greeted"),
            _ => error,
        })?;
        session.process = greeting
            .strip_prefix("hello ")
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| unexpected(&greeting))?;
        Ok(session)
    }

    /// One request and its answer; whether the server wants to see the client on a new connection now.
    pub fn ping(&mut self, number: u64) -> io::Result<bool> {
        self.send(number)?;
        self.answer(&format!("pong {number}"))
    }

    /// The first half of [`Session::ping`].
    pub fn send(&self, number: u64) -> io::Result<()> {
        self.stream()
            .write_all(format!("ping {number}\n").as_bytes())
    }

    /// Sends so many bytes, of no meaning; returns once the server has read them, as
    /// [`Session::ping`] does.
    pub fn give(&mut self, bytes: u64) -> io::Result<bool> {
        let mut stream = self.stream();
        stream.write_all(format!("take {bytes}\n").as_bytes())?;
        io::copy(&mut io::repeat(b'.').take(bytes), &mut stream)?;
        self.answer(&format!("taken {bytes}"))
    }

    /// Pings until there is no pong, or the connection ends between two.
    pub fn beat(&mut self, every: Duration) -> Lost {
        for number in 0.. {
            if let Err(error) = self.ping(number).and_then(|_| self.pause(every)) {
                return self.why(error);
            }
        }
        unreachable!("numbers do not run out")
    }

    /// Waits, but not beyond the end of the connection: a pause that only slept would see that late.
    fn pause(&self, time: Duration) -> io::Result<()> {
        let silence = self.stream().read_timeout();
        self.stream().set_read_timeout(Some(time))?;
        let come = self.stream().peek(&mut [0; 1]);
        self.stream().set_read_timeout(silence)?;
        match come {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
            Err(error) => Err(error),
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Err(unexpected("something without being asked")),
        }
    }

    /// Waits for what the server has not been asked for, which is the end.
    pub fn wait_for_end(&mut self) -> Lost {
        match self.line() {
            Ok(line) => Lost::Other(unexpected(&line)),
            Err(error) => self.why(error),
        }
    }

    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    fn answer(&mut self, expected: &str) -> io::Result<bool> {
        let answer = self.line()?;
        match answer.strip_prefix(expected) {
            Some("") => Ok(false),
            Some(" last") => Ok(true),
            _ => Err(unexpected(&answer)),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.reader).take(LONGEST_LINE).read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn why(&self, error: io::Error) -> Lost {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Lost::Closed,
            // Written after the other end had closed, and its RST was there before the write.
            io::ErrorKind::BrokenPipe => Lost::Reset,
            io::ErrorKind::ConnectionReset => Lost::Reset,
            io::ErrorKind::TimedOut => {
                Lost::Silent(self.stream().read_timeout().unwrap_or_default())
            }
            _ => Lost::Other(error),
        }
    }
}

fn unexpected(line: &str) -> io::Error {
    let message = format!("the server says {line:?}");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Closed => f.write_str("closed (EOF)"),
            Lost::Reset => f.write_str("reset (RST)"),
            Lost::Silent(silence) => write!(f, "silent for {silence:?}"),
            Lost::Other(error) => error.fmt(f),
        }
    }
}
