//! Frames as they pass: what they cost and are worth, without I/O.
//!
//! The protocol itself is `h2`'s, which bounds what it keeps in memory. Here it is counted what a client has the server do for
//! nothing, and seen which streams were reset, so that their handlers hear of it.

#![deny(clippy::arithmetic_side_effects)]

use std::time::{Duration, Instant};

use crate::http2::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PUSH_PROMISE,
    RST_STREAM, Scanner,
};

/// What may be spent at once, and comes again in time.
#[derive(Debug)]
struct Budget {
    most: u32,
    left: u32,
    /// In a second.
    returns: u32,
    since: Instant,
}

impl Budget {
    fn new(most: u32, returns: u32, now: Instant) -> Self {
        Self {
            most,
            left: most,
            returns,
            since: now,
        }
    }

    /// Whether there was something left.
    fn spend(&mut self, now: Instant) -> bool {
        if self.left == 0 {
            self.refill(now);
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }

    fn earn(&mut self) {
        self.left = self.left.saturating_add(1).min(self.most);
    }

    fn refill(&mut self, now: Instant) {
        let millis = now.saturating_duration_since(self.since).as_millis();
        let earned = millis.saturating_mul(u128::from(self.returns)) / 1000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(self.most);
            self.since = now;
        }
    }
}

/// How often a client may ask whether the server is there.
#[derive(Debug)]
struct Pings {
    apart: Duration,
    /// That which a later one is held against.
    last: Option<Instant>,
    strikes: u32,
}

impl Pings {
    /// Whether one may come now.
    fn take(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        if last.is_some_and(|last| now.saturating_duration_since(last) < self.apart) {
            self.strikes = self.strikes.saturating_add(1);
        }
        self.strikes <= STRIKES
    }

    fn forgive(&mut self) {
        (self.last, self.strikes) = (None, 0);
    }
}

/// Both directions of a connection.
#[derive(Debug)]
pub(super) struct Watch {
    incoming: Scanner,
    outgoing: Scanner,
    control: Budget,
    resets: Budget,
    pings: Option<Pings>,
    /// Whether a head of several frames has begun and has not ended.
    in_block: bool,
    /// Since when something has begun and not ended that is no body.
    unfinished: Option<Instant>,
    /// Streams that either side has reset, which is still to be told.
    reset: Vec<u32>,
    /// What the client has done too often.
    excess: Option<&'static str>,
}

impl Watch {
    /// With a client's `PING`s so far apart.
    pub(super) fn with_pings_apart(mut self, apart: Option<Duration>) -> Self {
        self.pings = apart.map(|apart| Pings {
            apart,
            last: None,
            strikes: 0,
        });
        self
    }

    pub(super) fn new(max_control_frames: u32, max_resets: u32, now: Instant) -> Self {
        Self {
            incoming: Scanner::behind(PREFACE.len()),
            outgoing: Scanner::default(),
            control: Budget::new(max_control_frames, CONTROL_FRAMES_A_SECOND, now),
            resets: Budget::new(max_resets, RESETS_A_SECOND, now),
            pings: None,
            in_block: false,
            unfinished: None,
            reset: Vec::new(),
            excess: None,
        }
    }

    /// The client has sent this.
    pub(super) fn came(&mut self, bytes: &[u8], now: Instant) {
        let Self {
            incoming,
            control,
            resets,
            pings,
            in_block,
            reset,
            excess,
            unfinished,
            ..
        } = self;
        incoming.scan(bytes, |frame| {
            let ends = |flag| frame.flags & flag != 0;
            let costs = match frame.kind {
                DATA => frame.length == 0 && !ends(END_STREAM),
                HEADERS => {
                    *in_block = !ends(END_HEADERS);
                    false
                }
                CONTINUATION => {
                    *in_block &= !ends(END_HEADERS);
                    true
                }
                RST_STREAM => {
                    reset.push(frame.stream);
                    if !resets.spend(now) {
                        *excess = Some("requests that are reset");
                    }
                    false
                }
                PUSH_PROMISE | GOAWAY => false,
                PING if !ends(ACK) => {
                    if pings.as_mut().is_some_and(|pings| !pings.take(now)) {
                        *excess = Some(TOO_MANY_PINGS);
                    }
                    true
                }
                _ => true,
            };
            if costs && !control.spend(now) {
                *excess = Some("frames that ask for nothing");
            }
        });
        *unfinished = match *in_block || incoming.is_within() {
            true => Some(unfinished.unwrap_or(now)),
            false => None,
        };
    }

    /// The client is sent this.
    pub(super) fn left(&mut self, bytes: &[u8]) {
        let Self {
            outgoing,
            control,
            resets,
            pings,
            reset,
            ..
        } = self;
        outgoing.scan(bytes, |frame| {
            match frame.kind {
                DATA => control.earn(),
                HEADERS => {
                    control.earn();
                    resets.earn();
                }
                RST_STREAM => return reset.push(frame.stream),
                _ => return,
            }
            if let Some(pings) = pings {
                pings.forgive();
            }
        });
    }

