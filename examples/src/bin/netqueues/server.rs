//! A small server to watch: `get BYTES` answers with so many bytes, `think MS` with one, after so long.
//!
//! What the kernel cannot know is noted here: who owes what since when, the client the rest of a request or the server
//! its answer.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use maniple::net::{TcpListener, TcpStream};
use maniple::sync::Mutex;

/// The longest request, its newline included.
const LONGEST_LINE: u64 = 64;
const LARGEST_ANSWER: u64 = 1 << 30;
const LONGEST_THOUGHT: Duration = Duration::from_secs(3600);

/// What somebody owes on a connection, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// By the client: the rest of a request whose first byte came then.
    Request(Instant),
    /// By the server: the first byte of an answer to a request that was complete then.
    Answer(Instant),
}

/// The clients amid a request or an answer.
#[derive(Debug, Default)]
pub struct Begun(Mutex<HashMap<SocketAddr, Owed>>);

impl Begun {
    pub fn owed(&self, peer: SocketAddr) -> Option<Owed> {
        self.0.lock().get(&peer).copied()
    }

    /// Notes what is owed on the connection with `peer`, until the guard is dropped or replaced.
    fn note(&self, peer: SocketAddr, owed: fn(Instant) -> Owed) -> Amid<'_> {
        self.0.lock().insert(peer, owed(Instant::now()));
        Amid { begun: self, peer }
    }
}

struct Amid<'a> {
    begun: &'a Begun,
    peer: SocketAddr,
}

impl Drop for Amid<'_> {
    fn drop(&mut self) {
        self.begun.0.lock().remove(&self.peer);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Request {
    Get(u64),
    Think(Duration),
}

/// Serves until the scope is cancelled.
pub fn serve(listener: &TcpListener, begun: &Begun) -> io::Result<()> {
    maniple::group(|g| {
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    drop(g.spawn(move || {
                        if let Err(error) = connection(&stream, peer, begun)
                            && !maniple::cancel::is_cancelled_error(&error)
                        {
                            log::info!("{peer}: {error}");
                        }
                    }));
                }
                Err(error) if maniple::cancel::is_cancelled_error(&error) => return Err(error),
                // Out of descriptors: closing connections free some, so wait rather than spin or end.
                Err(error) => {
                    log::warn!("accept: {error}");
                    maniple::sleep(Duration::from_millis(50));
                }
            }
        }
    })
}

fn connection(mut stream: &TcpStream, peer: SocketAddr, begun: &Begun) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(4096, stream);
    let mut line = Vec::new();
    // Between requests a client may be silent for as long as it likes.
    while !reader.fill_buf()?.is_empty() {
        let amid = begun.note(peer, Owed::Request);
        line.clear();
        (&mut reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        drop(amid);
        match parse(&line) {
            Ok(Request::Get(bytes)) => {
                io::copy(&mut io::repeat(b'.').take(bytes), &mut stream)?;
            }
            Ok(Request::Think(time)) => {
                let amid = begun.note(peer, Owed::Answer);
                maniple::sleep(time);
                drop(amid);
                stream.write_all(b".")?;
            }
            Err(reason) => return stream.write_all(reason.as_bytes()),
        }
    }
    Ok(())
}

fn parse(line: &[u8]) -> Result<Request, &'static str> {
    const WANTED: &str = "write get BYTES or think MS, and a newline\n";
    let line = line.strip_suffix(b"\n").ok_or(WANTED)?;
    let line = str::from_utf8(line).map_err(|_| WANTED)?;
    let (verb, number) = line.split_once(' ').ok_or(WANTED)?;
    let number = number.parse::<u64>().map_err(|_| WANTED)?;
    match verb {
        "get" if number <= LARGEST_ANSWER => Ok(Request::Get(number)),
        "get" => Err("that is more than a GiB\n"),
        "think" if Duration::from_millis(number) <= LONGEST_THOUGHT => {
            Ok(Request::Think(Duration::from_millis(number)))
        }
        "think" => Err("that is more than an hour\n"),
        _ => Err(WANTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_a_verb_and_a_number_within_limits() {
        assert_eq!(parse(b"get 0\n"), Ok(Request::Get(0)));
        let hour = Request::Think(LONGEST_THOUGHT);
        assert_eq!(parse(b"think 3600000\n"), Ok(hour));
        for (line, reason) in [
            (&b"get 10"[..], "newline"),
            (b"get\n", "write get"),
            (b"get -1\n", "write get"),
            (b"put 1\n", "write get"),
            (b"\xff 1\n", "write get"),
            (b"get 1073741825\n", "GiB"),
            (b"think 3600001\n", "hour"),
        ] {
            assert!(parse(line).unwrap_err().contains(reason), "{line:?}");
        }
    }
}
