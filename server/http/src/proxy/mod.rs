//! A reverse proxy as a handler: a gateway is one route.
//!
//! ```text
//!   client ──request──► fields: what is for one hop is taken out, who asks is told
//!                  └──► body: framed anew, sent on as it comes ──► one of the upstreams
//!   client ◄─── head and body, as they come ◄───────────────────────────┘
//! ```

mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod relay;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{ALLOW, CONNECTION, CONTENT_LENGTH, HOST, TRAILER, UPGRADE},
};
use maniple::{log_limit::LogLimit, log_within, sync::Mutex, time::coarse_now};

use crate::{
    client::{
        Client, ClientError, Phase, connection::Connection, head::Outgoing, upload::Sender,
        url::Url,
    },
    http1::{
        conversation::is_bodiless,
        head::Framing,
        reply::{Ending, Reply},
    },
    problem::Problem,
    request::Request,
    response::{Body, IntoResponse, Response},
    router::handler::Handler,
    trace_context::{TRACEPARENT, TRACESTATE, trace_context},
};
use fields::{Asker, Telling};
use relay::Fed;

/// Passes requests on to another server, or to one of several, and its answers back: a handler.
///
/// Bodies go both ways as they come, no faster than the other side takes them, and are framed anew. An answer that breaks
/// off behind is broken off here, so that it never looks whole. A client that goes away ends the call.
///
/// # What is passed on
/// Method, path and query, all fields but those of one hop (RFC 9110, 7.6.1: `Connection` and what it names, `TE`,
/// `Transfer-Encoding`, `Upgrade`, `Keep-Alive`, `Proxy-*`), and the fields behind a body in chunks that `Trailer` announces.
/// `Via` is added both ways. `Expect` is answered here. `Date` is this server's.
///
/// The server behind is told for whom it is asked: by `X-Forwarded-For`, `-Proto` and `-Host`, in place of what came, which
/// counts as far as the [listener trusts](crate::transport::Trust) the peer. `Host` is that of the upstream's URL, unless
/// [`keep_host`](Proxy::keep_host) says otherwise.
///
/// A WebSocket or another protocol that a request switches to is passed through once the server behind has agreed. Its other
/// interim answers, such as `103 Early Hints`, are passed on where the request has no body, and dropped otherwise.
///
/// # What is answered here
/// 502 if the server behind cannot be reached, breaks off before its answer's head or speaks no HTTP; 504 if it takes longer
/// than [`timeout`](Proxy::timeout); 508 if the request has come through this proxy before, as its `Via` says; 405 to
/// `TRACE`; 204 to `OPTIONS` with `Max-Forwards: 0`; 400 to a path with a segment `.` or `..`, which could lead out of where
/// it is to stay; 404 to one without the [prefix](Proxy::strip_prefix). What is wrong with a request's body has the status of
/// its [`BodyError`](crate::BodyError).
///
/// A server that answers with an error (4xx, 5xx) before it has the whole body gets no more of it. With another status it
/// goes on getting it while its answer is passed on.
///
/// # Examples
/// ```
/// use maniple_server::{Proxy, Router};
/// let router = Router::new()
///     .any("/shop/{*rest}", Proxy::to("http://127.0.0.1:9001").strip_prefix("/shop"))
///     .fallback(Proxy::to_any(["http://127.0.0.1:9002", "http://127.0.0.1:9003"]));
/// # let _ = router;
/// ```
#[derive(Debug)]
pub struct Proxy {
    upstreams: Vec<Upstream>,
    next: AtomicUsize,
    client: Client,
    prefix: String,
    keeps_host: bool,
    telling: Telling,
    name: String,
    timeout: Duration,
}

/// A server to pass on to.
#[derive(Debug)]
struct Upstream {
    /// Without a `/` at its end.
    url: String,
    /// Until then it is passed over, since it could not be reached.
    is_down: Mutex<Option<Instant>>,
}

/// How long one that could not be reached is passed over while there are others.
const PAUSE: Duration = Duration::from_secs(1);

const TIMEOUT: Duration = Duration::from_secs(60);

impl Proxy {
    /// Passes on to the server with that URL, whose path goes before those of requests.
    ///
    /// # Panics
    /// If it is not a URL that a [`Client`] can request, or has a query.
    #[track_caller]
    pub fn to(url: &str) -> Self {
        Self::to_any([url])
    }

