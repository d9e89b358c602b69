//! Server-sent events: a stream of small texts to a browser or another client, which connects again by itself.
//!
//! A handler answers with [`stream`], and its function sends events while it is called:
//!
//! ```
//! use std::time::Duration;
//! use maniple_server::{Request, Response, Router, sse::{self, Event}};
//!
//! fn clock(request: &mut Request) -> Response {
//!     let mut seconds = sse::last_event_id(request).and_then(|id| id.parse().ok()).unwrap_or(0_u64);
//!     sse::stream(request, move |events| {
//!         // Until the server drains.
//!         while events.wait(Duration::from_secs(1)) {
//!             seconds += 1;
//!             events.send(&Event::data(format!("{seconds} s")).with_id(seconds))?;
//!         }
//!         Ok(())
//!     })
//! }
//! let router = Router::new().get("/clock", clock);
//! # let _ = router;
//! ```
//!
//! - **Each event leaves at once**, as a chunk of its own.
//! - **Keep-alive.** While the function is in [`Events::wait`] or [`Events::forward`], a comment is sent after each 15 s
//!   without an event, so that what stands in between keeps the connection, and a client that has gone is noticed.
//! - **Drain.** Both return when the server begins to drain; then the [last event](Settings::last_event) is sent, and the
//!   stream ends. Clients connect again, elsewhere.
//! - **Who is too slow** for what is published is the publisher's affair: a member of a hub has a queue and a policy.
//!
//! Browsers connect again after any end of the stream, unless they get 204 then.

mod event;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

use std::{
    borrow::Borrow,
    fmt,
    io::{self, Write},
    time::{Duration, Instant},
};

use http::StatusCode;
use maniple::{
    cancel::{CancelToken, is_cancelled},
    time::coarse_now,
};

pub use event::{Event, InvalidField};

use crate::{
    request::Request,
    response::{Body, Response},
    writer::{BodyWriter, Flush, Tried},
};

/// Answers with a stream of the events that `f` sends, with the default [`Settings`].
///
/// `f` runs in the connection's coroutine, once the head of the answer is on its way; the stream ends with it. An error that
/// it returns breaks the connection off; those of [`Events::send`] say that it is broken already.
///
/// # Examples
/// What is published, to each client:
/// ```
/// use std::sync::Arc;
/// use maniple::sync::broadcast::{self, RecvTimeoutError};
/// use maniple_server::{Request, Response, sse::{self, Event, Next}};
///
/// fn news(request: &mut Request, news: &broadcast::Sender<Arc<Event>>) -> Response {
///     let mut news = news.subscribe();
///     sse::stream(request, move |events| {
///         events.forward(|within| match news.recv_timeout(within) {
///             Ok(event) => Next::Event(event),
///             Err(RecvTimeoutError::Timeout | RecvTimeoutError::Lagged(_)) => Next::Nothing,
///             Err(_) => Next::End,
///         })
///     })
/// }
/// # let _ = news;
/// ```
pub fn stream(
    request: &mut Request,
    f: impl FnOnce(&mut Events<'_, '_>) -> io::Result<()> + Send + 'static,
) -> Response {
    Settings::new().stream(request, f)
}

/// What a client that connects again says of the last event that it got: the id of that.
pub fn last_event_id(request: &Request) -> Option<&str> {
    request.header_str("last-event-id")
}

/// Settings of streams of events, made once and used for many.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use maniple_server::sse::{Event, Settings};
/// let settings = Settings::new()
///     .retry(Duration::from_secs(2))
///     .last_event(Event::named("bye").with_data("the server goes away"));
/// # let _ = settings;
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing by themselves"]
pub struct Settings {
    keep_alive: Duration,
    retry: Option<Duration>,
    last: Option<Event>,
}

