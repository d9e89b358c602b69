//! What a connection needs only while it has a request in hand: buffers, lent by its worker.
//!
//! Between requests a connection holds none of this, so ten thousand idle ones share the few of the
//! busy. The pool is per thread; a coroutine stays on its thread, and no borrow of the pool outlives a
//! call here. Keeping the tables here rather than on the connection's stack also means that a request
//! touches few cold cache lines: these are warm from the request before.

use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt,
    rc::Rc,
    sync::Arc,
};

use http::{
    Extensions, HeaderMap, HeaderValue, Uri,
    header::{COOKIE, HOST},
};
use maniple::panics;

use super::{lookout::enlist, out::Out};
use crate::{
    body::{BodyState, Decode, Pace},
    http1::{
        Reject,
        head::{Field, Head, Limits, header_map, parse_behind},
    },
    router::{params::Params, states::States, template::Template},
};

/// Input and the tables of the request in hand.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) input: Input,
    pub(crate) fields: Vec<Field>,
    pub(crate) params: Params,
    pub(crate) head: Head,
    pub(crate) body: BodyState,
    pub(crate) pace: Pace,
    /// The lines of fields behind a chunked body.
    pub(crate) trailers: Vec<u8>,
    /// The template of its route.
    pub(crate) route: Option<Template>,
    /// Whether any of those below has been asked for.
    has_more: Cell<bool>,
    headers: OnceCell<HeaderMap>,
    /// What that may be made of.
    came: RefCell<Option<HeaderMap>>,
    uri: OnceCell<Uri>,
    pub(crate) extensions: Extensions,
    states: Option<Arc<States>>,
    pub(crate) decoder: Option<Decoder>,
    /// How long the body in hand may be, if that is not what bodies of the connection may be.
    body_limit: Option<u64>,
}

/// What reads the body in hand, if it travels in a coding. None while it reads, and for good where that unwound.
pub(crate) struct Decoder(pub(crate) Option<Box<dyn Decode>>);

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

/// Received bytes. The head in hand begins at `start`; what follows it has been used up to `used`.
///
/// ```text
///   0 ....... start [ head ] ....... used [ not looked at yet ] filled ....... bytes.len()
/// ```
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) bytes: Vec<u8>,
    pub(crate) start: usize,
    pub(crate) used: usize,
    pub(crate) filled: usize,
    /// Where the head of the message before is, while it is there whole, and its fields in the tables.
    former: Option<usize>,
}

const INPUT_BYTES: usize = 8 * 1024;

/// Buffers that grew beyond this are not kept.
const KEPT_BYTES: usize = 64 * 1024;

/// Sets that a worker keeps.
const KEPT: usize = 64;

thread_local! {
    // Boxed, since handing over two pointers is all that happens per request.
    static POOL: RefCell<Vec<Buffers>> = const { RefCell::new(Vec::new()) };
}

/// All that a busy connection needs. The request in hand may be looked at by any thread; the way out is this one's.
pub(crate) type Buffers = (Box<Scratch>, Rc<Out>);

impl Scratch {
    /// An empty set.
    #[inline]
    pub(crate) fn take() -> Buffers {
        POOL.with_borrow_mut(Vec::pop)
            .unwrap_or_else(Self::make_all)
    }

    #[cold]
    fn make_all() -> Buffers {
        let out = Out::new();
        enlist(&out);
        (Self::make(), out)
    }

    /// An empty one, of no worker's.
    #[cold]
    pub(crate) fn make() -> Box<Self> {
        Box::new(Self {
            input: Input {
                bytes: vec![0; INPUT_BYTES],
                start: 0,
                used: 0,
                filled: 0,
                former: None,
            },
            fields: Vec::with_capacity(16),
            params: Params::default(),
            head: Head::default(),
            body: BodyState::Done,
            pace: Pace::default(),
            trailers: Vec::new(),
            route: None,
            has_more: Cell::new(false),
            headers: OnceCell::new(),
            came: RefCell::new(None),
            uri: OnceCell::new(),
            extensions: Extensions::new(),
            states: None,
            decoder: None,
            body_limit: None,
        })
    }

    /// An empty one for a head that is written there.
    #[cfg(feature = "http2")]
    pub(crate) fn make_empty() -> Box<Self> {
        let mut empty = Self::make();
        empty.input.bytes = Vec::new();
        empty
    }

