//! Frames on the wire (RFC 6455, 5.2), without I/O: heads in, heads out, and masks.

#![deny(clippy::arithmetic_side_effects)]

/// What a peer did wrong, and with that how the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Protocol(&'static str),
    NotUtf8,
    TooLarge(usize),
}

impl Fault {
    /// What the peer is told.
    pub(crate) fn code(self) -> u16 {
        match self {
            Fault::Protocol(_) => code::PROTOCOL_ERROR,
            Fault::NotUtf8 => code::INVALID_DATA,
            Fault::TooLarge(_) => code::TOO_LARGE,
        }
    }
}

/// Codes of Close frames (RFC 6455, 7.4, and the registry of IANA).
pub mod code {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server drains, or the browser leaves the page.
    pub const GOING_AWAY: u16 = 1001;
    /// The other side broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A kind of message came that cannot be dealt with.
    pub const UNSUPPORTED: u16 = 1003;
    /// A text was not UTF-8.
    pub const INVALID_DATA: u16 = 1007;
    /// A message is against the rules of who received it.
    pub const POLICY: u16 = 1008;
    /// A message was larger than the limit.
    pub const TOO_LARGE: u16 = 1009;
    /// The server failed at something.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// The client may come back later.
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

/// Whether a Close frame may have this code.
pub(crate) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xA,
        }
    }

    pub(crate) fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// Bytes of a control frame at most.
pub(crate) const MAX_CONTROL: usize = 125;

/// Bytes of a head at most.
pub(crate) const MAX_HEAD: usize = 14;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) last: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) length: u64,
    /// Bytes that the head itself takes.
    pub(crate) size: usize,
}

impl Head {
    /// Reads the head at the start of `bytes`; `None` if it has not come whole. What is wrong with one is said as soon
    /// as it can be seen.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, Fault> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(Fault::Protocol("a reserved bit is set"));
        }
        let last = first & 0x80 != 0;
        let opcode = Opcode::of(first & 0x0F).ok_or(Fault::Protocol("a reserved opcode"))?;
        if opcode.is_control() && !last {
            return Err(Fault::Protocol("a control frame in parts"));
        }
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        let short = second & 0x7F;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(Fault::Protocol("a control frame of more than 125 bytes"));
        }
        let rest = bytes.get(2..).unwrap_or_default();
        let (length, rest, extended) = match short {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest, 2),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest, 8),
                None => return Ok(None),
            },
            short => (u64::from(short), rest, 0),
        };
        match extended {
            2 if length < 126 => return Err(Fault::Protocol("a length that is written too long")),
            8 if length <= u64::from(u16::MAX) => {
                return Err(Fault::Protocol("a length that is written too long"));
            }
            8 if length > i64::MAX.unsigned_abs() => {
                return Err(Fault::Protocol("a length of more than 63 bits"));
            }
            _ => {}
        }
        let (mask, masked) = match second & 0x80 {
            0 => (None, 0),
            _ => match rest.first_chunk() {
                Some(mask) => (Some(*mask), 4),
                None => return Ok(None),
            },
        };
        Ok(Some(Self {
            last,
            opcode,
            mask,
            length,
            size: 2_usize.saturating_add(extended).saturating_add(masked),
        }))
    }

    /// Appends the head of a frame of so many bytes, which is its message's only one.
    pub(crate) fn write(opcode: Opcode, length: usize, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
        let masked = if mask.is_some() { 0x80 } else { 0 };
        let mut head = [0; MAX_HEAD];
        head[0] = 0x80 | opcode.bits();
        let extended = match length {
            0..126 => {
                head[1] = masked | u8::try_from(length).unwrap_or(0);
                0
            }
            126..=0xFFFF => {
                head[1] = masked | 126;
                head[2..4].copy_from_slice(&u16::try_from(length).unwrap_or(0).to_be_bytes());
                2
            }
            _ => {
                head[1] = masked | 127;
                head[2..10].copy_from_slice(&(length as u64).to_be_bytes());
                8
            }
        };
        out.extend_from_slice(
            head.get(..2_usize.saturating_add(extended))
                .unwrap_or(&head),
        );
        if let Some(mask) = mask {
            out.extend_from_slice(&mask);
        }
    }
}

/// Masks what is not, and unmasks what is, beginning at that byte of the mask.
pub(crate) fn apply(mask: [u8; 4], at: usize, bytes: &mut [u8]) {
    let mut turned = mask;
    turned.rotate_left(at % 4);
    let wide = u64::from_ne_bytes([
        turned[0], turned[1], turned[2], turned[3], turned[0], turned[1], turned[2], turned[3],
    ]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(turned.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(opcode: Opcode, length: usize, mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        Head::write(opcode, length, mask, &mut bytes);
        bytes
    }

    #[test]
    fn a_head_is_read_as_it_was_written_and_not_before_its_last_byte() {
        let mask = Some([1, 2, 3, 4]);
        for length in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, 1 << 40] {
            for mask in [None, mask] {
                let bytes = written(Opcode::Binary, length, mask);
                let head = Head::parse(&bytes).unwrap().unwrap();
                assert_eq!(head.length, length as u64);
                assert_eq!((head.mask, head.size, head.last), (mask, bytes.len(), true));
                for cut in 0..bytes.len() {
                    assert_eq!(
                        Head::parse(&bytes[..cut]),
                        Ok(None),
                        "{length}, cut at {cut}"
                    );
                }
            }
        }
    }

    #[test]
    fn heads_that_break_the_rules_are_refused_as_soon_as_it_shows() {
        for (bytes, what) in [
            (&[0xC1][..], "reserved bit"),
            (&[0xA1], "reserved bit"),
            (&[0x91], "reserved bit"),
            (&[0x83], "reserved opcode"),
            (&[0x8F], "reserved opcode"),
            (&[0x09], "in parts"),
            (&[0x08], "in parts"),
            (&[0x89, 126], "more than 125"),
            (&[0x82, 126, 0, 125], "too long"),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], "too long"),
            (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], "63 bits"),
        ] {
            match Head::parse(bytes) {
                Err(Fault::Protocol(text)) => assert!(text.contains(what), "{bytes:?}: {text}"),
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_mask_is_the_same_wherever_a_payload_is_cut() {
        let mask = [0xA1, 0x02, 0x5F, 0xFF];
        let plain: Vec<u8> = (0..100).collect();
        let mut whole = plain.clone();
        apply(mask, 0, &mut whole);
        for (at, (byte, masked)) in plain.iter().zip(&whole).enumerate() {
            assert_eq!(byte ^ mask[at % 4], *masked);
        }
        for cut in 0..plain.len() {
            let mut pieces = plain.clone();
            let (first, second) = pieces.split_at_mut(cut);
            apply(mask, 0, first);
            apply(mask, cut, second);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
