//! Sending, from as many coroutines as one likes.

use std::sync::Arc;

use super::{
    error::Error,
    frame::Opcode,
    message::{CloseReason, Frame, Message},
    out::Out,
};

/// Sends on a [`WebSocket`](super::WebSocket); clones send on the same. It does not keep the connection open.
///
/// Each message leaves whole, though others send at the same time. A send waits until the kernel has taken the message, at
/// most for the [write timeout](super::Settings::write_timeout), and is cut short by deadlines and cancellation. What
/// has left of a message by then is followed by its rest with the next one, so that others can go on.
#[derive(Clone, Debug)]
pub struct Sender {
    pub(super) out: Arc<Out>,
}

impl Sender {
    /// Sends a message.
    ///
    /// # Errors
    /// [`Error::Closed`] behind a Close; [`Error::Unanswered`] if the peer takes nothing in time, which ends the
    /// connection; [`Error::Io`] if the connection has failed or the wait was cut short.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        self.out.send(message.opcode(), message.as_bytes())
    }

    /// Sends a text.
    ///
    /// # Errors
    /// Those of [`Sender::send`].
    pub fn send_text(&self, text: &str) -> Result<(), Error> {
        self.out.send(Opcode::Text, text.as_bytes())
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Those of [`Sender::send`].
    pub fn send_binary(&self, bytes: &[u8]) -> Result<(), Error> {
        self.out.send(Opcode::Binary, bytes)
    }

    /// Sends what was made once to be sent to many.
    ///
    /// # Errors
    /// Those of [`Sender::send`].
    pub fn send_frame(&self, frame: &Frame) -> Result<(), Error> {
        self.out.send_frame(frame)
    }

    /// Sends a Close frame and returns. The socket's `receive` sees to the answer, and that it comes in time: at the latest
    /// from the next Ping on. A reason of more than 123 bytes is cut.
    ///
    /// # Errors
    /// Those of [`Sender::send`].
    ///
    /// # Panics
    /// If no Close may have that code: 1000 to 1003, 1007 to 1014 and 3000 to 4999 are allowed.
    #[track_caller]
    pub fn close(&self, code: u16, reason: &str) -> Result<(), Error> {
        let allowed = super::frame::may_be_sent(code);
        assert!(allowed, "no Close frame may have the code {code}");
        self.out
            .send(Opcode::Close, &CloseReason::payload(code, reason))
    }

    /// Whether nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.out.is_closed()
    }
}
