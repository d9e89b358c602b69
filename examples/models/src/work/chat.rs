//! The chat room's protocol: lines in, lines out.
//!
//! `join ROOM NAME`, `say TEXT` and `leave`; `ok …` and `error …` answer, `<NAME> TEXT` is what somebody says, and
//! `* NAME joined` and `* NAME left` tell of the others. The end of input is a `leave`.

use std::io::{ErrorKind, Read};

/// The longest line, in bytes, without its end.
pub const LONGEST_LINE: usize = 512;

/// The longest name of a room or a member, in bytes.
pub const LONGEST_NAME: usize = 32;

/// How much the kernel may hold for a member who does not read, in bytes: it doubles that. By default it holds up to
/// some megabytes, and then who is slow is found out late.
pub const SEND_BUFFER: usize = 16 * 1024;

/// What is answered to a line that is longer than [`LONGEST_LINE`], before the connection ends.
pub const TOO_LONG: &str = "error line too long";

/// What a member may say to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Enter a room under a name.
    Join {
        /// The room's name.
        room: String,
        /// The member's.
        name: String,
    },
    /// Tell everybody in the room.
    Say(String),
    /// Leave the room.
    Leave,
}

impl Said {
    /// What a line says.
    ///
    /// # Errors
    ///
    /// The line to answer, if it says nothing that is understood.
    pub fn parse(line: &str) -> Result<Self, &'static str> {
        let line = line.trim_end_matches(['\r', '\n']);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "join" => match rest.split_once(' ') {
                Some((room, name)) if is_name(room) && is_name(name) => Ok(Self::Join {
                    room: room.to_owned(),
                    name: name.to_owned(),
                }),
                _ => Err("error bad name"),
            },
            "say" if rest.is_empty() => Err("error empty message"),
            "say" => Ok(Self::Say(rest.to_owned())),
            "leave" if rest.is_empty() => Ok(Self::Leave),
            _ => Err("error unknown command"),
        }
    }
}

/// What a client was heard to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It said something that is understood.
    Said(Said),
    /// It said something else: this is the line to answer.
    Nonsense(&'static str),
    /// It said a line that is too long. Nothing that follows is understood.
    TooLong,
    /// It says nothing more.
    End,
}

impl Heard {
    /// What a line says.
    pub fn of(line: &str) -> Self {
        match Said::parse(line) {
            Ok(said) => Self::Said(said),
            Err(error) => Self::Nonsense(error),
        }
    }

    /// Whether the connection ends with this, once what is to be told has been told.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::TooLong | Self::End)
    }
}

/// What a client says, line by line, for code that blocks.
#[derive(Debug)]
pub struct Lines<S> {
    stream: S,
    received: Vec<u8>,
}

impl<S: Read> Lines<S> {
    /// Over a connection.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Blocks until there is a line. A connection that fails, or says what is not text, has ended.
    pub fn hear(&mut self) -> Heard {
        let mut chunk = [0; 1024];
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
                if line.len() > LONGEST_LINE {
                    return Heard::TooLong;
                }
                return std::str::from_utf8(line).map_or(Heard::End, Heard::of);
            }
            // One more may be the \r that does not count.
            if self.received.len() > LONGEST_LINE + 1 {
                return Heard::TooLong;
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Heard::End,
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Heard::End,
            }
        }
    }

    /// Throws away what the client still sends, until it has ended. Closing a socket with unread bytes resets the
    /// connection, and the client could lose what it was told last.
    pub fn discard_rest(mut self) {
        let mut chunk = [0; 1024];
        while self.stream.read(&mut chunk).is_ok_and(|count| count > 0) {}
    }
}

fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_or_answered() {
        let join = Said::Join {
            room: "tea".into(),
            name: "Ann".into(),
        };
        for (line, said) in [
            ("join tea Ann\r\n", Ok(join)),
            ("join tea", Err("error bad name")),
            ("join tea A!n", Err("error bad name")),
            ("say  two  words\n", Ok(Said::Say(" two  words".into()))),
            ("say\n", Err("error empty message")),
            ("leave\n", Ok(Said::Leave)),
            ("leave now\n", Err("error unknown command")),
            ("\n", Err("error unknown command")),
        ] {
            assert_eq!(Said::parse(line), said, "{line:?}");
        }
    }
    #[test]
    fn lines_are_taken_however_they_come() {
        let longest = "a".repeat(LONGEST_LINE);
        for (bytes, heard) in [
            ("leave\nleave\r\n", vec![Heard::Said(Said::Leave); 2]),
            ("leave", vec![]),
            (&format!("{longest}\r\n"), vec![Heard::of(&longest)]),
            (&format!("{longest}a\n"), vec![Heard::TooLong]),
            (&longest.repeat(4), vec![Heard::TooLong]),
        ] {
            let mut lines = Lines::new(bytes.as_bytes());
            let mut all = Vec::new();
            while all.last() != Some(&Heard::TooLong) && all.last() != Some(&Heard::End) {
                all.push(lines.hear());
            }
            all.retain(|heard| *heard != Heard::End);
            assert_eq!(all, heard, "{bytes:?}");
        }
    }
}
