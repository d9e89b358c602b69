//! A chat room full of members, as the load has it: one speaks, all read, and each line is checked.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    net::sockopt,
};

use super::server::Server;

/// Members of one room. The first one speaks.
pub(super) struct Room {
    members: Vec<Member>,
    /// Members from this one on do not read.
    readers: usize,
    epoll: OwnedFd,
    events: Vec<Event>,
    /// When each message was said or due; its number is its place.
    said: Vec<Instant>,
    padding: String,
}

struct Member {
    stream: TcpStream,
    lines: Lines,
}

/// What came to one member.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) partial: Vec<u8>,
    /// The message that comes next if none is left out.
    pub(super) next: usize,
    /// Messages that were left out.
    pub(super) missing: usize,
    /// Those of them that the model owned up to.
    pub(super) dropped: usize,
    /// Messages that came twice, or not as they were said.
    pub(super) wrong: usize,
    /// Members that were said to have left.
    pub(super) left: usize,
}

impl Room {
    /// Has so many members join, whose speaker says lines of about `length` bytes.
    pub(super) fn enter(server: &Server, members: usize, length: usize) -> Result<Self> {
        let mut room = Self {
            members: Vec::new(),
            readers: members,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(256),
            said: Vec::new(),
            padding: ".".repeat(length),
        };
        for number in 0..members {
            let member = join(server, number);
            let member = member.with_context(|| format!("member {} of {members}", number + 1))?;
            let data = EventData::new_u64(number as u64);
            epoll::add(&room.epoll, member.stream.as_fd(), data, EventFlags::IN)?;
            room.members.push(member);
        }
        Ok(room)
    }

    /// Has the last member read no more.
    pub(super) fn stop_reading(&mut self) -> Result<()> {
        ensure!(self.readers > 1, "nobody would read");
        self.readers -= 1;
        epoll::delete(&self.epoll, &self.members[self.readers].stream)
            .context("watching a member no more")
    }

    /// Says the next message, which was due then. False if the model does not take it now.
    pub(super) fn say(&mut self, due: Instant) -> Result<bool> {
        let line = format!("say {}\n", self.message(self.said.len()));
        match self.members[0].stream.write(line.as_bytes()) {
            Ok(count) if count == line.len() => {
                self.said.push(due);
                Ok(true)
            }
            Ok(_) => bail!("the speaker's connection took half a line"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("the speaker's connection"),
        }
    }

    /// How many messages were said.
    pub(super) fn said(&self) -> usize {
        self.said.len()
    }

    /// How many messages all who read have been told.
    pub(super) fn told_to_all(&self) -> usize {
        let readers = self.members[..self.readers].iter();
        readers.map(|member| member.lines.next).min().unwrap_or(0)
    }

    /// What came to those who read.
    pub(super) fn readers(&self) -> impl Iterator<Item = &Lines> {
        self.members[..self.readers]
            .iter()
            .map(|member| &member.lines)
    }

    /// Waits for lines, at most so long; `told` hears of each message that comes to somebody, by when it was due.
    pub(super) fn listen(
        &mut self,
        patience: Duration,
        mut told: impl FnMut(Instant),
    ) -> Result<()> {
        let patience = Timespec::try_from(patience)?;
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for index in 0..self.events.len() {
            let number = self.events[index].data.u64() as usize;
            if !self.hear(number, &mut told)? {
                bail!("the model cut a member who reads");
            }
        }
        Ok(())
    }

    /// Reads what is there for a member; false if its connection has ended.
    fn hear(&mut self, number: usize, told: &mut impl FnMut(Instant)) -> Result<bool> {
        let Self {
            members,
            said,
            padding,
            ..
        } = self;
        let member = &mut members[number];
        let mut chunk = [0; 16 * 1024];
        match member.stream.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(count) => {
                member.lines.take(&chunk[..count], padding, |number| {
                    if let Some(due) = said.get(number) {
                        told(*due);
                    }
                });
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(_) => Ok(false),
        }
    }

    /// Has the member who did not read do so, until nothing comes for a while. What came, and whether its connection ended.
    pub(super) fn read_again(&mut self, patience: Duration) -> Result<(Lines, bool)> {
        let number = self.readers;
        self.members[number].stream.set_nonblocking(false)?;
        self.members[number].stream.set_read_timeout(Some(QUIET))?;
        let until = Instant::now() + patience;
        let mut count = self.members[number].lines.next;
        let mut heard = Instant::now();
        let ended = loop {
            let now = Instant::now();
            if now >= until || now - heard >= QUIET {
                break false;
            }
            if !self.hear(number, &mut |_| {})? {
                break true;
            }
            let lines = &self.members[number].lines;
            if lines.next + lines.partial.len() != count {
                count = lines.next + lines.partial.len();
                heard = Instant::now();
            }
        };
        Ok((std::mem::take(&mut self.members[number].lines), ended))
    }

    fn message(&self, number: usize) -> String {
        format!("{number} {}", self.padding)
    }
}

impl Lines {
    /// Takes bytes; `told` hears of each message.
    fn take(&mut self, bytes: &[u8], padding: &str, mut told: impl FnMut(usize)) {
        self.partial.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(length) = memchr::memchr(b'\n', &self.partial[from..]) {
            let line = String::from_utf8_lossy(&self.partial[from..from + length]).into_owned();
            from += length + 1;
            if let Some(number) = self.line(line.trim_end_matches('\r'), padding) {
                told(number);
            }
        }
        self.partial.drain(..from);
    }

