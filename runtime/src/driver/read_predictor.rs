//! Whether a read behind one that filled its buffer is worth a call.
//!
//! Protocols with messages of a known length ask for exactly that many bytes, get them, and next time
//! would pay a call that fails to learn that nothing is left. That is two calls for each message where
//! one would do. Past failures tell such a descriptor from one that streams.

/// What past reads that filled their buffer say about the next.
pub(super) struct ReadPredictor {
    latest: Latest,
    /// How often in a row the read after one that filled its buffer found nothing.
    streak: u8,
    /// From which streak on such a read is put off.
    sure: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Latest {
    /// An edge, or a call that used it up.
    Plain,
    /// A read that filled its buffer.
    Filled,
    /// The read after it was put off.
    PutOff,
    /// No edge has come meanwhile, so it is tried.
    Tried,
}

impl Default for ReadPredictor {
    fn default() -> Self {
        Self {
            latest: Latest::Plain,
            streak: 0,
            sure: SURE,
        }
    }
}

impl ReadPredictor {
    /// A read found something.
    #[inline]
    pub(super) fn found(&mut self, filled: bool) {
        match self.latest {
            Latest::Plain | Latest::PutOff => {}
            Latest::Filled => self.streak = 0,
            Latest::Tried => self.sure = self.sure.saturating_mul(2),
        }
        self.latest = match filled {
            true => Latest::Filled,
            false => Latest::Plain,
        };
    }

    /// A read found nothing.
    #[inline]
    pub(super) fn failed(&mut self) {
        if self.latest == Latest::Filled {
            self.streak = self.streak.saturating_add(1);
        }
        self.latest = Latest::Plain;
    }

    /// Whether to put the next read off, as it would most likely fail.
    #[inline]
    pub(super) fn puts_off(&mut self) -> bool {
        let off = self.latest == Latest::Filled && self.streak >= self.sure;
        if off {
            self.latest = Latest::PutOff;
        }
        off
    }

    /// Whether a read that was put off still is.
    pub(super) fn is_waiting(&self) -> bool {
        self.latest == Latest::PutOff
    }

    /// The read that was put off will be tried without an edge: nothing was gained by waiting.
    pub(super) fn tries_after_all(&mut self) {
        self.latest = Latest::Tried;
        self.streak = 0;
    }

    /// The kernel says that there is something new.
    #[inline]
    pub(super) fn edge_came(&mut self) {
        self.latest = Latest::Plain;
    }
}

/// Reads in a row that found nothing behind one that filled its buffer, before the next is put off; doubles
/// with each wrong guess.
pub(super) const SURE: u8 = 4;
