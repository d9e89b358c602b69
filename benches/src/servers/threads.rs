//! A thread for each connection: blocking reads and writes, and a parser that is small but honest.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
};

use anyhow::{Context, Result};
use memchr::memmem;

use super::{Listening, announce, answer_with, canned_answer, routes};

pub(super) fn serve(listening: &Listening) -> Result<()> {
    let answer: &'static [u8] = canned_answer().leak();
    accept(listening, move |target, out| {
        match target {
            "/" => out.extend_from_slice(answer),
            _ => return Err(ErrorKind::InvalidData.into()),
        }
        Ok(())
    })
}

pub(super) fn serve_routes(listening: &Listening) -> Result<()> {
    accept(listening, |target, out| {
        let body = routes::answer_target(target).ok_or(ErrorKind::InvalidData)?;
        out.extend(answer_with(&body));
        Ok(())
    })
}

/// Has a thread for each connection, which has each request's target answered.
fn accept<A>(listening: &Listening, answer: A) -> Result<()>
where
    A: Fn(&str, &mut Vec<u8>) -> io::Result<()> + Copy + Send + 'static,
{
    let listener = TcpListener::bind(listening.listen)?;
    announce(listener.local_addr()?);
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

fn converse(
    mut stream: &TcpStream,
    answer: impl Fn(&str, &mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
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
            answer(target(&received[used..used + length])?, &mut out)?;
            used += length + 4;
        }
        received.drain(..used);
        stream.write_all(&out)?;
        out.clear();
    }
}

/// The target of a `GET`; refuses what is none, or has fields without names.
fn target(head: &[u8]) -> io::Result<&str> {
    let valid = || {
        let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
        let request = lines.next()?;
        let target = request.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
        let named = |line: &str| {
            line.split_once(':')
                .is_some_and(|(name, _)| !name.is_empty())
        };
        lines.all(named).then_some(target)
    };
    valid().ok_or_else(|| ErrorKind::InvalidData.into())
}
