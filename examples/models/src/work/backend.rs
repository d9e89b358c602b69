//! The backends A, B and C: what they answer, how long they take, and a client for code that may block.
//!
//! A line asks, `TAG ID`, and a line answers, `TAG VALUE` or `TAG !REASON`. Who has several questions under way on one
//! connection tells the answers apart by their tags; they come in the order in which they are ready.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use super::Answer;

/// How many backends there are.
pub const COUNT: usize = 3;

/// Their names.
pub const NAMES: [&str; COUNT] = ["a", "b", "c"];

/// B has nothing under this id, and says so.
pub const MISSING: u64 = 404_404;

/// How long a client that blocks waits for an answer. It takes 50 ms at most.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A backend gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("backend {name}: {why}")]
pub struct Unavailable {
    name: &'static str,
    why: String,
}

impl Unavailable {
    /// The backend with this number did not answer, and why.
    pub fn new(which: usize, why: impl ToString) -> Self {
        Self {
            name: NAMES[which],
            why: why.to_string(),
        }
    }
}

impl From<Unavailable> for Answer {
    fn from(unavailable: Unavailable) -> Self {
        Answer::refusal(502, &unavailable.to_string())
    }
}

/// How long a backend takes for `id`: A 1 to 10 ms, B 5 to 20 ms, C 5 to 20 ms but for one in twenty, which takes 50.
pub fn latency(which: usize, id: u64) -> Duration {
    let chance = mixed(which, id);
    let from_to = |from: u64, to: u64| from + chance % (to - from + 1);
    Duration::from_micros(match which {
        0 => from_to(1_000, 10_000),
        2 if chance % 20 == 19 => 50_000,
        _ => from_to(5_000, 20_000),
    })
}

/// What a backend has under `id`.
pub fn value(which: usize, id: u64) -> Result<u64, &'static str> {
    match (which, id) {
        (1, MISSING) => Err("there is no such id"),
        _ => Ok(mixed(which, id) >> 40),
    }
}

/// The line that answers `line`; `None` if that makes no sense.
pub fn reply(which: usize, line: &str) -> Option<(Duration, String)> {
    let (tag, id) = line.split_once(' ')?;
    let id = id.parse().ok()?;
    let answer = match value(which, id) {
        Ok(value) => format!("{tag} {value}\n"),
        Err(why) => format!("{tag} !{why}\n"),
    };
    Some((latency(which, id), answer))
}

/// The tag of an answer, and what it says.
pub fn parse_reply(which: usize, line: &str) -> Option<(u64, Result<u64, Unavailable>)> {
    let (tag, said) = line.trim_end().split_once(' ')?;
    let said = match said.strip_prefix('!') {
        Some(why) => Err(Unavailable::new(which, why)),
        None => Ok(said.parse().ok()?),
    };
    Some((tag.parse().ok()?, said))
}

/// SplitMix64: the same for everybody, and without a pattern that a model could profit from.
fn mixed(which: usize, id: u64) -> u64 {
    let mut z = id
        .wrapping_mul(3)
        .wrapping_add(which as u64 + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream whose reads block: a thread, or a coroutine.
pub trait Stream: Read + Write + Sized {
    /// Connects, sends small writes at once, and fails a read that waits for longer than [`PATIENCE`].
    fn connect(address: SocketAddr) -> io::Result<Self>;

    /// Tells the peer that no more will be sent.
    fn end_output(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn end_output(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A coroutine's: the code above it is the same.
impl Stream for maniple::net::TcpStream {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = Self::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn end_output(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// One backend, for a caller that blocks until it has answered. Keeps its connection between questions.
#[derive(Debug)]
pub struct Backend<S = TcpStream> {
    which: usize,
    address: SocketAddr,
    connection: Option<BufReader<S>>,
}

impl<S: Stream> Backend<S> {
    /// The backend with this number; connects with the first question.
    pub fn new(which: usize, address: SocketAddr) -> Self {
        Self {
            which,
            address,
            connection: None,
        }
    }

    /// Asks, and blocks until the answer is there.
    ///
    /// # Errors
    ///
    /// If the backend cannot be reached, is silent for [`PATIENCE`], or has nothing under `id`. A connection that has ended
    /// since the last question is made anew, once.
    pub fn ask(&mut self, id: u64) -> Result<u64, Unavailable> {
        let kept = self.connection.is_some();
        let silent =
            |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        let said = match self.exchange(id) {
            Err(error) if kept && !silent(&error) => self.exchange(id),
            said => said,
        };
        said.map_err(|error| Unavailable::new(self.which, error))?
    }

    fn exchange(&mut self, id: u64) -> io::Result<Result<u64, Unavailable>> {
        // Taken, so that a connection on which something failed is not used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::with_capacity(256, S::connect(self.address)?),
        };
        connection
            .get_mut()
            .write_all(format!("0 {id}\n").as_bytes())?;
        let mut line = String::new();
        connection.read_line(&mut line)?;
        let Some((_, said)) = parse_reply(self.which, &line) else {
            return Err(ErrorKind::UnexpectedEof.into());
        };
        self.connection = Some(connection);
        Ok(said)
    }
}

/// A, B and C, for a caller that blocks.
#[derive(Debug)]
pub struct Backends<S = TcpStream> {
    /// Each by itself, for callers that ask them side by side.
    pub each: [Backend<S>; COUNT],
}

impl<S: Stream> Backends<S> {
    /// The backends at these addresses.
    pub fn new(addresses: [SocketAddr; COUNT]) -> Self {
        Self {
            each: std::array::from_fn(|which| Backend::new(which, addresses[which])),
        }
    }

    /// Asks A, then B, then C: the caller waits for the sum of their times.
    ///
    /// # Errors
    ///
    /// That of the first that fails.
    pub fn ask_in_turn(&mut self, id: u64) -> Result<Answer, Unavailable> {
        let mut values = [0; COUNT];
        for (value, backend) in values.iter_mut().zip(&mut self.each) {
            *value = backend.ask(id)?;
        }
        Ok(merged(id, values))
    }
}

/// What is said to the client once all three have answered.
pub(super) fn merged(id: u64, values: [u64; COUNT]) -> Answer {
    let [a, b, c] = NAMES;
    let [of_a, of_b, of_c] = values;
    Answer::ok(format!(
        "{{\"id\":{id},\"{a}\":{of_a},\"{b}\":{of_b},\"{c}\":{of_c}}}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_stay_within_what_is_promised() {
        for (which, least, most) in [(0, 1, 10), (1, 5, 20), (2, 5, 50)] {
            let times: Vec<_> = (0..10_000).map(|id| latency(which, id)).collect();
            assert!(
                times
                    .iter()
                    .all(|time| *time >= Duration::from_millis(least))
            );
            assert!(
                times
                    .iter()
                    .all(|time| *time <= Duration::from_millis(most))
            );
        }
        let long = (0..10_000)
            .filter(|id| latency(2, *id) == Duration::from_millis(50))
            .count();
        assert!((400..600).contains(&long), "{long} of 10000 take 50 ms");
    }

    #[test]
    fn a_reply_is_understood() {
        let (_, line) = reply(2, "17 5").unwrap();
        assert_eq!(parse_reply(2, &line), Some((17, Ok(value(2, 5).unwrap()))));
        let (_, line) = reply(1, &format!("8 {MISSING}")).unwrap();
        assert_eq!(
            parse_reply(1, &line).unwrap().1,
            Err(Unavailable::new(1, "there is no such id"))
        );
    }
}
