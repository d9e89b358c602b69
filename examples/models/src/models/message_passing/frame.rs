//! What travels.

use std::{
    io::{self, ErrorKind, Read},
    time::Instant,
};

use crate::work::{
    Answer, Gathering,
    backend::{self, parse_reply},
};

/// ① All there is of a request: lines that say for whom what is asked, and what each node
/// had to say to it.
///
/// Its first line is a question and the others are answers as the backends know them. On
/// the way, its length goes before it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Frame(String);

impl Frame {
    pub(super) fn question(who: u64, id: u64) -> Self {
        Self(format!("{who} {id}\n"))
    }

    /// Adds what a node has to say, and tells how long that takes it. `None` if the frame
    /// makes no sense.
    pub(super) fn answer(&mut self, which: usize) -> Option<Instant> {
        let (time, said) = backend::reply(which, self.0.lines().next()?)?;
        self.0.push_str(&said);
        Some(Instant::now() + time)
    }

    /// Who is to be answered, and what, at the end of the way.
    pub(super) fn outcome(&self) -> Option<(u64, Answer)> {
        let mut lines = self.0.lines();
        let (who, id) = lines.next()?.split_once(' ')?;
        let mut gathering = Gathering::new(id.parse().ok()?);
        let said = lines.enumerate().map(|(which, line)| {
            let (_, said) = parse_reply(which, line)?;
            gathering.put(which, said)
        });
        Some((who.parse().ok()?, said.last()??))
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let length = u16::try_from(self.0.len()).expect("a frame is some 200 bytes");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self.0.as_bytes());
    }

    pub(super) fn read_from(from: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 2];
        from.read_exact(&mut length)?;
        let mut text = vec![0; usize::from(u16::from_be_bytes(length))];
        from.read_exact(&mut text)?;
        let text = String::from_utf8(text);
        Ok(Self(text.map_err(|_| ErrorKind::InvalidData)?))
    }
}
