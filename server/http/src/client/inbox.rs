//! What has been received on a connection and not used, and buffers that none of a thread needs now.

use std::cell::RefCell;

/// Received bytes, of which those from `start` to `end` are unread.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(super) bytes: Vec<u8>,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Room for a read.
const READ: usize = 4 * 1024;
/// Of a connection whose thread has no buffers to spare, so that many at a time take little: most answers that are many are short.
pub(super) const FIRST: usize = 512;

impl Inbox {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// What comes in such small pieces no more is not short.
    pub(super) fn grow_if_full(&mut self) {
        if self.end == self.bytes.len() && self.bytes.len() < READ {
            self.bytes.resize(READ, 0);
        }
    }

    pub(super) fn room(&mut self) -> &mut [u8] {
        let least = self.bytes.len().clamp(FIRST, READ) / 4;
        if self.bytes.len() - self.end < least {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.bytes.len() - self.end < least {
                self.bytes.resize(self.bytes.len() + READ, 0);
            }
        }
        &mut self.bytes[self.end..]
    }
}

/// Buffers that no connection of this thread needs now.
pub(super) struct Spares {
    pub(super) input: Vec<u8>,
    pub(super) start: Vec<u8>,
}

/// So many sets a thread keeps, and none that has grown beyond this.
const MAX_SPARES: usize = 64;
const MAX_SPARE: usize = 16 * 1024;

thread_local! {
    pub(super) static SPARES: RefCell<Vec<Spares>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn spare(mut spares: Spares) {
    let is_small = spares.input.len() <= MAX_SPARE && spares.start.capacity() <= MAX_SPARE;
    SPARES.with_borrow_mut(|kept| {
        if is_small && kept.len() < MAX_SPARES {
            if spares.input.len() < READ {
                spares.input.resize(READ, 0);
            }
            kept.push(spares);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_keeps_what_is_unread_while_it_makes_room() {
        let mut inbox = Inbox::default();
        let put = |inbox: &mut Inbox, text: &[u8]| {
            inbox.room()[..text.len()].copy_from_slice(text);
            inbox.end += text.len();
        };
        for n in 0..200_u32 {
            put(&mut inbox, &[n as u8; 100]);
            if n > 0 {
                assert_eq!(&inbox.unread()[..100], &[(n - 1) as u8; 100]);
                inbox.consume(100);
            }
        }
        assert!(inbox.bytes.len() <= 2 * READ);
        inbox.consume(100);
        assert_eq!(inbox.unread(), b"");
    }
}
