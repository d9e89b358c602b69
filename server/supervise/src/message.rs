//! What a supervisor and its workers say to one another: lines of text, the first of them with descriptors.

use std::{fmt, str::FromStr};

/// Why a worker is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Another process serves in its place, and accepts from the same sockets.
    Replaced,
    /// The service ends.
    Stopped,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Replaced => "replaced",
            End::Stopped => "stopped",
        })
    }
}

/// From a worker to its supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// It serves.
    Ready,
    /// Its runtime gives coroutines their turn.
    Alive,
    /// What it is doing, in its own words.
    Says(String),
}

/// Bytes of a word, and of a line to a worker, at most.
pub(crate) const MOST_BYTES: usize = 512;

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Ready => f.write_str("ready\n"),
            Word::Alive => f.write_str("alive\n"),
            Word::Says(text) => writeln!(f, "says {}", one_line(text)),
        }
    }
}

impl FromStr for Word {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        match line.split_once(' ') {
            None if line == "ready" => Ok(Word::Ready),
            None if line == "alive" => Ok(Word::Alive),
            Some(("says", text)) => Ok(Word::Says(one_line(text))),
            _ => Err(()),
        }
    }
}

/// The text without what would end its line or steer a terminal, and no longer than a line may be.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + c.len_utf8() > MOST_BYTES - 16 {
            break;
        }
        line.push(c);
    }
    line
}

/// To a worker: why it is to end.
pub(crate) fn end_line(why: End) -> String {
    format!("end {why}\n")
}

/// What [`end_line`] has said, if it is that.
pub(crate) fn read_end(line: &str) -> Option<End> {
    match line {
        "end replaced" => Some(End::Replaced),
        "end stopped" => Some(End::Stopped),
        _ => None,
    }
}

/// What a worker finds in its environment: that it is one, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Badge {
    /// Who started it. Others inherit the environment without being workers: those that it starts.
    pub(crate) supervisor: u32,
    pub(crate) slot: usize,
    pub(crate) generation: u64,
    /// After how many milliseconds of silence it is taken to hang; 0 for never.
    pub(crate) watchdog: u64,
    /// Names of the sockets that come with the first line.
    pub(crate) sockets: usize,
}

/// The variable that has the badge.
pub(crate) const BADGE: &str = "MANIPLE_SUPERVISED";

/// Of what supervisor and worker say, so that a new program under an old supervisor, or the reverse, is found out.
const VERSION: &str = "1";

impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Badge {
            supervisor,
            slot,
            generation,
            watchdog,
            sockets,
        } = self;
        write!(
            f,
            "{VERSION} {supervisor} {slot} {generation} {watchdog} {sockets}"
        )
    }
}

impl FromStr for Badge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let broken = || format!("{BADGE} is {text:?}, which is no worker's");
        let mut numbers = text.split(' ');
        let version = numbers.next().ok_or_else(broken)?;
        if version != VERSION {
            return Err(format!(
                "the supervisor speaks version {version:?}, this program {VERSION:?}: restart the service"
            ));
        }
        let mut number = || numbers.next().and_then(|number| number.parse::<u64>().ok());
        let badge = (|| {
            Some(Badge {
                supervisor: u32::try_from(number()?).ok()?,
                slot: usize::try_from(number()?).ok()?,
                generation: number()?,
                watchdog: number()?,
                sockets: usize::try_from(number()?).ok()?,
            })
        })();
        badge.ok_or_else(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for word in [Word::Ready, Word::Alive, Word::Says("12 rooms".into())] {
            let line = word.to_string();
            assert_eq!(line.strip_suffix('\n').unwrap().parse(), Ok(word));
        }
        assert_eq!("gone".parse::<Word>(), Err(()));
        for why in [End::Replaced, End::Stopped] {
            let line = end_line(why);
            assert_eq!(read_end(line.trim_end()), Some(why));
        }
        assert_eq!(read_end("end"), None);
    }

    #[test]
    fn what_a_worker_says_stays_one_short_line() {
        let said = Word::Says("a\nready\u{1b}[2J".into()).to_string();
        assert_eq!(said, "says a ready [2J\n");
        let long = Word::Says("ö".repeat(5000)).to_string();
        assert!(long.len() <= MOST_BYTES && long.ends_with('\n'));
    }

    #[test]
    fn a_badge_of_another_version_is_refused_with_what_to_do() {
        let badge = Badge {
            supervisor: 7,
            slot: 1,
            generation: 3,
            watchdog: 0,
            sockets: 2,
        };
        assert_eq!(badge.to_string().parse(), Ok(badge));
        let error = "2 7 1 3 0 2".parse::<Badge>().unwrap_err();
        assert!(error.ends_with("restart the service"), "{error}");
        for broken in ["1", "1 7 1 3 0 x", "1 99999999999 1 3 0 1"] {
            assert!(broken.parse::<Badge>().is_err(), "{broken}");
        }
    }
}
