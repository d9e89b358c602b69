//! A thread for each connection: blocking reads and writes, and a parser that is small but honest.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
};

use anyhow::{Context, Result};
use memchr::memmem;

use super::{ANY_PORT, announce, canned_answer};

pub(super) fn serve() -> Result<()> {
    let listener = TcpListener::bind(ANY_PORT)?;
    announce(listener.local_addr()?);
    let answer: &'static [u8] = canned_answer().leak();
    for number in 1.. {
        let (stream, _) = listener.accept().context("accept")?;
        std::thread::Builder::new()
            .stack_size(64 * 1024)
            // A client that goes away ends its thread, and nothing else.
            .spawn(move || drop(converse(&stream, answer)))
            .with_context(|| format!("starting thread {number}"))?;
    }
    Ok(())
}

fn converse(mut stream: &TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::with_capacity(4096);
    let mut out = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            count => received.extend_from_slice(&chunk[..count]),
        }
        let mut used = 0;
        while let Some(length) = memmem::find(&received[used..], b"\r\n\r\n") {
            check(&received[used..used + length])?;
            out.extend_from_slice(answer);
            used += length + 4;
        }
        received.drain(..used);
        stream.write_all(&out)?;
        out.clear();
    }
}

/// Refuses what is not a `GET /` whose fields have names and that has no body.
fn check(head: &[u8]) -> io::Result<()> {
    let valid = || {
        let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
        let request = lines.next()? == "GET / HTTP/1.1";
        let named = |line: &str| {
            line.split_once(':')
                .is_some_and(|(name, _)| !name.is_empty())
        };
        Some(request && lines.all(named))
    };
    match valid() {
        Some(true) => Ok(()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}