    /// Holds what is written, as if it had come.
    #[cfg(feature = "http2")]
    pub(crate) fn hold<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.input.clear();
        self.input.bytes.clear();
        let written = write(&mut self.input.bytes);
        self.input.filled = self.input.bytes.len();
        written
    }

    /// Gives the set back for the next request of any connection on this thread.
    #[inline]
    pub(crate) fn put_back(mut self: Box<Self>, out: Rc<Out>) {
        self.input.clear();
        self.forget_request();
        let fits = |bytes| bytes <= KEPT_BYTES;
        if out.clear().is_some_and(fits) && fits(self.input.bytes.len()) {
            POOL.with_borrow_mut(|pool| {
                if pool.len() < KEPT {
                    pool.push((self, out));
                }
            });
        }
    }
}

impl Scratch {
    /// Parses what has come as a head; false if its end has not come yet.
    #[inline]
    pub(crate) fn parse(&mut self, limits: &Limits) -> Result<bool, Reject> {
        let Input {
            bytes,
            start,
            filled,
            former,
            ..
        } = &mut self.input;
        let former = former.take().map(|former| {
            let lines = self.head.field_lines();
            &bytes[former + lines.start..former + lines.end]
        });
        let bytes = &bytes[*start..*filled];
        parse_behind(former, bytes, limits, &mut self.fields, &mut self.head)
    }

    /// Drops what belongs to the request that was in hand.
    #[inline]
    pub(crate) fn forget_request(&mut self) {
        self.params.clear();
        self.pace = Pace::default();
        // Most handlers ask for none of them.
        if self.has_more.get() {
            self.forget_more();
        }
    }

    /// The header fields as a map.
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.has_more.set(true);
        self.headers.get_or_init(|| self.make_headers())
    }

    pub(crate) fn take_headers(&mut self) -> HeaderMap {
        let _ = self.headers();
        self.headers.take().unwrap_or_default()
    }

    /// Has the map be made of this, which says what the head says, but for `Host`, and may say it less well.
    #[cfg(feature = "http2")]
    pub(crate) fn set_headers(&mut self, headers: Option<HeaderMap>) {
        *self.came.get_mut() = headers;
    }

    fn make_headers(&self) -> HeaderMap {
        let head = &self.input.bytes[self.input.start..];
        if let Some(mut came) = self.came.take() {
            let has_crumbs = came.get_all(COOKIE).iter().nth(1).is_some();
            let is_trimmed =
                |value: &HeaderValue| value.as_bytes().trim_ascii() == value.as_bytes();
            let host = self
                .fields
                .iter()
                .find(|field| head[field.name.clone()] == *b"host");
            let host =
                host.and_then(|host| HeaderValue::from_bytes(&head[host.value.clone()]).ok());
            if let Some(host) = host.filter(|_| !has_crumbs && came.values().all(is_trimmed)) {
                came.insert(HOST, host);
                return came;
            }
        }
        header_map(head, &self.fields)
    }

    /// The target as a URI.
    pub(crate) fn uri(&self) -> &Uri {
        self.has_more.set(true);
        self.uri
            .get_or_init(|| self.head.uri_in(&self.input.bytes[self.input.start..]))
    }

    /// What the handlers of its route share.
    pub(crate) fn states(&self) -> Option<&States> {
        self.states.as_deref()
    }

    pub(crate) fn set_states(&mut self, states: Option<Arc<States>>) {
        self.has_more.set(true);
        self.states = states;
    }

    /// What users' code left there, and may leave.
    pub(crate) fn extensions_mut(&mut self) -> &mut Extensions {
        self.has_more.set(true);
        &mut self.extensions
    }

    /// From now on the body in hand is read by it.
    #[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
    pub(crate) fn set_decoder(&mut self, decoder: Box<dyn Decode>) {
        self.has_more.set(true);
        self.decoder = Some(Decoder(Some(decoder)));
    }

    /// How long the body in hand may be, of those that may usually be so long.
    pub(crate) fn body_limit(&self, usual: u64) -> u64 {
        self.body_limit.unwrap_or(usual)
    }

    /// The body in hand may be no longer.
    pub(crate) fn set_body_limit(&mut self, limit: u64, usual: u64) {
        self.allow_body(self.body_limit(usual).min(limit));
    }

    /// The body in hand may be as long as that, and no longer.
    pub(crate) fn allow_body(&mut self, limit: u64) {
        self.has_more.set(true);
        self.body_limit = Some(limit);
    }

    /// Drops what is users' own, which may wait, and panic.
    #[cold]
    fn forget_extensions(&mut self) {
        let extensions = std::mem::take(&mut self.extensions);
        panics::catch(move || drop(extensions));
        if let Some(states) = self.states.take() {
            panics::catch(move || drop(states));
        }
    }

    #[cold]
    fn forget_more(&mut self) {
        self.has_more.set(false);
        self.forget_extensions();
        self.headers = OnceCell::new();
        self.uri = OnceCell::new();
        self.decoder = None;
        self.body_limit = None;
    }

    /// Room to read behind the head in hand.
    pub(crate) fn room_behind_head(&mut self, least: usize) -> &mut [u8] {
        self.input.room_behind_head(self.head.length, least)
    }
}

