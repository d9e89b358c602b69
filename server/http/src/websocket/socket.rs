//! A WebSocket: receiving, and what goes by itself while one does: Pongs, Pings, the closing handshake, the drain.

use std::{
    fmt,
    io::{self, Read},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use maniple::{
    cancel::{CancelToken, is_cancelled, is_cancelled_error, shield},
    time::coarse_now,
};

use super::{
    decoder::{Decoder, Event, Limits},
    error::Error,
    frame::{Fault, Opcode, code},
    message::{CloseReason, Frame, Message},
    out::Out,
    sender::Sender,
    settings::Settings,
};
use crate::{
    server::{UpgradedReader, out::is_own_timeout, upgrade::Upgraded},
    transport::{Peer, Transport, memory},
};

/// A connection that speaks WebSocket (RFC 6455), on a server's or a client's side.
///
/// [`receive`](WebSocket::receive) gives messages. While somebody receives, all else goes by itself: Pings are answered
/// and sent, a Close is answered at once, and a drain of the server says 1001. [`sender`](WebSocket::sender) makes
/// handles to send with from other coroutines.
///
/// # Examples
/// ```
/// use maniple_server::websocket::WebSocket;
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// maniple::run(|| {
///     let (mut server, mut client) = WebSocket::pair();
///     let echoing = maniple::spawn(move || {
///         while let Some(message) = server.receive()? {
///             server.send(message)?;
///         }
///         Ok::<_, maniple_server::websocket::Error>(server.closed().map(|reason| reason.code))
///     });
///     client.send("hello")?;
///     assert_eq!(client.receive()?, Some("hello".into()));
///     client.close(1000, "bye")?;
///     assert_eq!(echoing.join()??, Some(1000));
///     Ok(())
/// })
/// # }
/// ```
pub struct WebSocket {
    reader: UpgradedReader,
    input: Vec<u8>,
    start: usize,
    end: usize,
    decoder: Decoder,
    sender: Sender,
    protocol: Option<String>,
    life: Life,
    is_server: bool,
    /// Cancelled when the server begins to drain; none once that was said to the client.
    drain: Option<CancelToken>,
    ping: Option<Duration>,
    ping_timeout: Duration,
    close_timeout: Duration,
    heard: Instant,
    /// The peer did not have itself waited for the last time.
    is_brisk: bool,
    /// By when something must come, after a Ping or a Close.
    due: Option<(Instant, &'static str)>,
}

#[derive(Debug)]
enum Life {
    Open,
    /// A Close has come, and was answered.
    Closed(Option<CloseReason>),
    /// The peer broke the protocol, and may still be sending.
    Broken,
    /// Nothing comes any more.
    Gone,
}

/// Room for what comes, and once long frames do.
const ROOM: usize = 4 * 1024;
const LARGE_ROOM: usize = 64 * 1024;

/// How long a peer that has answered as soon the last time is waited for without a look at the drain.
const SOON: Duration = Duration::from_millis(50);

impl WebSocket {
    pub(super) fn new(
        connection: Upgraded,
        settings: &Settings,
        protocol: Option<String>,
        is_server: bool,
    ) -> Result<Self, Error> {
        connection.set_write_timeout(Some(settings.write_timeout))?;
        let (reader, writer) = connection.split();
        let limits = Limits {
            frame: settings.max_frame,
            message: settings.max_message,
            from_client: is_server,
        };
        Ok(Self {
            drain: is_server.then(|| reader.drain_token()),
            reader,
            input: Vec::new(),
            start: 0,
            end: 0,
            decoder: Decoder::new(limits),
            sender: Sender {
                out: Arc::new(Out::new(writer, !is_server)),
            },
            protocol,
            life: Life::Open,
            is_server,
            ping: settings.ping,
            ping_timeout: settings.ping_timeout,
            close_timeout: settings.close_timeout,
            heard: coarse_now(),
            is_brisk: false,
            due: None,
        })
    }

    /// Two that are connected to each other within the process, a server's side and a client's: to test what is to be
    /// given one.
    pub fn pair() -> (Self, Self) {
        Settings::new().pair()
    }

    /// Receives the next message; `None` once the peer has closed, when [`closed`](WebSocket::closed) says with what.
    ///
    /// After a wait that was cut short it may be called again: nothing is lost.
    ///
    /// # Errors
    /// If the peer breaks the protocol or a limit, does not answer a Ping or a Close in time, or is gone without a Close
    /// (kind `UnexpectedEof`); if the connection fails or the wait was cut short.
    pub fn receive(&mut self) -> Result<Option<Message>, Error> {
        loop {
            match &self.life {
                Life::Open => {}
                Life::Closed(_) => return Ok(None),
                Life::Broken | Life::Gone => return Err(self.sender.out.why_closed()),
            }
            let mut unread = &self.input[self.start..self.end];
            let decoded = self.decoder.decode(&mut unread);
            self.start = self.end - unread.len();
            match decoded {
                Ok(None) => self.fill()?,
                Ok(Some(Event::Message(message))) => return Ok(Some(message)),
                Ok(Some(Event::Pong)) => {}
                // Not cut short: else the peer would take us for gone.
                Ok(Some(Event::Ping(ping))) => {
                    match shield(|| self.sender.out.send(Opcode::Pong, ping.bytes())) {
                        Ok(()) | Err(Error::Closed) => {}
                        Err(error) => return Err(self.lose(error)),
                    }
                }
                Ok(Some(Event::Close(reason))) => return Ok(self.answer_close(reason)),
                Err(fault) => return Err(self.refuse(fault)),
            }
        }
    }

    /// Sends a message: see [`Sender::send`].
    ///
    /// # Errors
    /// Those of [`Sender::send`].
    pub fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.sender.send(message)
    }

    /// Sends a text.
    ///
    /// # Errors
    /// Those of [`Sender::send`].
    pub fn send_text(&self, text: &str) -> Result<(), Error> {
        self.sender.send_text(text)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Those of [`Sender::send`].
    pub fn send_binary(&self, bytes: &[u8]) -> Result<(), Error> {
        self.sender.send_binary(bytes)
    }

    /// Sends what was made once to be sent to many.
    ///
    /// # Errors
    /// Those of [`Sender::send`].
    pub fn send_frame(&self, frame: &Frame) -> Result<(), Error> {
        self.sender.send_frame(frame)
    }

    /// A handle to send with, for other coroutines.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Closes: sends a Close frame, waits for the peer's for at most the
    /// [close timeout](Settings::close_timeout), and ends the connection. Messages that come meanwhile are dropped.
    ///
    /// A server's handler need not call it: it is done with 1000 when the handler returns. Where a Close has been sent or
    /// received already, it only waits for what is left of that.
    ///
    /// # Errors
    /// Those of [`WebSocket::receive`]; the connection has ended then, too.
    ///
    /// # Panics
    /// If no Close may have that code: 1000 to 1003, 1007 to 1014 and 3000 to 4999 are allowed.
    #[track_caller]
    pub fn close(&mut self, code: u16, reason: &str) -> Result<(), Error> {
        let said = match self.sender.close(code, reason) {
            Err(Error::Closed) => Ok(()),
            said => said,
        };
        let closed = said.and_then(|()| {
            self.await_close();
            while self.receive()?.is_some() {}
            Ok(())
        });
        if closed.is_ok() && !self.is_server {
            self.await_end();
        }
        self.end();
        match closed {
            Err(Error::Closed) => Ok(()),
            closed => closed,
        }
    }

    /// What the peer's Close said, once it has come; `None` also if it said nothing.
    pub fn closed(&self) -> Option<&CloseReason> {
        match &self.life {
            Life::Closed(reason) => reason.as_ref(),
            _ => None,
        }
    }

    /// The subprotocol that both sides have agreed upon.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.reader.peer()
    }

    /// The peer's address, if it is connected over TCP.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.reader.peer_addr()
    }

    /// Whether the server has begun to drain. Who receives then sends a Close with 1001, and goes on until the client
    /// has answered it.
    pub fn is_draining(&self) -> bool {
        self.reader.is_draining()
    }

    /// Receives bytes, and sees to all that is due meanwhile.
    fn fill(&mut self) -> Result<(), Error> {
        self.make_room();
        loop {
            let until = match (self.due, self.ping) {
                (Some((due, _)), _) => Some(due),
                (None, Some(ping)) => Some(self.heard + ping),
                (None, None) => None,
            };
            let began = coarse_now();
            let left = until.map(|until| until.saturating_duration_since(began));
            if left.is_some_and(|left| left.is_zero()) {
                self.be_overdue()?;
                continue;
            }
            // To enter the token's scope costs as much as all else about a short message.
            let drain = self.drain.as_ref();
            let drain = drain.filter(|drain| !self.is_brisk || drain.is_cancelled());
            let is_short = drain.is_none() && self.drain.is_some();
            self.reader.set_timeout(match is_short {
                true => Some(left.map_or(SOON, |left| left.min(SOON))),
                false => left,
            })?;
            let room = &mut self.input[self.end..];
            let read = match drain {
                None => self.reader.read(room),
                Some(drain) => match drain.run(|| self.reader.read(room)) {
                    Ok(read) => read,
                    Err(cancelled) => Err(io::Error::other(cancelled)),
                },
            };
            match read {
                Ok(0) => {
                    let text = "the connection ended without a Close frame";
                    let gone = io::Error::new(io::ErrorKind::UnexpectedEof, text);
                    return Err(self.lose(Error::Io(gone)));
                }
                Ok(count) => {
                    self.end += count;
                    self.heard = coarse_now();
                    self.is_brisk = self.heard.saturating_duration_since(began) < SOON;
                    // A Pong, or what shows as well that the peer is there. A Close is waited for by itself.
                    self.due = self.due.filter(|(_, what)| *what != PING);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_own_timeout(&error) && is_short => self.is_brisk = false,
                Err(error) if is_own_timeout(&error) => self.be_overdue()?,
                Err(error) if is_cancelled_error(&error) && self.may_be_a_drain() => {
                    self.go_away();
                }
                Err(error) if is_cancelled_error(&error) => return Err(Error::Io(error)),
                // The caller's deadline.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(Error::Io(error));
                }
                Err(error) => return Err(self.lose(Error::Io(error))),
            }
        }
    }

    /// All that is unread is a part of a head.
    fn make_room(&mut self) {
        self.input.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let wanted = match self.decoder.outstanding() {
            ..=ROOM => ROOM,
            _ => LARGE_ROOM,
        };
        if self.input.len() < wanted {
            self.input.resize(wanted, 0);
        }
    }

    fn may_be_a_drain(&self) -> bool {
        let drain = self.drain.as_ref();
        drain.is_some_and(CancelToken::is_cancelled) && !is_cancelled()
    }

    /// Nothing came in time.
    #[cold]
    fn be_overdue(&mut self) -> Result<(), Error> {
        if let Some((_, what)) = self.due {
            return Err(self.lose(Error::Unanswered(what)));
        }
        // It has been silent, so less will do.
        self.input.truncate(ROOM.max(self.end));
        self.input.shrink_to_fit();
        match self.sender.out.send(Opcode::Ping, b"") {
            Ok(()) => {
                self.due = Some((coarse_now() + self.ping_timeout, PING));
                Ok(())
            }
            // Somebody else has sent a Close.
            Err(Error::Closed) => {
                self.await_close();
                Ok(())
            }
            Err(error) if error.is_interruption() => Err(error),
            Err(error) => Err(self.lose(error)),
        }
    }

    /// The server drains: the client is told.
    #[cold]
    fn go_away(&mut self) {
        self.drain = None;
        // If it cannot be told, receiving will say why.
        let payload = CloseReason::payload(code::GOING_AWAY, "the server is going away");
        let _ = self.sender.out.send(Opcode::Close, &payload);
        self.await_close();
    }

    /// A Close has been sent, and is to be answered in time.
    fn await_close(&mut self) {
        self.drain = None;
        if self.due.is_none_or(|(_, what)| what == PING) {
            self.due = Some((coarse_now() + self.close_timeout, "Close"));
        }
    }

    #[cold]
    fn answer_close(&mut self, reason: Option<CloseReason>) -> Option<Message> {
        // The same code, as RFC 6455, 5.5.1 has it.
        let payload = reason
            .as_ref()
            .map_or(Vec::new(), |reason| CloseReason::payload(reason.code, ""));
        // It may have been sent already; and if it cannot be, the peer will know without.
        let _ = shield(|| self.sender.out.send(Opcode::Close, &payload));
        self.life = Life::Closed(reason);
        if self.is_server {
            // Clients wait for the server to end the connection (RFC 6455, 7.1.1).
            self.sender.out.end();
        }
        None
    }

    #[cold]
    fn refuse(&mut self, fault: Fault) -> Error {
        let error = Error::from(fault);
        let text = match fault {
            Fault::Protocol(text) => text,
            Fault::NotUtf8 => "not UTF-8",
            Fault::TooLarge(_) => "too large",
        };
        let payload = CloseReason::payload(fault.code(), text);
        let _ = shield(|| self.sender.out.send(Opcode::Close, &payload));
        self.sender.out.end();
        self.life = Life::Broken;
        error
    }

    #[cold]
    fn lose(&mut self, error: Error) -> Error {
        let error = match self.sender.out.why_closed() {
            Error::Lagged => Error::Lagged,
            _ => error,
        };
        self.life = Life::Gone;
        self.sender.out.cut();
        error
    }

    /// What is left to do when nobody has use for it any more.
    #[cold]
    pub(super) fn finish(&mut self, code: u16) {
        match self.life {
            // Errors are over with the connection.
            Life::Open => _ = self.close(code, ""),
            // What came in between must not reset the connection, and take the Close away from the peer. Some also send
            // behind their own Close (RFC 6455, 7.1.1, has a server wait like this).
            Life::Broken => self.await_end(),
            Life::Closed(_) if self.is_server => self.await_end(),
            Life::Closed(_) | Life::Gone => {}
        }
        self.end();
    }

    /// Reads away what the peer still sends, until it ends the connection, for a while.
    fn await_end(&mut self) {
        let until = coarse_now() + self.close_timeout;
        let mut room = vec![0; ROOM];
        let mut discarded = 0;
        while discarded < MOST_DISCARDED {
            let left = until.saturating_duration_since(coarse_now());
            if left.is_zero() || self.reader.set_timeout(Some(left)).is_err() {
                return;
            }
            match self.reader.read(&mut room) {
                Ok(0) | Err(_) => return,
                Ok(count) => discarded += count,
            }
        }
    }

    fn end(&mut self) {
        if matches!(self.life, Life::Open) {
            self.life = Life::Gone;
        }
        self.sender.out.give_up();
    }
}

/// The name by which it is switched to.
pub(super) const PROTOCOL: &str = "websocket";

const PING: &str = "Ping";

/// What is read away of a peer that has broken the protocol, or sends behind its Close.
const MOST_DISCARDED: usize = 16 * 1024 * 1024;

impl Drop for WebSocket {
    /// Ends the connection; without a Close, if there was none, since a destructor should not wait.
    fn drop(&mut self) {
        self.sender.out.give_up();
    }
}

impl Settings {
    /// Makes two that are connected to each other, as [`WebSocket::pair`] does, with these settings for both.
    ///
    /// # Panics
    /// If the write timeout is zero.
    pub fn pair(&self) -> (WebSocket, WebSocket) {
        let (server, client) = memory::pair();
        let end = |stream, is_server| {
            let transport = Transport::Memory(stream);
            let connection = Upgraded::over(transport, Peer::Memory, PROTOCOL, Vec::new());
            WebSocket::new(connection, self, None, is_server)
        };
        let made = end(server, true).and_then(|server| Ok((server, end(client, false)?)));
        made.expect("timeouts are not zero")
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("peer", self.peer())
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}
