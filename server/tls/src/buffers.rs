//! Buffers that connections borrow from their worker while there is something in them.
//!
//! An idle connection has none, so that ten thousand of them share those of the few that are busy.

use std::cell::RefCell;

/// A queue of bytes.
///
/// ```text
///   0 ....... start [ unread ] end ....... bytes.len()
/// ```
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// Initialised, whatever is in it; without capacity while nothing is.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Two of the longest records, and what is around them.
pub(crate) const SIZE: usize = 34 * 1024;

/// Buffers that a worker keeps.
const KEPT: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Buffer {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    #[inline]
    pub(crate) fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Room for at least so many bytes more; what was written to it is then [taken in](Self::fill).
    #[inline]
    pub(crate) fn room(&mut self, least: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < least {
            self.make_room(least);
        }
        &mut self.bytes[self.end..]
    }

    #[inline(never)]
    fn make_room(&mut self, least: usize) {
        if self.bytes.is_empty() {
            self.bytes = lend();
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.bytes.len() - self.end < least {
            let longer = (self.bytes.len() * 2).max(self.end + least);
            self.bytes.resize(longer, 0);
        }
    }

    #[inline]
    pub(crate) fn fill(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.bytes.len());
        if self.is_empty() {
            self.give_back();
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
            self.fill(bytes.len());
        }
    }

    /// Appends what is in another: takes it over, where there is nothing here.
    #[inline]
    pub(crate) fn take_over(&mut self, other: &mut Self) {
        match self.is_empty() {
            true => std::mem::swap(self, other),
            false => self.append(other.unread()),
        }
        other.clear();
    }

    #[inline]
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.is_empty() {
            self.give_back();
        }
    }

    /// Copies some of it out.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.copy(buffer);
        self.consume(count);
        count
    }

    /// Copies some of it out, and leaves it there.
    pub(crate) fn copy(&self, buffer: &mut [u8]) -> usize {
        let count = self.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.unread()[..count]);
        count
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        self.give_back();
    }

    #[inline]
    fn give_back(&mut self) {
        (self.start, self.end) = (0, 0);
        if !self.bytes.is_empty() {
            put_back(std::mem::take(&mut self.bytes));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn lend() -> Vec<u8> {
    let kept = POOL.try_with(|pool| pool.borrow_mut().pop());
    kept.ok().flatten().unwrap_or_else(|| vec![0; SIZE])
}

#[inline(never)]
fn put_back(bytes: Vec<u8>) {
    if bytes.len() != SIZE {
        return;
    }
    // At a thread's end there is no pool any more.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < KEPT {
            pool.push(bytes);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_read_in_order_however_much_it_is() {
        let mut buffer = Buffer::new();
        let bytes: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let mut read = Vec::new();
        for piece in bytes.chunks(777) {
            buffer.append(piece);
            let mut some = [0; 500];
            let count = buffer.read(&mut some);
            read.extend_from_slice(&some[..count]);
        }
        read.extend_from_slice(buffer.unread());
        assert!(read == bytes);
    }

    #[test]
    fn an_empty_one_holds_no_memory() {
        let mut buffer = Buffer::new();
        buffer.append(b"abc");
        assert!(buffer.bytes.capacity() >= SIZE);
        assert_eq!(buffer.read(&mut [0; 8]), 3);
        assert_eq!(buffer.bytes.capacity(), 0);
        buffer.room(1);
        buffer.fill(0);
        assert_eq!(buffer.bytes.capacity(), 0);
    }

    #[test]
    fn one_takes_over_what_is_in_another() {
        let (mut one, mut other) = (Buffer::new(), Buffer::new());
        other.append(b"first ");
        one.take_over(&mut other);
        other.append(b"second");
        one.take_over(&mut other);
        assert_eq!((one.unread(), other.len()), (&b"first second"[..], 0));
    }
}