impl Input {
    fn clear(&mut self) {
        (self.start, self.used, self.filled) = (0, 0, 0);
        self.former = None;
    }

    /// The bytes that no message has claimed yet.
    #[inline]
    pub(crate) fn unused(&self) -> &[u8] {
        &self.bytes[self.used..self.filled]
    }

    /// The message in hand is done: the next head begins with the unused bytes.
    #[inline]
    pub(crate) fn next_message(&mut self) {
        if self.used == self.filled {
            self.clear();
        } else {
            self.former = Some(self.start);
            self.start = self.used;
        }
    }

    /// Drops what is there if it is nothing but an empty line or two, which begin no message (RFC 9112, 2.2); whether it
    /// was. More of them count as a head that does not end.
    #[cold]
    pub(crate) fn drop_empty_lines(&mut self) -> bool {
        let (lines, rest) = self.bytes[self.start..self.filled].as_chunks();
        if !(1..=2).contains(&lines.len())
            || !rest.is_empty()
            || lines.iter().any(|line| line != b"\r\n")
        {
            return false;
        }
        self.clear();
        true
    }

    /// Room for at least `least` more bytes; a head in hand stays in front, but may move.
    pub(crate) fn room(&mut self, least: usize) -> &mut [u8] {
        if self.bytes.len() - self.filled < least && self.start > 0 {
            self.bytes.copy_within(self.start..self.filled, 0);
            self.used -= self.start;
            self.filled -= self.start;
            self.start = 0;
            self.former = None;
        }
        if self.bytes.len() - self.filled < least {
            self.bytes
                .resize((self.bytes.len() * 2).max(self.filled + least), 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// Room behind a head of `head` bytes, whose parts must not move: unused bytes shift up to it.
    pub(crate) fn room_behind_head(&mut self, head: usize, least: usize) -> &mut [u8] {
        let floor = self.start + head;
        if self.used == self.filled {
            (self.used, self.filled) = (floor, floor);
        } else if self.bytes.len() - self.filled < least && self.used > floor {
            self.bytes.copy_within(self.used..self.filled, floor);
            self.filled -= self.used - floor;
            self.used = floor;
        }
        if self.bytes.len() - self.filled < least {
            self.bytes.resize(self.filled + least, 0);
        }
        &mut self.bytes[self.filled..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: &[u8]) -> Input {
        let mut input = Input {
            bytes: vec![0; 16],
            start: 0,
            used: 0,
            filled: 0,
            former: None,
        };
        input.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        input.filled += bytes.len();
        input
    }

    #[test]
    fn the_next_message_moves_to_the_front_when_room_is_short() {
        let mut input = input(b"0123456789abcdef");
        input.used = 10;
        input.next_message();
        assert_eq!(input.unused(), b"abcdef");
        assert!(input.room(8).len() >= 8);
        assert_eq!((input.start, input.unused()), (0, &b"abcdef"[..]));
    }

    #[test]
    fn a_head_stays_where_it_is_while_its_body_comes() {
        let mut input = input(b"headBODY");
        input.used = 8;
        assert!(input.room_behind_head(4, 32).len() >= 32);
        assert_eq!(&input.bytes[..4], b"head");
        assert_eq!((input.used, input.filled), (4, 4));
    }
}
