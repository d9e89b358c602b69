//! Connections made from here for a protocol that is polled and never waits, as others have written them.

use std::{
    cell::{Cell, RefCell},
    fmt, io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use maniple::net::{Interest, Shutdown, ToSocketAddrs};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Connector, Transport};

/// A connection that has been made, and is to be [polled](Polled) by the coroutine that it is given to.
#[derive(Debug)]
pub struct Dialed {
    pub(super) transport: Transport,
}

impl Dialed {
    /// By TCP to `host:port`, whichever of its addresses answers first.
    ///
    /// # Errors
    /// If the name is not known, nobody answers, or the wait is cut short.
    pub fn tcp(authority: &str) -> io::Result<Self> {
        let addresses = authority.to_socket_addrs()?;
        if addresses.is_empty() {
            let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            return Err(none);
        }
        let transport = Transport::connect_tcp(&addresses)?;
        Ok(Self { transport })
    }

    pub(crate) fn over(transport: Transport) -> Self {
        Self { transport }
    }

    /// By a connector.
    ///
    /// # Errors
    /// If nobody answers in that time, or the wait is cut short.
    pub fn by(connector: &Connector, timeout: Duration) -> io::Result<Self> {
        let transport = connector.connect(timeout)?;
        Ok(Self { transport })
    }
}

/// What is to be sent and has been put together, so that many small frames are one call of the kernel.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    sent: usize,
}

thread_local! {
    /// One that a worker lends to connections while they have something to send.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Held {
    /// More than this is sent before more is taken.
    const FULL: usize = 64 * 1024;

    /// How much is still to be sent.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) fn is_full(&self) -> bool {
        self.left() >= Self::FULL
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.take();
        }
        if self.sent >= Self::FULL {
            self.bytes.drain(..std::mem::take(&mut self.sent));
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Sends what there is room for. Kind `WouldBlock` if that is nothing.
    pub(crate) fn try_send(&mut self, transport: &Transport) -> io::Result<()> {
        while self.left() > 0 {
            match transport.try_write(&self.bytes[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) => return Err(error),
            }
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        self.sent = 0;
        bytes.clear();
        if bytes.capacity() <= 2 * Self::FULL {
            // The one that was there is as good.
            SPARE.set(bytes);
        }
        Ok(())
    }
}

/// A connection that is read and written without waiting, by the traits that tokio's ecosystem has for that. Who polls waits,
/// with [`interest`](Polled::interest). Clones are of the same connection.
///
/// # Examples
/// A connection of the crate `h2`:
/// ```no_run
/// use std::pin::pin;
/// use maniple::future::Poller;
/// use maniple_server::transport::{Dialed, Polled};
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// maniple::run(|| {
///     let wire = Polled::new(Dialed::tcp("localhost:8080")?);
///     let poller = Poller::new();
///     let mut handshake = pin!(h2::client::handshake::<_>(wire.clone()));
///     let interest = || wire.interest();
///     let shaken = poller.wait_beside(None, interest, |context| handshake.as_mut().poll(context))?;
///     let (_send, _connection) = shaken?;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Polled(Rc<Wire>);

struct Wire {
    transport: Transport,
    /// Whether there was nothing to read.
    is_empty: Cell<bool>,
    held: RefCell<Held>,
}

impl Wire {
    /// Ready once all that was written has left.
    fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = &self.transport;
        transport.wake_by(context.waker());
        let sent = self.held.borrow_mut().try_send(transport);
        let sent = sent.and_then(|()| {
            while transport.unsent() > 0 {
                if transport.try_write(&[])? == 0 && transport.unsent() > 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
            }
            Ok(())
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            sent => Poll::Ready(sent),
        }
    }
}

impl Polled {
    /// That connection, for the calling coroutine.
    pub fn new(dialed: Dialed) -> Self {
        Self(Rc::new(Wire {
            transport: dialed.transport,
            is_empty: Cell::new(false),
            held: RefCell::default(),
        }))
    }

    /// What to wait for beside wakers, after a poll that came to nothing. None of a connection within the process, which wakes.
    pub fn interest(&self) -> Option<Interest<'_>> {
        let is_behind = self.0.held.borrow().left() > 0 || self.0.transport.unsent() > 0;
        self.0.transport.interest(true, is_behind)
    }
}

impl AsyncRead for Polled {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Wire {
            transport,
            is_empty,
            ..
        } = &*self.0;
        transport.wake_by(context.waker());
        if is_empty.get() && !transport.may_be_readable() {
            return Poll::Pending;
        }
        match transport.try_read(buffer.initialize_unfilled()) {
            Ok(count) => {
                buffer.advance(count);
                is_empty.set(false);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                is_empty.set(true);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Polled {
    /// Takes it, to be sent with what follows.
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.0.held.borrow().is_full() {
            match self.0.poll_send(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.0.held.borrow_mut().push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.as_mut().poll_flush(context) {
            Poll::Ready(Ok(())) => Poll::Ready(self.0.transport.shutdown(Shutdown::Write)),
            other => other,
        }
    }
}

impl fmt::Debug for Polled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.transport.fmt(f)
    }
}