    /// The number of the message that a line is.
    fn line(&mut self, line: &str, padding: &str) -> Option<usize> {
        let Some(message) = line.strip_prefix("<m0> ") else {
            match line
                .strip_prefix("* ")
                .map(|notice| notice.rsplit_once(' '))
            {
                Some(Some((_, "left"))) => self.left += 1,
                Some(Some((count, "dropped"))) => {
                    let count = count.split(' ').next().and_then(|count| count.parse().ok());
                    self.dropped += count.unwrap_or(0);
                }
                _ => {}
            }
            return None;
        };
        let whole = message.split_once(' ').filter(|(_, rest)| *rest == padding);
        let number = whole.and_then(|(number, _)| number.parse::<usize>().ok());
        match number.filter(|number| *number >= self.next) {
            Some(number) => {
                self.missing += number - self.next;
                self.next = number + 1;
                Some(number)
            }
            None => {
                self.wrong += 1;
                None
            }
        }
    }
}

/// Connects and joins, and waits for the model's word that it has.
fn join(server: &Server, number: usize) -> Result<Member> {
    let mut stream = TcpStream::connect(server.address).context("connecting")?;
    stream.set_nodelay(true)?;
    // So that the kernel does not hide for long that nobody reads.
    sockopt::set_socket_recv_buffer_size(&stream, RECEIVED)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("join lab m{number}\n").as_bytes())?;
    let mut lines = Lines::default();
    let mut chunk = [0; 1024];
    loop {
        match stream.read(&mut chunk).context("joining")? {
            0 => bail!("the model closed its connection"),
            count => lines.partial.extend_from_slice(&chunk[..count]),
        }
        if memchr::memmem::find(&lines.partial, b"ok joined lab").is_some() {
            break;
        }
        if memchr::memmem::find(&lines.partial, b"error").is_some() {
            bail!("{}", String::from_utf8_lossy(&lines.partial).trim());
        }
    }
    stream.set_nonblocking(true)?;
    Ok(Member { stream, lines })
}

const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing comes until nothing more is expected.
const QUIET: Duration = Duration::from_millis(300);
const RECEIVED: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_checked_and_counted_however_they_are_split() {
        let text = "ok joined lab\n* m1 joined\n<m0> 0 ..\r\n<m0> 1 ..\n* 2 lines dropped\n\
            <m0> 4 ..\n<m0> 4 ..\n<m0> 5 .\n* m7 left\n<m0> 6 ..\n<m0> 7 .";
        for split in 0..text.len() {
            let (mut lines, mut told) = (Lines::default(), Vec::new());
            let (one, other) = text.as_bytes().split_at(split);
            lines.take(one, "..", |number| told.push(number));
            lines.take(other, "..", |number| told.push(number));
            assert_eq!(told, [0, 1, 4, 6], "{split}");
            let Lines {
                next,
                missing,
                dropped,
                wrong,
                left,
                ..
            } = lines;
            assert_eq!((next, missing, dropped, wrong, left), (7, 3, 2, 2, 1));
        }
    }
}
