//! A connection of HTTP/2 to a server, over which many requests go at a time.

use std::{
    fmt, io,
    sync::Arc,
    task::{Context, Waker},
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use maniple::{sync::oneshot, task};

use super::{
    driving,
    error::LinkError,
    load::{Counted, Load},
    settings::LinkSettings,
    stream::{ReceiveHalf, SendHalf},
};
use crate::transport::Dialed;

/// A connection of HTTP/2 to a server, over which many requests go at a time. Clones are of the same connection.
///
/// A coroutine of its own runs it, in the runtime where it was opened, and ends with the last clone and the last request. When the
/// server says that it goes (`GOAWAY`), requests that it has taken go on; those that it has not fail, and
/// [say so](LinkError::is_unseen).
///
/// As many requests are under way as the server allows, one until it has said how many. Who makes more waits for a turn, in order of
/// arrival, with the first wait for the answer or for room for the body.
///
/// # Examples
/// ```no_run
/// use maniple_server::{http2::{Link, LinkSettings}, transport::Dialed};
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// maniple::run(|| {
///     let link = Link::open(Dialed::tcp("localhost:8080")?, &LinkSettings::new())?;
///     let request = http::Request::get("http://localhost:8080/").body(())?;
///     let (_sending, mut receiving) = link.request(request, true)?;
///     println!("{}", receiving.head()?.status());
///     while let Some(part) = receiving.part()? {
///         println!("{} bytes", part.len());
///     }
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Link {
    send: SendRequest<Bytes>,
    load: Arc<Load>,
}

impl Link {
    /// Speaks HTTP/2 over a connection that has been made, whose server is known to do so: by what was agreed on in the handshake of
    /// TLS (ALPN), or by prior knowledge (RFC 9113, 3.3). Does not wait for the server's first words, but until its own are sent.
    ///
    /// # Errors
    /// If the connection fails, or the wait was cut short.
    pub fn open(dialed: Dialed, settings: &LinkSettings) -> io::Result<Self> {
        Self::open_with(dialed, settings, ())
    }

    /// The same, and `goes_with_it` is dropped when the connection has ended.
    pub(crate) fn open_with(
        dialed: Dialed,
        settings: &LinkSettings,
        goes_with_it: impl Send + 'static,
    ) -> io::Result<Self> {
        let (ready, shaken) = oneshot::channel();
        let load = Arc::new(Load::new());
        let (own, its_load) = (settings.clone(), load.clone());
        // It is for all who come, and what is the first one's own must not stay with it.
        let named = task::Builder::new().name(settings.name).without_locals();
        named.spawn(move || {
            driving::drive(dialed, &own, &its_load, ready);
            drop(goes_with_it);
        })?;
        match shaken.recv() {
            Ok(sent) => sent.map(|send| Self { send, load }),
            Err(_) => {
                maniple::cancel::check()?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    /// Sends the head of a request, whose URL has a scheme and an authority. `is_whole` says that nothing follows it. Does not
    /// wait.
    ///
    /// # Errors
    /// If the connection takes no more requests, or this is none that HTTP/2 has.
    pub fn request(
        &self,
        head: Request<()>,
        is_whole: bool,
    ) -> Result<(SendHalf, ReceiveHalf), LinkError> {
        let counted = Counted::new(&self.load).ok_or(LinkError::Idle)?;
        let mut send = self.send.clone();
        let (response, stream) = send.send_request(head, is_whole)?;
        Ok((
            SendHalf::new(stream),
            ReceiveHalf::new(response, send, counted),
        ))
    }

    /// Whether it takes requests, as far as is known.
    pub fn is_open(&self) -> bool {
        if self.load.is_closed() {
            return false;
        }
        let mut send = self.send.clone();
        let ready = send.poll_ready(&mut Context::from_waker(Waker::noop()));
        !matches!(ready, std::task::Poll::Ready(Err(_)))
    }

    /// How many requests are under way: those whose [`ReceiveHalf`] was not dropped.
    pub fn requests(&self) -> usize {
        self.load.requests()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}
