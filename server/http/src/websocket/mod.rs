//! WebSockets (RFC 6455): connections that carry messages both ways, in plain blocking code.
//!
//! A handler answers with [`upgrade`], and is given the socket once the answer has left:
//!
//! ```
//! use maniple_server::{Request, Response, Router, websocket};
//!
//! fn echo(request: &mut Request) -> Response {
//!     websocket::upgrade(request, |socket| {
//!         while let Some(message) = socket.receive()? {
//!             socket.send(message)?;
//!         }
//!         Ok(())
//!     })
//! }
//! let router = Router::new().get("/echo", echo);
//! # let _ = router;
//! ```
//!
//! - **Sending from elsewhere.** [`WebSocket::sender`] gives handles for other coroutines; [`Sender::queue`] puts a
//!   bounded queue in front, with a policy for clients that are too slow; [`Frame`] is made once and sent to many.
//! - **Who is there.** A client that is silent for 30 s is sent a Ping, and is gone if it stays silent for 20 s more. Pings
//!   are answered while somebody receives: who only sends has another coroutine receive.
//! - **The end.** When the handler returns, the client is sent a Close with 1000, or with 1011 if it returned an error of
//!   its own or panicked; its answer is awaited for at most 5 s; then the server ends the connection first, as browsers
//!   expect. A Close of the client's is answered at once.
//! - **Limits.** Messages and frames have 1 MiB at most, or the connection is closed with 1009; with 1007 for a text that
//!   is not UTF-8, as soon as that shows; with 1002 for what breaks the protocol.
//! - **Drain.** A socket's `receive` sends a Close with 1001 when the server begins to drain, or up to 50 ms later to a
//!   client in the middle of an exchange, goes on until the client has answered it, and then gets `None`. The drain waits for
//!   the handler, at most for its grace time.
//! - **Origins.** Browsers let any page connect: those of other hosts are answered 403, unless
//!   [`Settings::origins`] names them.
//!
//! All of that can be set: [`Settings`]. There is no compression (`permessage-deflate`): offers of it are not taken up. A
//! client side is there, too, over TCP without TLS: [`connect`].

mod client;
mod decoder;
mod error;
mod frame;
mod handshake;
mod message;
mod out;
mod outbox;
mod sender;
mod settings;
mod socket;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use http::{HeaderValue, Method, StatusCode};
use maniple::{log_limit::LogLimit, log_within};

pub use client::connect;
pub use error::Error;
pub use frame::code;
pub use message::{CloseReason, Frame, Message};
pub use outbox::Outbox;
pub use sender::Sender;
pub use settings::Settings;
pub use socket::WebSocket;

/// What a full queue does about a peer that is too slow for it.
pub use maniple::sync::broadcast::Lag;

use crate::{
    request::Request,
    response::{IntoResponse, Response},
    server::upgrade::Upgraded,
};
use handshake::{Refusal, Terms, judge};
use socket::PROTOCOL;

/// What a handler's closure may return as an error: any.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Answers a request to open a WebSocket, and has `f` serve it, with the default [`Settings`].
///
/// `f` runs in the connection's coroutine. An error of the socket that it returns ends the connection without a word; any
/// other is logged, and the client told 1011, as with a panic. What is no good request for a WebSocket is answered with
/// 400, 403 for an origin that may not connect, 405 if it is no GET, or 426, and `f` is dropped.
///
/// # Examples
/// Messages of a hub's topic to the client, until either is done:
/// ```
/// use maniple::sync::broadcast;
/// use maniple_server::{Request, Response, websocket};
///
/// fn news(request: &mut Request, news: broadcast::Sender<String>) -> Response {
///     websocket::upgrade(request, move |socket| {
///         let (sender, mut news) = (socket.sender(), news.subscribe());
///         let sending = maniple::spawn(move || {
///             while let Ok(message) = news.recv() {
///                 sender.send(message)?;
///             }
///             sender.close(1000, "no more news")
///         });
///         while socket.receive()?.is_some() {}
///         sending.cancel();
///         Ok(())
///     })
/// }
/// # let _ = news;
/// ```
pub fn upgrade(
    request: &mut Request,
    f: impl FnOnce(&mut WebSocket) -> Result<(), BoxError> + Send + 'static,
) -> Response {
    Settings::new().upgrade(request, f)
}

impl Settings {
    /// Answers a request to open a WebSocket, as [`upgrade`] does, with these settings.
    pub fn upgrade(
        &self,
        request: &mut Request,
        f: impl FnOnce(&mut WebSocket) -> Result<(), BoxError> + Send + 'static,
    ) -> Response {
        if request.method() != Method::GET {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return (status, "WebSockets are opened by GET\n")
                .into_response()
                .with_header("allow", "GET");
        }
        if !request.exchange.asks_to_switch_to(PROTOCOL.as_bytes()) {
            let status = StatusCode::UPGRADE_REQUIRED;
            return refused(&Refusal {
                status,
                reason: "only WebSocket is spoken here\n",
            });
        }
        let terms = Terms {
            protocols: &self.protocols,
            origins: &self.origins,
            needs_key: self.needs_key,
        };
        let offer = match judge(request.headers(), &terms) {
            Ok(offer) => offer,
            Err(refusal) => return refused(&refusal),
        };
        let (settings, protocol) = (self.clone(), offer.protocol.clone());
        let mut response = Response::upgrade(PROTOCOL, move |connection| {
            serve(connection, &settings, protocol, f);
        });
        let fields = [
            ("sec-websocket-accept", offer.accept),
            ("sec-websocket-protocol", offer.protocol),
        ];
        for (name, value) in fields {
            let value = value.map(|value| HeaderValue::from_str(&value));
            if let Some(Ok(value)) = value {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

#[cold]
fn refused(refusal: &Refusal) -> Response {
    let response = (refusal.status, refusal.reason).into_response();
    match refusal.status {
        StatusCode::UPGRADE_REQUIRED => response
            .with_header("upgrade", PROTOCOL)
            .with_header("sec-websocket-version", "13"),
        _ => response,
    }
}

/// Runs a handler's closure, and ends the connection as it went.
fn serve(
    connection: Upgraded,
    settings: &Settings,
    protocol: Option<String>,
    f: impl FnOnce(&mut WebSocket) -> Result<(), BoxError>,
) {
    let Ok(mut socket) = WebSocket::new(connection, settings, protocol, true) else {
        return;
    };
    let served = catch_unwind(AssertUnwindSafe(|| f(&mut socket)));
    let code = match &served {
        Ok(Ok(())) => code::NORMAL,
        Ok(Err(error)) if error.is::<Error>() => {
            log::debug!("WebSocket of {}: {error}", socket.peer());
            code::NORMAL
        }
        Ok(Err(error)) => {
            static RATE: LogLimit = LogLimit::new(1);
            log_within!(RATE, warn, "WebSocket of {}: {error}", socket.peer());
            code::INTERNAL_ERROR
        }
        Err(_) => code::INTERNAL_ERROR,
    };
    socket.finish(code);
    drop(socket);
    if let Err(panic) = served {
        resume_unwind(panic);
    }
}
