//! Usual heads: the last one of each worker is kept, since most answers begin like the one before.
//!
//! A head is its type, its length and the time, so that it is the same for a second where answers are alike. One that was
//! asked for twice in a row is kept whole; others are put together from their parts.

use std::{cell::RefCell, ptr, time::Instant};

use maniple::time::coarse_now;

use super::date;
use crate::{
    http1::response::{ContentType, DateLine, UsualHead},
    id::Id,
};

thread_local! {
    static LAST: RefCell<Last<MOST>> = const { RefCell::new(Last::NONE) };
    /// The last that had an id of that length.
    static LAST_WITH_ID: RefCell<Last<MOST_WITH_ID>> = const { RefCell::new(Last::NONE) };
}

/// The last head that was written on this thread, of its kind.
struct Last<const MOST: usize> {
    content_type: Option<&'static ContentType>,
    length: u64,
    /// Until when `bytes` are right; `None` while there are none.
    until: Option<Instant>,
    bytes: [u8; MOST],
    end: usize,
}

/// Bytes of the longest head that is kept: with the longest type of ours it has 119.
const MOST: usize = 128;

/// The same with the line of an id.
const MOST_WITH_ID: usize = MOST + 48;

/// Bytes of an id in a head that is kept.
const ID: usize = 32;

/// How far before the end of a head its id begins: before the line's end, the date and the empty line.
const ID_FROM_END: usize = ID + 2 + size_of::<DateLine>();

impl<const MOST: usize> Last<MOST> {
    const NONE: Self = Self {
        content_type: None,
        length: 0,
        until: None,
        bytes: [0; MOST],
        end: 0,
    };

    #[inline]
    fn is_of(&self, content_type: &'static ContentType, length: u64) -> bool {
        self.content_type.map(ptr::from_ref) == Some(ptr::from_ref(content_type))
            && self.length == length
    }

    #[inline]
    fn is_right(&self, content_type: &'static ContentType, length: u64, now: Instant) -> bool {
        self.is_of(content_type, length) && self.until.is_some_and(|until| now < until)
    }

    /// Keeps a head that was written, if one like it was asked for before: what changes with each answer is not worth a copy.
    #[inline]
    fn keep(&mut self, head: UsualHead<'_>, written: &[u8], until: Instant) {
        if !self.is_of(head.content_type, head.length) || written.len() > MOST {
            (self.content_type, self.length) = (Some(head.content_type), head.length);
            self.until = None;
            return;
        }
        self.bytes[..written.len()].copy_from_slice(written);
        self.end = written.len();
        self.until = Some(until);
    }
}

/// Appends the head and its end, the time being that of the worker's recent clock.
#[inline(always)]
pub(super) fn write(out: &mut Vec<u8>, head: UsualHead<'_>) {
    let is_written = match head.id.map(Id::bytes) {
        None => write_kept(out, head.content_type, head.length),
        Some(id) => match id.try_into() {
            Ok(id) => write_kept_with_id(out, head.content_type, head.length, id),
            Err(_) => false,
        },
    };
    if !is_written {
        write_anew(out, head);
    }
}

/// Appends the head that is kept, if it is of that type and length, and of now.
#[inline(never)]
fn write_kept(out: &mut Vec<u8>, content_type: &'static ContentType, length: u64) -> bool {
    let recent = coarse_now();
    LAST.with_borrow(|last| {
        let is_right = last.is_right(content_type, length, recent);
        if is_right {
            // Of a length that the compiler knows, which is then cut: no call is made for it.
            out.extend_from_slice(&last.bytes);
            out.truncate(out.len() - (MOST - last.end));
        }
        is_right
    })
}

/// Appends the head that is kept, with another id in it.
#[inline(never)]
fn write_kept_with_id(
    out: &mut Vec<u8>,
    content_type: &'static ContentType,
    length: u64,
    id: &[u8; ID],
) -> bool {
    let recent = coarse_now();
    LAST_WITH_ID.with_borrow(|last| {
        let is_right = last.is_right(content_type, length, recent);
        if is_right {
            out.extend_from_slice(&last.bytes);
            out.truncate(out.len() - (MOST_WITH_ID - last.end));
            let at = out.len() - ID_FROM_END;
            out[at..at + ID].copy_from_slice(id);
        }
        is_right
    })
}

#[inline(never)]
fn write_anew(out: &mut Vec<u8>, head: UsualHead<'_>) {
    let start = out.len();
    head.write(out);
    let until = date::end_head(out);
    let written = &out[start..];
    match head.id {
        None => LAST.with_borrow_mut(|last| last.keep(head, written, until)),
        Some(id) if id.bytes().len() == ID => {
            LAST_WITH_ID.with_borrow_mut(|last| last.keep(head, written, until));
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::response::{HTML, JSON, TEXT};

    #[test]
    fn a_head_that_is_kept_is_the_same_as_one_put_together() {
        let written = |head| {
            let mut out = b"before ".to_vec();
            write(&mut out, head);
            String::from_utf8(out).unwrap()
        };
        let anew = |head: UsualHead<'_>| {
            let mut out = b"before ".to_vec();
            head.write(&mut out);
            date::end_head(&mut out);
            String::from_utf8(out).unwrap()
        };
        let (id, other) = (Id::fresh(), Id::fresh());
        let (short, long) = (
            Id::acceptable("a-1").unwrap(),
            Id::acceptable(&"l".repeat(128)).unwrap(),
        );
        let theirs = Id::acceptable(&"t".repeat(32)).unwrap();
        for (content_type, length, id) in [
            (&TEXT, 7, None),
            (&TEXT, 7, None),
            (&TEXT, 7, None),
            (&TEXT, 7, Some(&id)),
            (&TEXT, 7, Some(&other)),
            (&TEXT, 7, Some(&id)),
            (&TEXT, 7, Some(&short)),
            (&TEXT, 7, Some(&theirs)),
            (&TEXT, 7, Some(&long)),
            (&TEXT, 7, Some(&other)),
            (&JSON, 7, Some(&id)),
            (&JSON, 7, Some(&other)),
            (&JSON, 7, Some(&id)),
            (&TEXT, 7, None),
            (&TEXT, 8, None),
            (&TEXT, 7, None),
            (&HTML, 9_999, None),
            (&HTML, 9_999, None),
            (&HTML, 9_999, None),
            (&JSON, 9_999, None),
            (&HTML, 9_999, None),
        ] {
            let head = UsualHead {
                content_type,
                length,
                id,
            };
            // A second may end between the two.
            let is_same = (0..3).any(|_| written(head) == anew(head));
            assert!(is_same, "{head:?}: {} and {}", written(head), anew(head));
        }
    }

    #[test]
    fn a_head_that_is_kept_tells_the_time_that_it_is() {
        let head = UsualHead {
            content_type: &TEXT,
            length: 1,
            id: None,
        };
        let date = || {
            let mut out = Vec::new();
            write(&mut out, head);
            let text = String::from_utf8(out).unwrap();
            let (_, date) = text.split_once("date: ").unwrap();
            httpdate::parse_http_date(date.trim_end()).unwrap()
        };
        // Kept by the second.
        let first = [date(), date(), date()][2];
        let begun = Instant::now();
        while date() == first {
            assert!(begun.elapsed().as_secs() < 60);
            std::thread::yield_now();
        }
        assert!(date() > first);
    }
}
