//! The limits: loops around epoll that send WebSocket messages back, and an event to all subscribers, and do nothing else.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use memchr::memmem;
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, EventData, EventFlags},
};
use tungstenite::handshake::derive_accept_key;

use super::{EVENT, LISTEN};
use crate::servers::announce;

pub(super) fn echo() -> Result<()> {
    serve(None, |connection, received| {
        let answer = match connection.is_open {
            true => echoed(received),
            false => opened(received),
        };
        connection.is_open = true;
        answer
    })
}

pub(super) fn events(period: Duration) -> Result<()> {
    serve(Some(period), |connection, _| {
        connection.is_open = true;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        Some(head.into())
    })
}

/// The head that a WebSocket begins with.
fn opened(request: &[u8]) -> Option<Vec<u8>> {
    let name = b"Sec-WebSocket-Key: ";
    let key = memmem::find(request, name)? + name.len();
    let accept = derive_accept_key(request.get(key..key + 24)?);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    Some(head.into())
}

/// A short message that came as one frame, in a frame as servers send it.
fn echoed(frame: &[u8]) -> Option<Vec<u8>> {
    let (&[first, second, ..], Some(mask)) = (frame, frame.get(2..6)) else {
        return None;
    };
    let length = second & 0x7f;
    let masked = frame.get(6..6 + usize::from(length))?;
    let mut answer = vec![first, length];
    let bytes = masked.iter().zip(mask.iter().cycle());
    answer.extend(bytes.map(|(byte, mask)| byte ^ mask));
    Some(answer)
}

struct Connection {
    stream: TcpStream,
    is_open: bool,
}

impl Connection {
    /// Reads once and answers. Whether the connection stays.
    fn turn(&mut self, buffer: &mut [u8], answer: &Answer) -> bool {
        let count = match self.stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let answer = answer(self, &buffer[..count]);
        answer.is_some_and(|answer| self.stream.write_all(&answer).is_ok())
    }
}

/// What a connection says to what it has received, all of which comes at once here; it ends where that is nothing.
type Answer = dyn Fn(&mut Connection, &[u8]) -> Option<Vec<u8>>;

/// Serves until it is killed; with a period, an event is sent to all that often.
fn serve(
    period: Option<Duration>,
    answer: impl Fn(&mut Connection, &[u8]) -> Option<Vec<u8>> + 'static,
) -> Result<()> {
    let listener = TcpListener::bind(LISTEN)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let data = EventData::new_u64(LISTENER);
    epoll::add(&epoll, &listener, data, EventFlags::IN)?;
    announce(listener.local_addr()?);
    let event = format!("data: {EVENT}\n\n");
    let event = format!("{:x}\r\n{event}\r\n", event.len());
    let mut next = period.map(|period| Instant::now() + period);
    // By descriptor, which is small and unique among those that are open.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; 4096];
    loop {
        events.clear();
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose()?;
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&epoll, room, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for event in &events {
            let place = event.data.u64();
            if place == LISTENER {
                while let Some(stream) = accept(&listener)? {
                    let place = stream.as_raw_fd() as usize;
                    let data = EventData::new_u64(place as u64);
                    epoll::add(&epoll, stream.as_fd(), data, EventFlags::IN)?;
                    connections.resize_with(connections.len().max(place + 1), || None);
                    let is_open = false;
                    connections[place] = Some(Connection { stream, is_open });
                }
            } else if let Some(connection) = &mut connections[place as usize]
                && !connection.turn(&mut buffer, &answer)
            {
                connections[place as usize] = None;
            }
        }
        if let (Some(period), Some(at)) = (period, next)
            && Instant::now() >= at
        {
            next = Some(at + period);
            for connection in connections.iter_mut().flatten() {
                if connection.is_open {
                    // Who has no room, or has gone, misses it.
                    let _ = connection.stream.write(event.as_bytes());
                }
            }
        }
    }
}

fn accept(listener: &TcpListener) -> Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(Some(stream))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("accept"),
    }
}

const LISTENER: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_without_its_mask() {
        let frame = [0x82, 0x83, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2, b'c' ^ 3];
        assert_eq!(echoed(&frame).as_deref(), Some(&b"\x82\x03abc"[..]));
        assert_eq!(echoed(&frame[..8]), None);
    }
}