    /// Whether what the client was sent last is a whole frame.
    pub(super) fn is_between_frames(&self) -> bool {
        !self.outgoing.is_amid()
    }

    /// Streams that were reset, which were not told yet.
    pub(super) fn take_reset(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.reset)
    }

    pub(super) fn has_reset(&self) -> bool {
        !self.reset.is_empty()
    }

    /// What the client has done too often.
    pub(super) fn excess(&self) -> Option<&'static str> {
        self.excess
    }

    /// When that must have come whole which has begun to come.
    pub(super) fn unfinished_until(&self, patience: Duration) -> Option<Instant> {
        self.unfinished?.checked_add(patience)
    }
}

/// What clients of gRPC look for (its A8).
pub(super) const TOO_MANY_PINGS: &str = "too_many_pings";

/// `PING`s that come too early and are let pass, until something is answered.
const STRIKES: u32 = 2;

const CONTROL_FRAMES_A_SECOND: u32 = 100;
const RESETS_A_SECOND: u32 = 33;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn what_asks_for_nothing_is_bounded_and_answers_earn_it_back() {
        let now = Instant::now();
        let mut watch = Watch::new(3, 2, now);
        watch.came(PREFACE, now);
        let ping = frame(6, 0, 0, &[0; 8]);
        for _ in 0..3 {
            watch.came(&ping, now);
        }
        assert_eq!(watch.excess(), None);
        watch.left(&frame(HEADERS, END_HEADERS, 1, b""));
        watch.came(&ping, now);
        assert_eq!(watch.excess(), None);
        watch.came(&ping, now);
        assert_eq!(watch.excess(), Some("frames that ask for nothing"));
    }

    #[test]
    fn pings_are_to_be_apart_until_something_is_answered() {
        let (now, apart) = (Instant::now(), Duration::from_secs(10));
        let mut watch = Watch::new(100, 2, now).with_pings_apart(Some(apart));
        watch.came(PREFACE, now);
        let (ping, answer) = (frame(6, 0, 0, &[0; 8]), frame(6, ACK, 0, &[0; 8]));
        for _ in 0..3 {
            watch.came(&ping, now);
            watch.came(&answer, now);
        }
        assert_eq!(watch.excess(), None);
        watch.left(&frame(DATA, 0, 1, b"x"));
        for _ in 0..3 {
            watch.came(&ping, now);
        }
        assert_eq!(watch.excess(), None);
        watch.came(&ping, now + apart);
        assert_eq!(watch.excess(), None);
        watch.came(&ping, now + apart);
        assert_eq!(watch.excess(), Some(TOO_MANY_PINGS));
    }

    #[test]
    fn time_gives_some_of_it_back() {
        let now = Instant::now();
        let mut budget = Budget::new(10, 100, now);
        assert_eq!((0..20).filter(|_| budget.spend(now)).count(), 10);
        let later = now + Duration::from_millis(50);
        assert_eq!((0..20).filter(|_| budget.spend(later)).count(), 5);
        let much_later = now + Duration::from_secs(1 << 40);
        assert_eq!((0..20).filter(|_| budget.spend(much_later)).count(), 10);
    }

    #[test]
    fn resets_are_told_and_bounded() {
        let now = Instant::now();
        let mut watch = Watch::new(3, 2, now);
        watch.came(PREFACE, now);
        for stream in [1, 3] {
            watch.came(&frame(RST_STREAM, 0, stream, &[0; 4]), now);
        }
        assert_eq!((watch.take_reset(), watch.excess()), (vec![1, 3], None));
        watch.left(&frame(RST_STREAM, 0, 5, &[0; 4]));
        assert_eq!((watch.take_reset(), watch.excess()), (vec![5], None));
        watch.came(&frame(RST_STREAM, 0, 7, &[0; 4]), now);
        assert_eq!(watch.excess(), Some("requests that are reset"));
    }

    #[test]
    fn a_head_that_has_begun_is_unfinished_and_a_body_is_not() {
        let (now, patience) = (Instant::now(), Duration::from_secs(10));
        let mut watch = Watch::new(3, 2, now);
        watch.came(PREFACE, now);
        assert_eq!(watch.unfinished_until(patience), None);
        watch.came(&frame(HEADERS, 0, 1, b"begins"), now);
        assert_eq!(watch.unfinished_until(patience), Some(now + patience));
        let later = now + Duration::from_secs(1);
        watch.came(&frame(CONTINUATION, 0, 1, b""), later);
        assert_eq!(watch.unfinished_until(patience), Some(now + patience));
        watch.came(&frame(CONTINUATION, END_HEADERS, 1, b""), later);
        assert_eq!(watch.unfinished_until(patience), None);
        watch.came(&frame(DATA, 0, 1, b"data")[..11], later);
        assert_eq!(watch.unfinished_until(patience), None);
        watch.came(b"ta", later);
        watch.came(&frame(6, 0, 0, &[0; 8])[..12], later);
        assert_eq!(watch.unfinished_until(patience), Some(later + patience));
    }
}
