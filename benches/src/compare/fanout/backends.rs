//! The three backends: a raw epoll loop on one thread that answers each request at once.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
};

use anyhow::{Context, Result};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::{ANSWER, BACKENDS, REQUEST};
use crate::process::{self, Core};

/// Listens on three ports, prints their addresses, and serves until the parent ends.
pub(crate) fn run() -> Result<()> {
    process::settle(Core::Last)?;
    process::raise_descriptor_limit(0)?;
    let mut backends = Backends::listen()?;
    let addresses = backends.listeners.iter().map(|listener| {
        let address = listener.local_addr()?;
        Ok(address.to_string())
    });
    println!("{}", addresses.collect::<io::Result<Vec<_>>>()?.join(","));
    backends.serve()
}

struct Backends {
    epoll: OwnedFd,
    /// Their tokens are their places.
    listeners: Vec<TcpListener>,
    /// Their tokens are their places, counted on after the listeners.
    clients: Vec<Option<Client>>,
}

struct Client {
    stream: TcpStream,
    /// Bytes of the current request that have come.
    received: usize,
}

impl Backends {
    fn listen() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut listeners = Vec::new();
        for token in 0..BACKENDS as u64 {
            let listener = TcpListener::bind("127.0.0.1:0").context("listening")?;
            listener.set_nonblocking(true)?;
            epoll::add(&epoll, &listener, EventData::new_u64(token), EventFlags::IN)?;
            listeners.push(listener);
        }
        Ok(Self {
            epoll,
            listeners,
            clients: Vec::new(),
        })
    }

    fn serve(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(512);
        loop {
            events.clear();
            epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            )?;
            for event in &events {
                let token = event.data.u64() as usize;
                if token < BACKENDS {
                    self.accept(token)?;
                    continue;
                }
                let client = &mut self.clients[token - BACKENDS];
                if !client.as_mut().is_some_and(Client::answer) {
                    *client = None;
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) -> Result<()> {
        loop {
            let stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accepting a leader"),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let token = EventData::new_u64((BACKENDS + self.clients.len()) as u64);
            epoll::add(&self.epoll, &stream, token, EventFlags::IN)?;
            let received = 0;
            self.clients.push(Some(Client { stream, received }));
        }
    }
}

impl Client {
    /// Answers each request that is complete; false if the leader has gone.
    fn answer(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => self.received += count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        while self.received >= REQUEST {
            self.received -= REQUEST;
            if self.stream.write_all(&[b'a'; ANSWER]).is_err() {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_needs_the_whole_request() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut leader = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut client = Client {
            stream,
            received: 0,
        };
        leader.write_all(&[b'q'; REQUEST - 1]).unwrap();
        assert!(client.answer());
        leader.set_nonblocking(true).unwrap();
        let mut answer = [0; ANSWER];
        let early = leader.read(&mut answer).unwrap_err();
        assert_eq!(early.kind(), ErrorKind::WouldBlock);
        leader.set_nonblocking(false).unwrap();
        leader.write_all(b"q").unwrap();
        assert!(client.answer());
        leader.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [b'a'; ANSWER]);
        drop(leader);
        assert!(!client.answer());
    }
}
