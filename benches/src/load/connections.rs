//! The keep-alive connections of a load, and the one place where it waits for their answers.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};

use super::framing::{Answer, Framing};

/// Connections to one server, by their place.
pub(super) struct Connections {
    address: SocketAddr,
    all: Vec<Connection>,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    /// The last answer's head and length: most answers begin with the same head.
    usual: Answer,
}

struct Connection {
    stream: TcpStream,
    framing: Framing,
}

impl Connections {
    pub(super) fn open(address: SocketAddr, count: usize) -> Result<Self> {
        ensure!(count > 0, "no connections to open");
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let connect = |place| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(
                &epoll,
                stream.as_fd(),
                EventData::new_u64(place),
                EventFlags::IN,
            )?;
            std::io::Result::Ok(Connection {
                stream,
                framing: Framing::default(),
            })
        };
        let all = (0..count)
            .map(|place| {
                let name = || format!("connection {} of {count}", place + 1);
                connect(place as u64).with_context(name)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            address,
            all,
            epoll,
            events: Vec::with_capacity(1024),
            buffer: vec![0; 64 * 1024],
            usual: Answer::default(),
        })
    }

    /// What a request for this target looks like.
    pub(super) fn request(&self, target: &str) -> Vec<u8> {
        let address = self.address;
        format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes()
    }

    /// Has [`wait`](Self::wait) end when `alarm` is readable, too.
    pub(super) fn watch(&self, alarm: impl AsFd) -> Result<()> {
        epoll::add(
            &self.epoll,
            alarm,
            EventData::new_u64(ALARM),
            EventFlags::IN,
        )
        .context("watching an alarm")
    }

    pub(super) fn send(&mut self, place: usize, requests: &[u8]) -> Result<()> {
        // Requests are far smaller than a socket's buffer, which is empty when they are sent.
        self.all[place]
            .stream
            .write_all(requests)
            .context("sending requests")
    }

    /// Waits until something comes, at most so long. How many events, from 0, [`answers`](Self::answers) knows.
    pub(super) fn wait(&mut self, patience: Duration) -> Result<usize> {
        let patience = Timespec::try_from(patience)?;
        loop {
            self.events.clear();
            let room = rustix::buffer::spare_capacity(&mut self.events);
            match epoll::wait(&self.epoll, room, Some(&patience)) {
                Ok(count) => return Ok(count),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
        }
    }

    /// Reads what has come: on which connection, and how many answers it completes.
    pub(super) fn answers(&mut self, event: usize) -> Result<Option<(usize, usize)>> {
        let place = self.events[event].data.u64();
        if place == ALARM {
            return Ok(None);
        }
        let place = place as usize;
        let connection = &mut self.all[place];
        let count = match connection.stream.read(&mut self.buffer) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("reading an answer"),
        };
        let answers = connection
            .framing
            .feed(&self.buffer[..count], &mut self.usual)?;
        Ok((answers > 0).then_some((place, answers)))
    }

    /// Asks for the target on a connection that waits for nothing, and waits for the body of the answer.
    pub(super) fn ask(&mut self, place: usize, target: &str) -> Result<String> {
        let request = self.request(target);
        self.send(place, &request)?;
        let Connection { stream, framing } = &mut self.all[place];
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let mut answer = Vec::new();
        loop {
            let count = match stream.read(&mut self.buffer).context("reading an answer")? {
                0 => bail!("the server closed a connection"),
                count => count,
            };
            answer.extend_from_slice(&self.buffer[..count]);
            if framing.feed(&self.buffer[..count], &mut self.usual)? > 0 {
                break;
            }
        }
        stream.set_nonblocking(true)?;
        let answer = String::from_utf8(answer).context("an answer that is not text")?;
        let (_, body) = answer
            .split_once("\r\n\r\n")
            .context("an answer without a body")?;
        Ok(body.to_owned())
    }
}

/// How long a server under load may answer nothing at all.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// What stands in an event in place of a connection's place.
const ALARM: u64 = u64::MAX;
