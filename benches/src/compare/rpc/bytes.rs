//! The limit: loops around epoll that exchange the frames of RPC, and look at no more than their lengths and calls.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
};

use anyhow::{Context, Result, ensure};
use prost::Message as _;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::{BODY, ECHO, Message, count};

/// Bytes of a head, of the fixed part of a request, and of that of a response.
const HEAD: usize = 16;
const REQUEST: usize = 16;
const RESPONSE: usize = 8;

pub(super) fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let (stream, _) = listener.accept()?;
    exchange(&stream, Vec::new(), |frame, out| {
        let method = u16::from_be_bytes([frame[HEAD + 8], frame[HEAD + 9]]);
        let message = &frame[HEAD + REQUEST + usize::from(method)..];
        let length = (RESPONSE + message.len()) as u32;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&[3, 0, 0, 0]);
        out.extend_from_slice(&frame[8..HEAD]);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(message.len() as u32).to_be_bytes());
        out.extend_from_slice(message);
    })
}

pub(super) fn call(address: &str, calls: u16) -> Result<()> {
    let stream = TcpStream::connect(address)?;
    let message = Message {
        body: vec![7; BODY],
    };
    let message = message.encode_to_vec();
    let request = move |call: &[u8], out: &mut Vec<u8>| {
        let length = (REQUEST + ECHO.len() + message.len()) as u32;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&[2, 0, 0, 0]);
        out.extend_from_slice(call);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&(ECHO.len() as u16).to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&(message.len() as u32).to_be_bytes());
        out.extend_from_slice(ECHO.as_bytes());
        out.extend_from_slice(&message);
    };
    let mut first = Vec::new();
    for slot in 0..u32::from(calls) {
        let call = [slot.to_be_bytes(), [0; 4]].concat();
        request(&call, &mut first);
    }
    exchange(&stream, first, |frame, out| {
        count(1);
        // The same slot, and the next serial.
        let mut call: [u8; 8] = frame[8..HEAD].try_into().unwrap_or_default();
        let serial = u32::from_be_bytes([call[4], call[5], call[6], call[7]]);
        call[4..].copy_from_slice(&serial.wrapping_add(1).to_be_bytes());
        request(&call, out);
    })
}

/// Writes what is first, and then whatever `answer` makes of each frame that comes, until the peer ends.
fn exchange(
    mut stream: &TcpStream,
    mut out: Vec<u8>,
    mut answer: impl FnMut(&[u8], &mut Vec<u8>),
) -> Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, stream, EventData::new_u64(0), EventFlags::IN)?;
    let mut events = Vec::with_capacity(16);
    let (mut buffer, mut filled) = (vec![0; 64 * 1024], 0);
    loop {
        // What is out never fills the socket: each side sends what it was asked for.
        if !out.is_empty() {
            stream.write_all(&out)?;
            out.clear();
        }
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&epoll, room, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error).context("read"),
        }
        let mut rest = &buffer[..filled];
        while let Some(length) = rest.first_chunk() {
            let whole = HEAD + u32::from_be_bytes(*length) as usize;
            ensure!(whole < buffer.len(), "a frame too large");
            let Some(frame) = rest.get(..whole) else {
                break;
            };
            answer(frame, &mut out);
            rest = &rest[whole..];
        }
        let (from, left) = (filled - rest.len(), rest.len());
        buffer.copy_within(from..filled, 0);
        filled = left;
    }
}