impl Settings {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            keep_alive: Duration::from_secs(15),
            retry: None,
            last: None,
        }
    }

    /// After how long without an event a comment is sent, while the function waits. Default: 15 s; zero counts as 1 ms.
    pub fn keep_alive(mut self, after: Duration) -> Self {
        self.keep_alive = after.max(Duration::from_millis(1));
        self
    }

    /// How long clients are to wait before they connect again, said at the beginning. Default: not said, which is some
    /// seconds in browsers.
    pub fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    /// What is sent last when the server drains. Default: nothing.
    pub fn last_event(mut self, event: Event) -> Self {
        self.last = Some(event);
        self
    }

    /// Answers with a stream of the events that `f` sends, as [`stream`] does, with these settings.
    pub fn stream(
        &self,
        request: &mut Request,
        f: impl FnOnce(&mut Events<'_, '_>) -> io::Result<()> + Send + 'static,
    ) -> Response {
        let settings = self.clone();
        let drain = request.exchange.drain_token();
        let body = Body::from_fn(move |out| {
            out.set_flush(Flush::Each);
            let mut events = Events {
                out,
                drain,
                keep_alive: settings.keep_alive,
                quiet_until: coarse_now() + settings.keep_alive,
            };
            if let Some(after) = settings.retry {
                events.write(&format!("retry: {}\n\n", after.as_millis()))?;
            }
            f(&mut events)?;
            match &settings.last {
                Some(last) if events.is_draining() => events.send(last),
                _ => Ok(()),
            }
        });
        Response::new(StatusCode::OK)
            .with_header("content-type", "text/event-stream")
            .with_header("cache-control", "no-store")
            // nginx would hold the events back.
            .with_header("x-accel-buffering", "no")
            .with_body(body)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a stream's function sends its events.
pub struct Events<'a, 'w> {
    out: &'a mut BodyWriter<'w>,
    drain: CancelToken,
    keep_alive: Duration,
    /// When a comment is due.
    quiet_until: Instant,
}

/// What there is to be sent, as a source of events says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next<E = Event> {
    /// An event.
    Event(E),
    /// Nothing in time.
    Nothing,
    /// Nothing any more.
    End,
}

/// What a stream is to do that must not be cut short.
enum Due<E> {
    /// To send an event.
    Event(E),
    /// To send the rest of what was taken.
    Flush,
    /// To send a comment.
    Comment,
    /// To end, for it is broken.
    Failure(io::Error),
    End,
}

impl Events<'_, '_> {
    /// Sends an event, which waits until the kernel has taken it.
    ///
    /// # Errors
    /// If the client has gone, or takes nothing for the server's
    /// [body timeout](crate::server::Builder::body_timeout), or the wait was cut short.
    pub fn send(&mut self, event: &Event) -> io::Result<()> {
        self.write(event.as_str())
    }

    /// Sends a comment, which clients pass over.
    ///
    /// # Errors
    /// Those of [`Events::send`].
    pub fn keep_alive(&mut self) -> io::Result<()> {
        self.write(Event::COMMENT)
    }

    /// Waits, and sends a comment where one is due. `false`, and earlier, if the server drains or nothing can be sent any
    /// more. Is cut short like any wait when the client has gone.
    #[must_use = "says whether to go on"]
    pub fn wait(&mut self, time: Duration) -> bool {
        let until = coarse_now() + time;
        let waited = self.forward(|within| {
            let left = until.saturating_duration_since(coarse_now());
            maniple::sleep(left.min(within));
            match left <= within {
                true => Next::<Event>::End,
                false => Next::Nothing,
            }
        });
        waited.is_ok() && !self.is_draining() && !is_cancelled()
    }

    /// Sends what `next` gives, until it gives an end or the server drains. It is called with the time after which a comment
    /// is due, and gives [`Next::Nothing`] if it has nothing by then. Its waits are cut short when the server begins to
    /// drain.
    ///
    /// # Errors
    /// Those of [`Events::send`].
    pub fn forward<E: Borrow<Event>>(
        &mut self,
        mut next: impl FnMut(Duration) -> Next<E>,
    ) -> io::Result<()> {
        let drain = self.drain.clone();
        while !drain.is_cancelled() {
            // To enter the token's scope costs more than an event that there is room for.
            match drain.run(|| self.forward_at_once(&mut next)) {
                Ok(Due::Event(event)) => self.send(event.borrow())?,
                Ok(Due::Flush) => self.out.flush()?,
                Ok(Due::Comment) => self.keep_alive()?,
                Ok(Due::Failure(error)) => return Err(error),
                Ok(Due::End) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Sends what `next` gives, for as long as that takes no waiting for the client; what is to be done where no drain cuts
    /// it short.
    fn forward_at_once<E: Borrow<Event>>(
        &mut self,
        next: &mut impl FnMut(Duration) -> Next<E>,
    ) -> Due<E> {
        while !self.is_draining() {
            let left = self.quiet_until.saturating_duration_since(coarse_now());
            if left.is_zero() {
                return Due::Comment;
            }
            let event = match next(left) {
                Next::Event(event) => event,
                Next::Nothing => continue,
                Next::End => return Due::End,
            };
            match self.out.try_send(event.borrow().as_str().as_bytes()) {
                Ok(Tried::Not) => return Due::Event(event),
                Ok(tried) => {
                    self.quiet_until = coarse_now() + self.keep_alive;
                    if tried == Tried::Taken {
                        return Due::Flush;
                    }
                }
                Err(error) => return Due::Failure(error),
            }
        }
        Due::End
    }

    /// Whether the server has begun to drain.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.quiet_until = coarse_now() + self.keep_alive;
        Ok(())
    }
}

impl fmt::Debug for Events<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
}
