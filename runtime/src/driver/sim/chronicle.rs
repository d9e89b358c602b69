//! What has happened in a world, one entry for each thing, where somebody wants to read it.

use std::{fmt::Write, time::Duration};

use super::host::HostId;

/// Kept only if it is wanted: to write it costs more than what is written of.
pub(crate) struct Chronicle {
    entries: Vec<Entry>,
    wanted: Wanted,
    sent: u64,
}

/// What is done with entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Each is written to standard error.
    pub(crate) told: bool,
    /// All are kept.
    pub(crate) kept: bool,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// In nanoseconds.
    pub(crate) at: u64,
    pub(crate) what: Moment,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A coroutine has its turn.
    Turn { host: HostId, text: String },
    /// Something sets out, by number.
    Sent {
        number: u64,
        from: HostId,
        to: HostId,
        text: String,
    },
    /// It is there.
    Came { number: u64 },
    /// It will never be.
    Lost { number: u64 },
    /// A host stops, or is there again.
    Power { host: HostId, is_on: bool },
    /// Somebody has something to say.
    Said { host: HostId, text: String },
}

/// Beyond these, entries are counted and not kept.
const MOST_ENTRIES: usize = 200_000;

impl Chronicle {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            entries: Vec::new(),
            wanted,
            sent: 0,
        }
    }

    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.told || self.wanted.kept
    }

    pub(crate) fn add(&mut self, at: u64, what: Moment) {
        let entry = Entry { at, what };
        if self.wanted.told {
            eprintln!("{}", entry.line(&|host| format!("host {}", host.0)));
        }
        if self.wanted.kept && self.entries.len() < MOST_ENTRIES {
            self.entries.push(entry);
        }
    }

    /// Notes that something sets out; its number, for [`came`](Self::came). 0 if nobody wants to know.
    pub(crate) fn sent(
        &mut self,
        at: u64,
        (from, to): (HostId, HostId),
        text: impl FnOnce() -> String,
    ) -> u64 {
        if !self.is_wanted() {
            return 0;
        }
        self.sent += 1;
        let (number, text) = (self.sent, text());
        self.add(
            at,
            Moment::Sent {
                number,
                from,
                to,
                text,
            },
        );
        number
    }

    pub(crate) fn came(&mut self, at: u64, number: u64) {
        if number > 0 && self.is_wanted() {
            self.add(at, Moment::Came { number });
        }
    }

    pub(crate) fn lost(&mut self, at: u64, number: u64) {
        if number > 0 && self.is_wanted() {
            self.add(at, Moment::Lost { number });
        }
    }

    pub(super) fn take(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }
}

impl Entry {
    /// The entry in a line, for people.
    pub(crate) fn line(&self, name_of: &dyn Fn(HostId) -> String) -> String {
        let at = Duration::from_nanos(self.at);
        let mut line = format!("{at:>14.6?}  ");
        let text = match &self.what {
            Moment::Turn { host, text } => format!("{}: {text}", name_of(*host)),
            Moment::Sent {
                number,
                from,
                to,
                text,
            } => format!("{} -> {} #{number}: {text}", name_of(*from), name_of(*to)),
            Moment::Came { number } => format!("  arrived #{number}"),
            Moment::Lost { number } => format!("  lost #{number}"),
            Moment::Power { host, is_on: false } => format!("{} stops", name_of(*host)),
            Moment::Power { host, is_on: true } => format!("{} is back", name_of(*host)),
            Moment::Said { host, text } => format!("{}: {text}", name_of(*host)),
        };
        line.push_str(&text);
        line
    }
}

/// The beginning of what is sent, as far as it can be read.
pub(crate) fn glimpse(bytes: &[u8]) -> String {
    const MOST: usize = 40;
    let line = bytes
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let shown = &line[..line.len().min(MOST)];
    let mut text = String::new();
    for &byte in shown {
        match byte {
            b'\r' => {}
            b' '..=b'~' => text.push(byte as char),
            other => _ = write!(text, "\\x{other:02x}"),
        }
    }
    if shown.len() < bytes.len() {
        text.push('…');
    }
    format!("{} bytes {text}", bytes.len())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_glimpse_is_the_first_line_with_what_cannot_be_read_as_numbers() {
        assert_eq!(
            glimpse(b"GET / HTTP/1.1\r\nHost: a\r\n"),
            "25 bytes GET / HTTP/1.1…"
        );
        assert_eq!(glimpse(&[0, b'a', 0xFF]), "3 bytes \\x00a\\xff");
        assert_eq!(glimpse(b""), "0 bytes ");
        assert!(glimpse(&[b'x'; 100]).ends_with("xx…"));
    }

    #[test]
    fn nothing_is_kept_that_nobody_wants() {
        let mut none = Chronicle::new(Wanted::default());
        let hosts = (HostId(0), HostId(1));
        assert_eq!(none.sent(3, hosts, || unreachable!()), 0);
        none.came(4, 0);
        assert_eq!(none.take(), []);
        let mut some = Chronicle::new(Wanted {
            kept: true,
            told: false,
        });
        let number = some.sent(3, hosts, || "hello".to_owned());
        some.came(4_000, number);
        let lines: Vec<_> = some
            .take()
            .iter()
            .map(|entry| entry.line(&|host| format!("h{}", host.0)).trim().to_owned())
            .collect();
        assert_eq!(
            lines,
            ["3.000000ns  h0 -> h1 #1: hello", "4.000000µs    arrived #1"]
        );
    }
}
