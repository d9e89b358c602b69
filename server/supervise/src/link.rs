//! The line between a supervisor and a worker: lines of text over a pair of sockets, one of which is the worker's standard
//! input.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    str::FromStr,
    time::Duration,
};

use maniple::net::UnixStream;

use crate::{message::MOST_BYTES, sockets::Named};

/// An end of it.
#[derive(Debug)]
pub(crate) struct Link {
    stream: UnixStream,
}

/// How long a line may take to leave: the other end reads at once, or hangs.
const PATIENCE: Duration = Duration::from_secs(5);

impl Link {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (here, there) = UnixStream::pair()?;
        Ok((Self::new(here), there.into()))
    }

    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    pub(crate) fn say(&self, line: &str) -> io::Result<()> {
        let said = maniple::timeout(PATIENCE, || (&self.stream).write_all(line.as_bytes()));
        said.map_err(io::Error::from)?
    }

    /// Hands sockets over, with their names in the first line.
    pub(crate) fn hand_over(&self, sockets: &[Named]) -> io::Result<()> {
        let names: Vec<&str> = sockets.iter().map(|named| named.name.as_str()).collect();
        let line = format!("{}\n", names.join(" "));
        let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(|named| named.socket.as_fd()).collect();
        // An empty line is a byte, too.
        let sent = self.stream.send_fds(line.as_bytes(), &fds)?;
        (&self.stream).write_all(&line.as_bytes()[sent..])
    }

    /// Takes what [`hand_over`](Self::hand_over) has sent.
    pub(crate) fn take_over(&self, count: usize) -> io::Result<Vec<Named>> {
        let (mut text, mut sockets) = (Vec::new(), Vec::new());
        while !text.ends_with(b"\n") {
            // By single bytes behind the first read, since the next line is another's.
            let mut byte = [0];
            if self.stream.recv_fds(&mut byte, &mut sockets)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            text.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&text);
        let names: Vec<_> = text.split_ascii_whitespace().map(str::to_owned).collect();
        if (names.len(), sockets.len()) != (count, count) {
            let text = format!(
                "{} names and {} sockets of {count}",
                names.len(),
                sockets.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let named = names.into_iter().zip(sockets);
        Ok(named
            .map(|(name, socket)| Named {
                name,
                socket,
                file: None,
            })
            .collect())
    }

    /// Bounds no read from now on.
    pub(crate) fn wait_for_ever(&self) -> io::Result<()> {
        self.stream.set_read_timeout(None)
    }

    /// Lines as they come.
    pub(crate) fn lines(&self) -> Lines<'_> {
        Lines {
            link: self,
            kept: Vec::new(),
        }
    }
}

/// The lines that the other end says.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    link: &'a Link,
    kept: Vec<u8>,
}

impl Lines<'_> {
    /// The next line, without its end; `None` at the end of all. A line that is too long is an error.
    pub(crate) fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.kept.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                return Ok(Some(line));
            }
            if self.kept.len() > MOST_BYTES {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line without end",
                ));
            }
            let mut some = [0; MOST_BYTES];
            match (&self.link.stream).read(&mut some)? {
                0 => return Ok(None),
                count => self.kept.extend_from_slice(&some[..count]),
            }
        }
    }

    /// The [`next`](Self::next) that is a word; what is none is passed over.
    pub(crate) fn next_word<W: FromStr>(&mut self) -> io::Result<Option<W>> {
        while let Some(line) = self.next()? {
            if let Ok(word) = line.parse() {
                return Ok(Some(word));
            }
        }
        Ok(None)
    }
}
