//! A, B and C: take a frame in, add to it, hold it until it is due, pass it on.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    io::{self, BufReader, ErrorKind, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::exit,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::{Builder, sleep},
    time::{Duration, Instant},
};

use super::{LOOPBACK, frame::Frame};
use crate::work::backend;

/// Starts A, B or C; returns where it takes frames.
pub(super) fn start(which: usize, next: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(LOOPBACK)?;
    let address = listener.local_addr()?;
    // ② A node is two loops. Neither knows more of a request than is in the frame at hand.
    let (hold, held) = sync_channel(64);
    Builder::new().spawn(move || end_of_node(which, take_in(which, &listener, &hold)))?;
    Builder::new().spawn(move || end_of_node(which, pass_on(next, &held)))?;
    Ok(address)
}

type Due = (Instant, Frame);

fn take_in(which: usize, listener: &TcpListener, hold: &SyncSender<Due>) -> io::Result<()> {
    let (stream, _) = listener.accept()?;
    let mut before = BufReader::new(stream);
    loop {
        let mut frame = Frame::read_from(&mut before)?;
        let due = frame.answer(which).ok_or(ErrorKind::InvalidData)?;
        hold.send((due, frame)).map_err(io::Error::other)?;
    }
}

fn pass_on(next: SocketAddr, taken_in: &Receiver<Due>) -> io::Result<()> {
    let mut next = TcpStream::connect(next)?;
    next.set_nodelay(true)?;
    // The frames whose turn it is here, the next that is due first.
    let mut held: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
    let mut bytes = Vec::new();
    loop {
        let now = Instant::now();
        while let Some(first) = held.peek_mut().filter(|first| first.0.0 <= now) {
            let Reverse((_, frame)) = PeekMut::pop(first);
            frame.write_to(&mut bytes);
        }
        next.write_all(&bytes)?;
        bytes.clear();
        // ③ The only wait for time. Who holds too much takes nothing more in, and TCP tells
        // the one before.
        match held
            .peek()
            .map(|Reverse((due, _))| due.saturating_duration_since(Instant::now()))
        {
            Some(time) if held.len() >= MOST_HELD => sleep(time),
            time => match taken_in.recv_timeout(time.unwrap_or(Duration::MAX)) {
                Ok(due) => held.push(Reverse(due)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(end) => return Err(io::Error::other(end)),
            },
        }
    }
}

/// A node ends only if its connections do. The frames in it are lost then, and nobody is
/// left who knows of them: so the ring ends as a whole, and its clients see that.
fn end_of_node(which: usize, end: io::Result<()>) {
    if let Err(error) = end {
        eprintln!("node {}: {error}", backend::NAMES[which]);
        exit(1);
    }
}

/// A node holds no more frames than these while they are not due.
const MOST_HELD: usize = 4096;
