//! The limit: one thread around epoll that looks for the ends of requests and answers each with the same bytes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result};
use memchr::memmem;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::{
    Listening, announce, canned_answer,
    kernel::{Call, Observer},
};

/// Serves until it is killed; the observer sees its system calls.
pub(super) fn serve(listening: &Listening, mut observer: impl Observer) -> Result<()> {
    let listener = TcpListener::bind(listening.listen)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    announce(listener.local_addr()?);
    let answers = Answers::new();
    // By descriptor, which is small and unique among those that are open.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut open = 0;
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        match observer.around(Call::Wait, || epoll::wait(&epoll, room, None)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for event in &events {
            let place = event.data.u64();
            if place == LISTENER {
                while let Some(connection) = accept(&listener)? {
                    let place = connection.stream.as_raw_fd() as usize;
                    let data = EventData::new_u64(place as u64);
                    epoll::add(&epoll, connection.stream.as_fd(), data, EventFlags::IN)?;
                    connections.resize_with(connections.len().max(place + 1), || None);
                    connections[place] = Some(connection);
                    open += 1;
                }
            } else if let Some(connection) = &mut connections[place as usize]
                && !connection.turn(&mut buffer, &answers, &mut observer)
            {
                connections[place as usize] = None;
                open -= 1;
                if open == 0 {
                    observer.all_closed();
                }
            }
        }
    }
}

fn accept(listener: &TcpListener) -> Result<Option<Connection>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(Some(Connection {
                stream,
                rest: Vec::new(),
            }))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("accept"),
    }
}

struct Connection {
    stream: TcpStream,
    /// The beginning of a request whose end is still to come.
    rest: Vec<u8>,
}

impl Connection {
    /// Reads once and answers what is complete. Whether the connection stays.
    fn turn(&mut self, buffer: &mut [u8], answers: &Answers, observer: &mut impl Observer) -> bool {
        let count = match observer.around(Call::Read, || self.stream.read(buffer)) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let requests = if self.rest.is_empty() {
            let (requests, used) = requests(&buffer[..count]);
            self.rest.extend_from_slice(&buffer[used..count]);
            requests
        } else {
            self.rest.extend_from_slice(&buffer[..count]);
            let (requests, used) = requests(&self.rest);
            self.rest.drain(..used);
            requests
        };
        // The client waits for its answers before it sends more, so they always fit the socket's buffer.
        let mut write = || self.stream.write_all(answers.of(requests)).is_ok();
        requests == 0 || observer.around(Call::Write, &mut write)
    }
}

/// How many requests end in `received`, and where the last one does.
pub(super) fn requests(received: &[u8]) -> (usize, usize) {
    let ends = memmem::find_iter(received, b"\r\n\r\n").map(|at| at + 4);
    ends.fold((0, 0), |(count, _), end| (count + 1, end))
}

/// As many answers as a read can ask for, ready to be written.
pub(super) struct Answers {
    all: Vec<u8>,
    length: usize,
}

impl Answers {
    pub(super) fn new() -> Self {
        let one = canned_answer();
        Self {
            all: one.repeat(4096),
            length: one.len(),
        }
    }

    pub(super) fn of(&self, requests: usize) -> &[u8] {
        let length = (requests * self.length).min(self.all.len());
        &self.all[..length]
    }
}

const LISTENER: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_up_to_the_last_end() {
        assert_eq!(requests(b"GET / HTTP/1.1\r\nHost: a\r\n"), (0, 0));
        assert_eq!(requests(b"a\r\n\r\n"), (1, 5));
        assert_eq!(requests(b"a\r\n\r\nb\r\n\r\nc\r\n"), (2, 10));
    }
}