    /// Passes on to one of several servers, to each in turn. One that cannot be reached is passed over for a second, and the
    /// request tried at the next.
    ///
    /// # Panics
    /// If one is not a URL that a [`Client`] can request, or has a query; or if there is none.
    #[track_caller]
    pub fn to_any<'u>(urls: impl IntoIterator<Item = &'u str>) -> Self {
        let mut upstreams = Vec::new();
        for url in urls {
            if let Err(error) = Url::parse(url) {
                panic!("{error}");
            }
            assert!(!url.contains(['?', '#']), "bad URL {url:?}: it has a query");
            upstreams.push(Upstream {
                url: url.trim_end_matches('/').to_owned(),
                is_down: Mutex::new(None),
            });
        }
        assert!(
            !upstreams.is_empty(),
            "a proxy needs a server to pass on to"
        );
        let own = || RandomState::new().hash_one(0);
        let random = maniple::sim::random().unwrap_or_else(own) as u32;
        Self {
            upstreams,
            next: AtomicUsize::new(0),
            client: Client::builder().timeout(TIMEOUT).build(),
            prefix: String::new(),
            keeps_host: false,
            telling: Telling::XForwarded,
            name: format!("maniple-{random:08x}"),
            timeout: TIMEOUT,
        }
    }

    /// Takes this from the front of paths; requests without it are answered 404. Default: nothing.
    pub fn strip_prefix(mut self, prefix: &str) -> Self {
        prefix.trim_end_matches('/').clone_into(&mut self.prefix);
        self
    }

    /// Whether the server behind gets the `Host` that the client asked for, or that of its own URL. Default: its own;
    /// `X-Forwarded-Host` has the client's.
    pub fn keep_host(mut self, keeps: bool) -> Self {
        self.keeps_host = keeps;
        self
    }

    /// Tells for whom it asks by `Forwarded` (RFC 7239). Default: by `X-Forwarded-For`, `-Proto` and `-Host`.
    pub fn by_forwarded(mut self) -> Self {
        self.telling = Telling::Forwarded;
        self
    }

    /// Its name in `Via`, by which it knows requests that come round again. Default: one made at random.
    ///
    /// # Panics
    /// If it is not a token: letters, digits, `-`, `.` or `_`.
    #[track_caller]
    pub fn name(mut self, name: &str) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_token = !name.is_empty() && name.bytes().all(is_plain);
        assert!(is_token, "not a name for Via: {name:?}");
        name.clone_into(&mut self.name);
        self
    }

    /// How long the server behind may take nothing or give nothing: for the head of its answer, and within bodies. Behind
    /// a request's body the head has up to twice that. Default: 60 s. Sets up a [`Client`] with this timeout; one of
    /// [your own](Proxy::client) set before is gone.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self.client = Client::builder().timeout(timeout).build();
        self
    }

    /// Asks by this client: with its connector, connections, and timeouts within bodies.
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    fn answer(&self, request: &mut Request) -> Result<Response, Response> {
        let method = request.method().clone();
        if method == Method::TRACE {
            let refused = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "TRACE is not passed on");
            let mut refused = refused.into_response();
            let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            refused.headers_mut().insert(ALLOW, allowed);
            return Err(refused);
        }
        let target = self.target(request)?;
        let came = request.headers();
        if fields::has_passed(came, &self.name) {
            return Err(told(
                StatusCode::LOOP_DETECTED,
                "the request comes round again",
            ));
        }
        let upgrade = match request.version() != Version::HTTP_10 && !has_body(request) {
            true => fields::asked_upgrade(came),
            false => None,
        };
        let host = came.get(HOST).cloned();
        let mut headers = fields::end_to_end(came);
        if !fields::may_go_on(&method, &mut headers) {
            return Ok(Response::new(StatusCode::NO_CONTENT));
        }
        fields::without_own(&mut headers);
        if trace_context().is_some() {
            // The client has its own part in it.
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
        }
        if let Some(host) = host.filter(|_| self.keeps_host) {
            headers.insert(HOST, host);
        }
        let asker = Asker {
            hops: request.hops(),
            scheme: request.scheme(),
            host: request.host(),
        };
        asker.tell(&mut headers, self.telling);
        let version = match request.version() {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2.0",
            _ => "1.1",
        };
        fields::append_via(&mut headers, version, &self.name);
        if let Some(protocols) = &upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocols.clone());
        }
        let call = Call {
            proxy: self,
            method,
            target,
            headers,
            asks_upgrade: upgrade.is_some(),
        };
        match has_body(request) {
            true => call.with_body(request),
            false => call.without_body(request),
        }
    }

    /// Path and query, as they are sent on behind an upstream's URL.
    fn target(&self, request: &Request) -> Result<String, Response> {
        let path = request.path();
        let rest = path.strip_prefix(&self.prefix);
        let rest = match rest {
            Some("") if !self.prefix.is_empty() => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => return Err(told(StatusCode::NOT_FOUND, "not found")),
        };
        if fields::has_dots(rest) {
            return Err(told(
                StatusCode::BAD_REQUEST,
                "a path with . or .. is not passed on",
            ));
        }
        Ok(match request.query() {
            Some(query) => format!("{rest}?{query}"),
            None => rest.to_owned(),
        })
    }

    /// Calls `ask` with one server after the other, until one can be reached.
    fn ask<T>(
        &self,
        mut ask: impl FnMut(&str) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let count = self.upstreams.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let order = (0..count).map(|turn| &self.upstreams[first.wrapping_add(turn) % count]);
        let (down, up): (Vec<_>, Vec<_>) = order.partition(|upstream| upstream.is_down());
        let mut failed = None;
        for upstream in up.into_iter().chain(down) {
            match ask(&upstream.url) {
                Err(error @ (ClientError::Connect { .. } | ClientError::Resolve { .. })) => {
                    *upstream.is_down.lock() = Some(coarse_now() + PAUSE);
                    failed = Some(error);
                }
                asked => {
                    *upstream.is_down.lock() = None;
                    return asked;
                }
            }
        }
        Err(failed.expect("there is a server to pass on to"))
    }
}

