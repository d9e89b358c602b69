//! Heads that a server sends before the answer, and nobody may listen to: how many there are.
//!
//! A caller that waits for the answer takes those before it, and counts them. One that sends a long body and does not listen
//! meanwhile leaves them in memory, which is bounded here for all requests of a connection together.

#![deny(clippy::arithmetic_side_effects)]

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{DATA, END_STREAM, HEADERS, PREFACE, RST_STREAM, Scanner};
use crate::transport::Polled;

/// A connection whose server may send so many heads and no more.
pub(super) struct Bounded {
    wire: Polled,
    heads: Heads,
}

impl Bounded {
    pub(super) fn new(wire: Polled) -> Self {
        let heads = Heads::new();
        Self { wire, heads }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.wire).poll_read(context, buffer);
        self.heads.came(&buffer.filled()[before..]);
        match self.heads.is_excess() {
            true => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, EXCESS))),
            false => read,
        }
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.heads.left(&bytes[..*count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

/// What a connection that ends for that says. More of an error than its words `h2` does not hand on.
pub(super) const EXCESS: &str = "too many interim responses";

/// Heads of streams that have not ended, beyond the first of each.
const MOST: usize = 1024;

#[derive(Debug)]
struct Heads {
    incoming: Scanner,
    outgoing: Scanner,
    /// How many have come, of streams that have not ended.
    streams: BTreeMap<u32, usize>,
    /// The newest stream.
    newest: u32,
    beyond: usize,
}

impl Heads {
    fn new() -> Self {
        Self {
            incoming: Scanner::default(),
            outgoing: Scanner::behind(PREFACE.len()),
            streams: BTreeMap::new(),
            newest: 0,
            beyond: 0,
        }
    }

    /// The server has sent this. What comes for a stream that has ended was under way when that was reset, and is not kept.
    fn came(&mut self, bytes: &[u8]) {
        let Self {
            incoming,
            streams,
            beyond,
            ..
        } = self;
        incoming.scan(bytes, |frame| {
            let is_last = frame.flags & END_STREAM != 0;
            match frame.kind {
                HEADERS | DATA if is_last => end(streams, beyond, frame.stream),
                RST_STREAM => end(streams, beyond, frame.stream),
                HEADERS => {
                    if let Some(count) = streams.get_mut(&frame.stream) {
                        *beyond = beyond.saturating_add(usize::from(*count > 0));
                        *count = count.saturating_add(1);
                    }
                }
                _ => {}
            }
        });
    }

    /// The server is sent this.
    fn left(&mut self, bytes: &[u8]) {
        let Self {
            outgoing,
            streams,
            newest,
            beyond,
            ..
        } = self;
        outgoing.scan(bytes, |frame| match frame.kind {
            // Other heads are trailers.
            HEADERS if frame.stream > *newest => {
                *newest = frame.stream;
                streams.insert(frame.stream, 0);
            }
            RST_STREAM => end(streams, beyond, frame.stream),
            _ => {}
        });
    }

    fn is_excess(&self) -> bool {
        self.beyond > MOST
    }
}

fn end(streams: &mut BTreeMap<u32, usize>, beyond: &mut usize, stream: u32) {
    let count = streams.remove(&stream).unwrap_or(0);
    *beyond = beyond.saturating_sub(count.saturating_sub(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        let mut bytes = vec![0, 0, 4, kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    /// With so many requests under way.
    fn asked(requests: usize) -> Heads {
        let mut heads = Heads::new();
        heads.left(PREFACE);
        for stream in (1..).step_by(2).take(requests) {
            heads.left(&frame(HEADERS, END_STREAM, stream));
        }
        heads
    }

    #[test]
    fn heads_beyond_the_first_count_until_their_stream_ends() {
        let mut heads = asked(4);
        for stream in [1, 3, 5] {
            for _ in 0..=300 {
                heads.came(&frame(HEADERS, 0, stream));
            }
        }
        assert_eq!((heads.beyond, heads.streams.len()), (900, 4));
        heads.came(&frame(DATA, 0, 1));
        assert_eq!(heads.beyond, 900);
        heads.came(&frame(DATA, END_STREAM, 1));
        heads.came(&frame(RST_STREAM, 0, 3));
        assert_eq!((heads.beyond, heads.streams.len()), (300, 2));
        heads.left(&frame(RST_STREAM, 0, 5));
        assert_eq!((heads.beyond, heads.streams.len()), (0, 1));
        // Answers that end with their head leave nothing.
        heads.came(&frame(HEADERS, END_STREAM, 7));
        assert!(heads.streams.is_empty());
    }

    #[test]
    fn what_was_under_way_when_its_stream_was_reset_leaves_nothing() {
        let mut heads = asked(1);
        heads.left(&frame(RST_STREAM, 0, 1));
        (0..3).for_each(|_| heads.came(&frame(HEADERS, 0, 1)));
        assert_eq!((heads.beyond, heads.streams.len()), (0, 0));
        // Nor do the trailers of a request whose answer has ended.
        heads.left(&frame(HEADERS, 0, 3));
        heads.came(&frame(HEADERS, END_STREAM, 3));
        heads.left(&frame(HEADERS, END_STREAM, 3));
        assert!(heads.streams.is_empty());
    }

    #[test]
    fn one_too_many_is_too_many() {
        let mut heads = asked(1);
        for _ in 0..=MOST {
            heads.came(&frame(HEADERS, 0, 1));
        }
        assert!(!heads.is_excess());
        heads.came(&frame(HEADERS, 0, 1));
        assert!(heads.is_excess());
    }
}
