//! The process that is A, B and C.
//!
//! A coroutine per connection: it reads questions and answers each when its time has come, while others are under way.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, ErrorKind, Write},
    net::SocketAddr,
    time::Instant,
};

use maniple::net::{TcpListener, TcpStream};

use crate::{site::pause_after_failed_accept, work::backend};

/// Serves A, B and C at these addresses until the process ends; prints where, on one line.
pub fn serve(addresses: [SocketAddr; backend::COUNT]) -> io::Result<()> {
    maniple::Runtime::builder()
        .workers(1)
        .build()?
        .run(move || {
            let mut listeners = Vec::new();
            for address in addresses {
                listeners.push(TcpListener::bind(address)?);
            }
            let mut bound = Vec::new();
            for listener in &listeners {
                bound.push(listener.local_addr()?.to_string());
            }
            println!("backends {}", bound.join(","));
            let serving: Vec<_> = listeners
                .into_iter()
                .enumerate()
                .map(|(which, listener)| maniple::spawn(move || accept(which, &listener)))
                .collect();
            for accepting in serving {
                accepting.join().map_err(io::Error::other)??;
            }
            Ok(())
        })
}

fn accept(which: usize, listener: &TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        match stream {
            // A client that goes away is no matter of the others.
            Ok(stream) => drop(maniple::spawn(move || converse(which, &stream))),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            // Nor is it theirs that one more finds no descriptor.
            Err(error) => match pause_after_failed_accept(&error) {
                Some(pause) => maniple::sleep(pause),
                None => return Err(error),
            },
        }
    }
    Ok(())
}

/// Answers due, the next first.
type Due = BinaryHeap<Reverse<(Instant, String)>>;

fn converse(which: usize, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    let mut due = Due::new();
    let mut chunk = [0; 4096];
    loop {
        let now = Instant::now();
        let mut ready = String::new();
        while due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            ready.extend(due.pop().map(|Reverse((_, line))| line));
        }
        stream.write_all(ready.as_bytes())?;
        let waited = match due.peek() {
            Some(Reverse((at, _))) => stream.wait_readable_until(*at),
            None => stream.wait_readable(),
        };
        match waited {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => continue,
            Err(error) => return Err(error),
        }
        let count = match stream.try_read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        received.extend_from_slice(&chunk[..count]);
        let asked = Instant::now();
        while let Some(end) = received.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let Some((time, answer)) = backend::reply(which, line.trim_end()) else {
                return Err(ErrorKind::InvalidData.into());
            };
            due.push(Reverse((asked + time, answer)));
        }
        if received.len() > LONGEST_LINE {
            return Err(ErrorKind::InvalidData.into());
        }
    }
}

const LONGEST_LINE: usize = 64;
