//! Messages, and why a connection was closed.

use std::fmt;

use bytes::Bytes;

use super::frame::{Head, MAX_CONTROL, Opcode};

/// A message: a text or bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Message {
    /// The text, if it is one.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::websocket::Message;
    /// assert_eq!(Message::from("hello").as_text(), Some("hello"));
    /// assert_eq!(Message::from(vec![1, 2]).as_text(), None);
    /// ```
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }

    /// Its bytes, of a text too.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    pub(super) fn opcode(&self) -> Opcode {
        match self {
            Message::Text(_) => Opcode::Text,
            Message::Binary(_) => Opcode::Binary,
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Message::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Message::Text(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Message::Binary(bytes.to_owned())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Message::Binary(bytes)
    }
}

/// A message as it goes over the wire from a server, made once to be sent to many. Clones share it.
///
/// # Examples
/// ```
/// use maniple_server::websocket::Frame;
/// let frame = Frame::text("to all");
/// assert_eq!(frame.clone(), frame);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    head: usize,
    opcode: Opcode,
}

impl Frame {
    /// One with a text.
    pub fn text(text: &str) -> Self {
        Self::of(Opcode::Text, text.as_bytes())
    }

    /// One with bytes.
    pub fn binary(bytes: &[u8]) -> Self {
        Self::of(Opcode::Binary, bytes)
    }

    fn of(opcode: Opcode, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(payload.len() + 10);
        Head::write(opcode, payload.len(), None, &mut bytes);
        let head = bytes.len();
        bytes.extend_from_slice(payload);
        Self {
            bytes: bytes.into(),
            head,
            opcode,
        }
    }

    pub(super) fn opcode(&self) -> Opcode {
        self.opcode
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    pub(super) fn whole(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Message> for Frame {
    fn from(message: Message) -> Self {
        Self::of(message.opcode(), message.as_bytes())
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Frame({:?}, {} bytes)",
            self.opcode,
            self.payload().len()
        )
    }
}

/// What the Close frame of a peer says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReason {
    /// One of those in [`code`](super::code), of others' registered ones, or of an application's own: 4000 to 4999.
    pub code: u16,
    /// For people; often empty.
    pub reason: String,
}

impl CloseReason {
    /// As a payload; what is too long of the reason is left out.
    pub(super) fn payload(code: u16, reason: &str) -> Vec<u8> {
        let end = reason.floor_char_boundary(MAX_CONTROL - 2);
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(&reason.as_bytes()[..end]);
        payload
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason.as_str() {
            "" => self.code.fmt(f),
            reason => write!(f, "{}: {reason}", self.code),
        }
    }
}