impl Upstream {
    fn is_down(&self) -> bool {
        self.is_down
            .lock()
            .is_some_and(|until| coarse_now() < until)
    }
}

impl Handler for Proxy {
    fn call(&self, request: &mut Request) -> Response {
        self.answer(request).unwrap_or_else(|instead| instead)
    }
}

impl Handler for Arc<Proxy> {
    fn call(&self, request: &mut Request) -> Response {
        Proxy::call(self, request)
    }
}

fn has_body(request: &Request) -> bool {
    let framing = request.exchange.head().framing;
    !matches!(framing, Framing::None | Framing::Length(0))
}

/// A request on its way.
struct Call<'p> {
    proxy: &'p Proxy,
    method: Method,
    target: String,
    headers: HeaderMap,
    asks_upgrade: bool,
}

impl Call<'_> {
    fn outgoing<'a>(
        &'a self,
        url: &'a str,
        streamed: Option<Option<u64>>,
    ) -> Result<Outgoing<'a>, ClientError> {
        static NOTHING: Bytes = Bytes::new();
        Ok(Outgoing {
            method: &self.method,
            url: Url::parse(url)?,
            headers: &self.headers,
            body: &NOTHING,
            streamed,
            expect: None,
            until: None,
            key: None,
        })
    }

    fn without_body(&self, request: &mut Request) -> Result<Response, Response> {
        let timeout = self.proxy.timeout;
        let asked = self.proxy.ask(|upstream| {
            let url = format!("{upstream}{}", self.target);
            let outgoing = self.outgoing(&url, None)?;
            let mut on_interim = |status, headers: HeaderMap| {
                if status != StatusCode::CONTINUE {
                    let mut headers = fields::end_to_end(&headers);
                    fields::without_own(&mut headers);
                    // Whether the client hears of it is no matter of the answer's.
                    let _ = request.inform(status, &headers);
                }
            };
            let ask = || self.proxy.client.ask(&outgoing, &mut on_interim);
            maniple::timeout(timeout, ask).unwrap_or_else(|_| {
                let host = outgoing.url.authority.to_owned();
                let phase = Phase::Answer;
                Err(ClientError::Timeout { host, phase })
            })
        });
        let (reply, connection) = asked.map_err(|error| failed(&error))?;
        if reply.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(reply, connection);
        }
        self.answer(reply, connection, None)
    }

    fn with_body(&self, request: &mut Request) -> Result<Response, Response> {
        request.exchange.do_not_decode();
        let length = match request.exchange.head().framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        let begun = self.proxy.ask(|upstream| {
            let url = format!("{upstream}{}", self.target);
            let outgoing = self.outgoing(&url, Some(length))?;
            self.proxy.client.begin(&outgoing)
        });
        let (mut connection, mut sender) = begun.map_err(|error| failed(&error))?;
        let timeout = self.proxy.timeout;
        let (fed, heard) = maniple::group(|group| {
            let feeder = group.spawn(|| relay::feed(request, &mut sender));
            let heard = connection.hear_in_time(&self.method, timeout);
            feeder.cancel();
            Ok::<_, std::convert::Infallible>((feeder.join(), heard))
        })
        .unwrap_or_else(|never| match never {});
        let fed = fed.unwrap_or(Fed::Stopped);
        if let Fed::Failed(error) = fed {
            return Err(error.into_response());
        }
        let reply = heard.map_err(|error| failed(&error))?;
        if reply.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(told(StatusCode::BAD_GATEWAY, "bad gateway"));
        }
        let is_error = reply.status.is_client_error() || reply.status.is_server_error();
        let rest = match fed {
            Fed::Stopped if !is_error => Some(sender),
            _ => None,
        };
        self.answer(reply, connection, rest)
    }

    /// The answer for the client; with what sends the rest of its request's body, if that still goes on.
    fn answer(
        &self,
        reply: Reply,
        connection: Box<Connection>,
        rest: Option<Sender>,
    ) -> Result<Response, Response> {
        let status = reply.status;
        let mut headers = fields::end_to_end(&reply.headers);
        fields::append_via(&mut headers, "1.1", &self.proxy.name);
        let length = match &reply.ending {
            Ending::Length(length) => Some(*length),
            Ending::Done if !is_bodiless(status, self.method == Method::HEAD) => Some(0),
            _ => None,
        };
        let is_empty = matches!(reply.ending, Ending::Done);
        let has_trailers = headers.contains_key(TRAILER) && length.is_none();
        if !is_empty {
            headers.remove(CONTENT_LENGTH);
        }
        let mut upstream = self.proxy.client.response(reply, connection);
        let body = match (rest, length) {
            (Some(sender), length) => Body::written(length, move |rest, out| {
                relay::both_ways(rest, sender, upstream, out)
            }),
            (None, _) if is_empty => Body::empty(),
            (None, Some(length)) => Body::from_sized_reader(upstream, length),
            (None, None) if has_trailers => {
                Body::from_fn(move |out| relay::pass_on(&mut upstream, out))
            }
            (None, None) => Body::from_reader(upstream),
        };
        let mut response = Response::new(status).with_body(body);
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// Hands both connections to a tunnel, as the server behind has agreed to.
    fn switch(&self, reply: Reply, connection: Box<Connection>) -> Result<Response, Response> {
        let bad = || told(StatusCode::BAD_GATEWAY, "bad gateway");
        let protocol = reply
            .headers
            .get(UPGRADE)
            .and_then(|name| name.to_str().ok());
        let protocol = protocol.filter(|_| self.asks_upgrade).ok_or_else(bad)?;
        let (server, ahead) = connection.into_parts().ok_or_else(bad)?;
        let mut response = Response::upgrade(protocol, move |client| {
            // Either side may end it in any way.
            let _ = relay::tunnel(client, &server, &ahead);
        });
        for (name, value) in fields::end_to_end(&reply.headers) {
            if let Some(name) = name {
                response.headers_mut().append(name, value);
            }
        }
        fields::append_via(response.headers_mut(), "1.1", &self.proxy.name);
        Ok(response)
    }
}

/// What the client is told of a failed call, and the log in more words.
fn failed(error: &ClientError) -> Response {
    static RATE: LogLimit = LogLimit::new(1);
    if let ClientError::Url { .. } = error {
        return told(StatusCode::BAD_REQUEST, "the target is no URI");
    }
    if !error.is_cancelled() {
        log_within!(RATE, warn, "proxy: {error}");
    }
    let status = error.status();
    let reason = status.canonical_reason().unwrap_or_default();
    told(status, reason.to_lowercase())
}

fn told(status: StatusCode, reason: impl Into<std::borrow::Cow<'static, str>>) -> Response {
    Problem::new(status, reason).into_response()
}
