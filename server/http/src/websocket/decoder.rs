//! Messages out of frames, without I/O: parts are put together, limits and UTF-8 are looked after.
//!
//! Bytes go in as they come. What is taken of them is all but a head that has not come whole; the payload of a frame is
//! copied to its message, unmasked there, and never waited for as a whole.
//!
//! ```text
//!   head ──► payload of a message ──► head …            its last frame: a message
//!     └────► payload of a control frame ──► head …      one at its end, also between the frames of a message
//! ```

#![deny(clippy::arithmetic_side_effects)]

use super::{
    frame::{Fault, Head, MAX_CONTROL, Opcode, apply, may_be_sent},
    message::{CloseReason, Message},
};

/// What may come, and from whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) frame: usize,
    pub(crate) message: usize,
    /// Clients mask and servers do not.
    pub(crate) from_client: bool,
}

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Message(Message),
    Ping(Control),
    Pong,
    Close(Option<CloseReason>),
}

#[derive(Debug)]
pub(crate) struct Decoder {
    limits: Limits,
    /// The frame whose payload is awaited.
    frame: Option<Payload>,
    /// The message that has begun, by its first frame.
    kind: Option<Opcode>,
    message: Vec<u8>,
    /// So many bytes of it are known to be UTF-8.
    checked: usize,
    control: Control,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    head: Head,
    /// Bytes that have come.
    taken: usize,
    length: usize,
}

/// The payload of a control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    bytes: [u8; MAX_CONTROL],
    length: usize,
}

impl Control {
    const EMPTY: Self = Self {
        bytes: [0; MAX_CONTROL],
        length: 0,
    };

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn append(&mut self, mask: Option<[u8; 4]>, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        // The head was refused if it does not fit.
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            if let Some(mask) = mask {
                apply(mask, self.length, room);
            }
            self.length = end;
        }
    }
}

impl Decoder {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            frame: None,
            kind: None,
            message: Vec::new(),
            checked: 0,
            control: Control::EMPTY,
        }
    }

    /// Takes from the front of `bytes` up to the next thing that has come; `None` once only more bytes help. After a
    /// fault nothing that follows can be understood.
    pub(crate) fn decode(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, Fault> {
        loop {
            let mut payload = match self.frame {
                Some(payload) => payload,
                None => match Head::parse(bytes)? {
                    None => return Ok(None),
                    Some(head) => {
                        let payload = self.begin(head)?;
                        *bytes = bytes.get(head.size..).unwrap_or_default();
                        payload
                    }
                },
            };
            let left = payload.length.saturating_sub(payload.taken);
            let (part, rest) = bytes.split_at(left.min(bytes.len()));
            *bytes = rest;
            let is_whole = part.len() == left;
            if payload.head.opcode.is_control() {
                self.control.append(payload.head.mask, part);
            } else {
                self.append(&payload, part, is_whole && payload.head.last)?;
            }
            payload.taken = payload.taken.saturating_add(part.len());
            if !is_whole {
                self.frame = Some(payload);
                return Ok(None);
            }
            self.frame = None;
            if let Some(event) = self.end(&payload.head)? {
                return Ok(Some(event));
            }
        }
    }

    /// How much of the present frame is still to come: what there may be room for at once.
    pub(crate) fn outstanding(&self) -> usize {
        let left = |payload: Payload| payload.length.saturating_sub(payload.taken);
        self.frame.map_or(0, left)
    }

    /// What is wrong with a frame is known from its head.
    fn begin(&mut self, head: Head) -> Result<Payload, Fault> {
        match (self.limits.from_client, head.mask) {
            (true, None) => return Err(Fault::Protocol("a frame without a mask")),
            (false, Some(_)) => return Err(Fault::Protocol("a frame of a server with a mask")),
            _ => {}
        }
        match (head.opcode, self.kind) {
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(Fault::Protocol("a message within another"));
            }
            (Opcode::Continuation, None) => {
                return Err(Fault::Protocol("a continuation of nothing"));
            }
            (Opcode::Text | Opcode::Binary, None) => self.kind = Some(head.opcode),
            _ => {}
        }
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        if !head.opcode.is_control() {
            if length > self.limits.frame {
                return Err(Fault::TooLarge(self.limits.frame));
            }
            if length > self.limits.message.saturating_sub(self.message.len()) {
                return Err(Fault::TooLarge(self.limits.message));
            }
        }
        let payload = Payload {
            head,
            taken: 0,
            length,
        };
        self.frame = Some(payload);
        Ok(payload)
    }

    fn append(&mut self, payload: &Payload, part: &[u8], is_last: bool) -> Result<(), Fault> {
        let from = self.message.len();
        // What a peer claims is not yet reason to set memory aside; one that is whole here needs no more than that.
        if from == 0 && is_last {
            self.message.reserve_exact(part.len());
        }
        self.message.extend_from_slice(part);
        if let (Some(mask), Some(new)) = (payload.head.mask, self.message.get_mut(from..)) {
            apply(mask, payload.taken, new);
        }
        // One that is whole at once is checked as it becomes a text.
        if self.kind == Some(Opcode::Text) && !(is_last && self.checked == 0) {
            self.check(is_last)?;
        }
        Ok(())
    }

    /// Looks at the bytes of a text that have not been looked at: a character may be cut where a part ends, but not
    /// where the text does.
    fn check(&mut self, is_last: bool) -> Result<(), Fault> {
        let new = self.message.get(self.checked..).unwrap_or_default();
        let checked = match std::str::from_utf8(new) {
            Ok(_) => new.len(),
            Err(error) if error.error_len().is_some() || is_last => return Err(Fault::NotUtf8),
            Err(error) => error.valid_up_to(),
        };
        self.checked = self.checked.saturating_add(checked);
        Ok(())
    }

    fn end(&mut self, head: &Head) -> Result<Option<Event>, Fault> {
        Ok(match head.opcode {
            Opcode::Ping => Some(Event::Ping(self.take_control())),
            Opcode::Pong => {
                self.take_control();
                Some(Event::Pong)
            }
            Opcode::Close => Some(Event::Close(reason(self.take_control().bytes())?)),
            _ if !head.last => None,
            _ => {
                let bytes = std::mem::take(&mut self.message);
                self.checked = 0;
                Some(Event::Message(match self.kind.take() {
                    Some(Opcode::Text) => {
                        let text = String::from_utf8(bytes).map_err(|_| Fault::NotUtf8)?;
                        Message::Text(text)
                    }
                    _ => Message::Binary(bytes),
                }))
            }
        })
    }

    fn take_control(&mut self) -> Control {
        std::mem::replace(&mut self.control, Control::EMPTY)
    }
}

/// What a Close frame says (RFC 6455, 5.5.1).
fn reason(payload: &[u8]) -> Result<Option<CloseReason>, Fault> {
    let Some((code, text)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(Fault::Protocol("half a code of a close")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(Fault::Protocol("a code that no close may have"));
    }
    let reason = std::str::from_utf8(text).map_err(|_| Fault::NotUtf8)?;
    let reason = reason.to_owned();
    Ok(Some(CloseReason { code, reason }))
}
