//! Answers in a coding that their clients take: gzip, br or zstd.

use std::{
    fmt,
    io::{self, Read, Write},
    mem,
    sync::Arc,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_TYPE, ETAG, VARY,
    },
};

use super::chain::{Middleware, Next};
use crate::{
    coding::{CODINGS, Coding, preferred},
    request::Request,
    response::{Body, BodyKind, Response},
    writer::{BodyWriter, Flush, Sink},
};

/// Sends answers compressed to clients that say they take that (RFC 9110, 12.5.3): in gzip, and with the features `brotli`
/// and `zstd` in these, too.
///
/// The client's weights decide, and between equals zstd goes before gzip, and gzip before br. What is compressed: an answer of
/// a type that [gains by it](Self::of_types), of 1024 bytes or more (see [`min_length`](Self::min_length)) or of unknown
/// length, with neither a coding nor a range nor a digest of its own, and without `Cache-Control: no-transform`. `Vary` then
/// names `Accept-Encoding`, whatever this client takes; a strong `ETag` becomes a weak one, since it was that of other bytes.
///
/// A body of up to 64 KiB is compressed at once, and sent as it is if it would not get shorter. A longer one is compressed
/// while it is sent, in chunks, and gives way to the worker's other coroutines after each 64 KiB. Of a body that a function
/// writes, what is there leaves with each write, or as [`Flush::Bytes`] has it: many small writes compress badly, so
/// set that or wrap the writer in a [`BufWriter`](io::BufWriter). A reader's leaves whenever it gives less than it was
/// asked for. A body that breaks off breaks the connection off, as without this.
///
/// What a compressor holds while its answer is sent is some 0.4 MiB for gzip, 0.9 MiB for zstd and 1.3 MiB for br. Levels are
/// those that cost a server little: 6 for gzip, 2 for zstd, and 2 for br, which is then no better than gzip.
///
/// Do not compress an answer that has both a secret and something that a stranger can choose: its length tells the secret
/// (BREACH). Put this around the routes of public things.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, middleware::Compression};
///
/// let router = Router::new()
///     .with(Compression::new())
///     .get("/numbers", |_: &mut Request| (0..1000).map(|n| format!("{n}\n")).collect::<String>());
///
/// let mut request = Request::for_test("GET", "/numbers").with_header("accept-encoding", "gzip, deflate");
/// let answer = router.answer(&mut request);
/// assert_eq!(answer.header("content-encoding"), Some("gzip"));
/// assert_eq!(answer.header("vary"), Some("accept-encoding"));
/// assert!(answer.into_bytes().unwrap().len() < 2000);
/// ```
#[derive(Clone)]
pub struct Compression {
    min_length: u64,
    codings: Vec<Coding>,
    fits: Fits,
}

/// Whether bodies of a type gain by being compressed.
type Fits = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl Compression {
    /// With the codings that are built in.
    pub fn new() -> Self {
        Self {
            min_length: 1024,
            codings: CODINGS.to_vec(),
            fits: Arc::new(gains),
        }
    }

    /// What is shorter is sent as it is. Default: 1024 bytes, about what travels in one packet anyway.
    pub fn min_length(mut self, bytes: u64) -> Self {
        self.min_length = bytes;
        self
    }

    /// Of which types bodies are compressed: `fits` is given the media type in small letters, without parameters.
    ///
    /// Default: text, JSON, XML, JavaScript, WebAssembly, SVG, and fonts and pictures that are not compressed by themselves;
    /// not `text/event-stream`, whose events are short and should not wait.
    pub fn of_types(mut self, fits: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.fits = Arc::new(fits);
        self
    }

    /// Whether, and how long, the body is that would be compressed: `None` for one that is sent as it is to everybody.
    fn suits(&self, response: &Response, of_head: bool) -> Option<Length> {
        let status = response.status;
        let has_none = [
            StatusCode::NO_CONTENT,
            StatusCode::RESET_CONTENT,
            StatusCode::NOT_MODIFIED,
            StatusCode::PARTIAL_CONTENT,
        ];
        if has_none.contains(&status) || response.is_takeover() {
            return None;
        }
        let headers = response.map();
        if headers.is_some_and(is_settled) {
            return None;
        }
        let own = response.content_type.map(|own| own.value);
        let kind = own.or_else(|| headers?.get(CONTENT_TYPE)?.to_str().ok())?;
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !(self.fits)(&essence.to_ascii_lowercase()) {
            return None;
        }
        let told = || headers?.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        let length = match &response.body.kind {
            BodyKind::Reader { length, .. } | BodyKind::Writer { length, .. } => *length,
            _ => match response.body.bytes() {
                // What is not made for a HEAD may have a length all the same.
                Some([]) if of_head => told(),
                bytes => bytes.map(|bytes| bytes.len() as u64),
            },
        };
        match length {
            Some(length) if length < self.min_length => None,
            length => Some(Length(length)),
        }
    }
}

impl Compression {
    /// A 304 has the fields of the 200 that it stands for (RFC 9110, 15.4.5). What that would have been is not known, and a
    /// weak tag is right of either.
    fn unmodified(&self, request: &Request, mut response: Response) -> Response {
        let headers = response.headers_mut();
        vary(headers);
        let accepted = request.header_values("accept-encoding");
        if preferred(accepted, &self.codings).is_some()
            && let Some(weak) = headers.get(ETAG).and_then(weakened)
        {
            headers.insert(ETAG, weak);
        }
        response
    }
}

/// That of a body, if it is known.
struct Length(Option<u64>);

impl Default for Compression {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compression")
            .field("min_length", &self.min_length)
            .field("codings", &self.codings)
            .finish_non_exhaustive()
    }
}

/// Whether these bytes are to stay as they are: they are coded, a part, or somebody has said something of them.
fn is_settled(headers: &HeaderMap) -> bool {
    const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];
    headers.contains_key(CONTENT_ENCODING)
        || headers.contains_key(CONTENT_RANGE)
        || DIGESTS.iter().any(|&name| headers.contains_key(name))
        || headers
            .get_all(CACHE_CONTROL)
            .iter()
            .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

fn gains(essence: &str) -> bool {
    const OTHERS: [&str; 14] = [
        "application/javascript",
        "application/json",
        "application/manifest+json",
        "application/wasm",
        "application/x-javascript",
        "application/x-ndjson",
        "application/xml",
        "application/vnd.ms-fontobject",
        "font/collection",
        "font/otf",
        "font/ttf",
        "image/bmp",
        "image/svg+xml",
        "image/x-icon",
    ];
    match essence {
        "text/event-stream" => false,
        _ => {
            essence.starts_with("text/")
                || OTHERS.contains(&essence)
                || essence.ends_with("+json")
                || essence.ends_with("+xml")
        }
    }
}

impl Middleware for Compression {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let mut response = next.run(request);
        let of_head = request.method() == Method::HEAD;
        if response.status == StatusCode::NOT_MODIFIED {
            return self.unmodified(request, response);
        }
        let Some(Length(length)) = self.suits(&response, of_head) else {
            return response;
        };
        vary(response.headers_mut());
        let Some(coding) = preferred(request.header_values("accept-encoding"), &self.codings)
        else {
            return response;
        };
        let is_at_hand = matches!(response.body.bytes(), Some(bytes) if !bytes.is_empty() && bytes.len() <= PIECE);
        let body = match of_head {
            // Whether it gains is found out as for a GET.
            true if is_at_hand => {
                compressed(&mut response.body, coding, length).map(|_| Body::empty())
            }
            // Its length is known only to who compresses it, so that it is left out.
            true => Some(Body::empty()),
            false => compressed(&mut response.body, coding, length),
        };
        let Some(body) = body else { return response };
        response.body = body;
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        headers.remove(CONTENT_LENGTH);
        headers.remove(ACCEPT_RANGES);
        if let Some(weak) = headers.get(ETAG).and_then(weakened) {
            headers.insert(ETAG, weak);
        }
        response
    }
}

/// Adds that answers differ by what their clients take.
fn vary(headers: &mut HeaderMap) {
    let mut named = headers
        .get_all(VARY)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let is_named = named.any(|item| {
        let item = item.trim_ascii();
        item == b"*" || item.eq_ignore_ascii_case(b"accept-encoding")
    });
    if !is_named {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

fn weakened(tag: &HeaderValue) -> Option<HeaderValue> {
    let strong = tag.as_bytes();
    match strong.starts_with(b"W/") {
        true => None,
        false => HeaderValue::from_bytes(&[b"W/", strong].concat()).ok(),
    }
}

/// Bodies up to this are compressed at once, and longer ones in pieces of this.
const PIECE: usize = 64 * 1024;

/// The body in that coding; `None`, with the body as it was, if it gains nothing.
fn compressed(body: &mut Body, coding: Coding, length: Option<u64>) -> Option<Body> {
    if let Some(bytes) = body.bytes()
        && bytes.len() <= PIECE
    {
        let coded = at_once(bytes, coding).ok()?;
        return (coded.len() < bytes.len()).then(|| coded.into());
    }
    Some(match mem::replace(&mut body.kind, BodyKind::Static(b"")) {
        BodyKind::Reader { reader, .. } => Body::from_fn(move |out| {
            let mut out = Coded::new(coding, out, length)?;
            copy(reader, &mut out)?;
            out.finish()
        }),
        BodyKind::Writer { write, .. } => Body::duplex(move |asked, out| {
            let mut coded = Coded::new(coding, out, length)?;
            write(asked, &mut BodyWriter::new(&mut coded))?;
            coded.finish()
        }),
        kind => {
            let bytes = Body { kind };
            Body::from_fn(move |out| {
                out.set_flush(Flush::Bytes(usize::MAX));
                let mut out = Coded::new(coding, out, length)?;
                for piece in bytes.bytes().unwrap_or_default().chunks(PIECE) {
                    out.take(piece)?;
                    maniple::yield_now();
                }
                out.finish()
            })
        }
    })
}

fn at_once(bytes: &[u8], coding: Coding) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(coding)?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Hands on what a reader gives. What it gives less than was asked for leaves before it is asked again: it may wait then.
fn copy(mut reader: impl Read, out: &mut Coded<'_, '_>) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                out.take(&buffer[..count])?;
                if count < buffer.len() {
                    out.flush()?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A way out that compresses.
struct Coded<'a, 'b> {
    encoder: Encoder,
    out: &'a mut BodyWriter<'b>,
    policy: Flush,
    /// What the encoder has been given since it was flushed.
    held: usize,
    /// What is still to come, if that was told.
    left: Option<u64>,
    /// What was taken since others had their turn.
    taken: usize,
}

impl<'a, 'b> Coded<'a, 'b> {
    fn new(coding: Coding, out: &'a mut BodyWriter<'b>, length: Option<u64>) -> io::Result<Self> {
        Ok(Self {
            encoder: Encoder::new(coding)?,
            out,
            policy: Flush::default(),
            held: 0,
            left: length,
            taken: 0,
        })
    }

    /// Compresses these, and hands on what has come of it.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(left) = self.left {
            let after = left.checked_sub(bytes.len() as u64);
            self.left = Some(after.ok_or_else(|| {
                let text = "the body is longer than was told";
                io::Error::new(io::ErrorKind::InvalidInput, text)
            })?);
        }
        for piece in bytes.chunks(PIECE) {
            self.encoder.write_all(piece)?;
            self.held = self.held.saturating_add(piece.len());
            self.taken += piece.len();
            if self.taken >= PIECE {
                self.taken = 0;
                maniple::yield_now();
            }
            self.hand_on()?;
        }
        Ok(())
    }

    fn hand_on(&mut self) -> io::Result<()> {
        let ready = self.encoder.ready();
        match ready.is_empty() {
            true => Ok(()),
            false => {
                let done = self.out.write_all(ready);
                ready.clear();
                done
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        if self.left.is_some_and(|left| left > 0) {
            let text = "the body is shorter than was told";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.out.write_all(&self.encoder.finish()?)
    }
}

impl Sink for Coded<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.take(bytes)?;
        match self.policy {
            Flush::Bytes(bytes) if self.held < bytes => Ok(()),
            // Who writes next, and when, is not known here.
            _ => self.flush(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if mem::take(&mut self.held) > 0 {
            self.encoder.flush()?;
            self.hand_on()?;
        }
        self.out.flush()
    }

    fn set_policy(&mut self, policy: Flush) {
        self.policy = policy;
        self.out.set_flush(policy);
    }

    fn trailer(&mut self, name: HeaderName, value: HeaderValue) -> io::Result<()> {
        self.out.trailer(name, value)
    }
}

/// A compressor whose output lies in memory: it never waits, nor does its destructor.
enum Encoder {
    #[cfg(feature = "zstd")]
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    #[cfg(feature = "brotli")]
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    #[cfg(feature = "gzip")]
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

/// What of the past they look at, as a power of 2: more costs memory for each answer that is sent. RFC 9659 has 8 MiB at most.
#[cfg(any(feature = "brotli", feature = "zstd"))]
const WINDOW: u32 = 18;

impl Encoder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            #[cfg(feature = "zstd")]
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 2)?;
                encoder.window_log(WINDOW)?;
                Self::Zstd(encoder)
            }
            #[cfg(feature = "brotli")]
            Coding::Brotli => {
                let params = brotli::enc::BrotliEncoderParams {
                    quality: 2,
                    lgwin: WINDOW as i32,
                    lgblock: 16,
                    ..Default::default()
                };
                let encoder = brotli::CompressorWriter::with_params(Vec::new(), 4096, &params);
                Self::Brotli(Box::new(encoder))
            }
            #[cfg(feature = "gzip")]
            Coding::Gzip => {
                let level = flate2::Compression::new(6);
                Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), level))
            }
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => encoder.write_all(bytes),
            #[cfg(feature = "brotli")]
            Self::Brotli(encoder) => encoder.write_all(bytes),
            #[cfg(feature = "gzip")]
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    /// Makes all that was written decodable.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => encoder.flush(),
            #[cfg(feature = "brotli")]
            Self::Brotli(encoder) => encoder.flush(),
            #[cfg(feature = "gzip")]
            Self::Gzip(encoder) => encoder.flush(),
        }
    }

    /// What has come out and was not taken.
    fn ready(&mut self) -> &mut Vec<u8> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => encoder.get_mut(),
            #[cfg(feature = "brotli")]
            Self::Brotli(encoder) => encoder.get_mut(),
            #[cfg(feature = "gzip")]
            Self::Gzip(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => encoder.finish(),
            #[cfg(feature = "brotli")]
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            #[cfg(feature = "gzip")]
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

#[cfg(all(test, feature = "gzip", feature = "brotli", feature = "zstd"))]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::router::Router;

    fn text() -> String {
        (0..20_000).map(|number| format!("{number}\n")).collect()
    }

    fn decoded(coding: &str, body: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        match coding {
            "gzip" => flate2::read::MultiGzDecoder::new(body).read_to_string(&mut text)?,
            "br" => brotli::Decompressor::new(body, 4096).read_to_string(&mut text)?,
            _ => zstd::stream::read::Decoder::new(body)?.read_to_string(&mut text)?,
        };
        Ok(text)
    }

    fn ask(
        method: &str,
        accept: &str,
        make: impl Fn() -> Response + Send + Sync + 'static,
    ) -> Response {
        let router = Router::new()
            .with(Compression::new())
            .any("/", move |_: &mut Request| make());
        router.answer(&mut Request::for_test(method, "/").with_header("accept-encoding", accept))
    }

    #[test]
    fn bodies_of_each_kind_come_out_as_they_went_in() {
        let kinds: [fn() -> Body; 6] = [
            || text().into(),
            || "0\n".repeat(5000).into(),
            || Bytes::from(text()).into(),
            || Body::from_reader(io::Cursor::new(text())),
            || Body::from_sized_reader(io::Cursor::new(text()), text().len() as u64),
            || {
                Body::from_fn(|out| {
                    let lines = text();
                    lines.lines().try_for_each(|line| writeln!(out, "{line}"))
                })
            },
        ];
        for kind in kinds {
            let plain = Response::text(kind()).into_text().unwrap();
            for coding in ["gzip", "br", "zstd"] {
                let answer = ask("GET", coding, move || Response::text(kind()));
                assert_eq!(answer.header("content-encoding"), Some(coding));
                assert_eq!(answer.header("vary"), Some("accept-encoding"));
                let body = answer.into_bytes().unwrap();
                assert!(decoded(coding, &body).unwrap() == plain, "{coding}");
            }
        }
    }

    #[test]
    fn what_gains_nothing_or_is_settled_stays_as_it_is() {
        let with = |name: &'static str, value: &'static str| {
            move || Response::text(text()).with_header(name, value)
        };
        let answers = [
            ask("GET", "gzip", || Response::text("short")),
            ask("GET", "gzip", || {
                Response::text(text()).with_header("content-type", "image/png")
            }),
            ask("GET", "gzip", || {
                Response::text(text()).with_header("content-type", "text/event-stream")
            }),
            ask("GET", "gzip", with("content-encoding", "br")),
            ask("GET", "gzip", with("content-range", "bytes 0-9/10")),
            ask("GET", "gzip", with("cache-control", "public, No-Transform")),
            ask("GET", "gzip", with("repr-digest", "sha-256=:AA==:")),
            ask("GET", "gzip", || {
                Response::new(StatusCode::OK).with_body(text())
            }),
            ask("GET", "gzip", || {
                Response::text(text()).with_status(StatusCode::PARTIAL_CONTENT)
            }),
        ];
        for (at, answer) in answers.iter().enumerate() {
            assert_eq!(answer.header("vary"), None, "{at}");
            assert_ne!(answer.header("content-encoding"), Some("gzip"), "{at}");
        }
        let refused = ask("GET", "gzip;q=0", || Response::text(text()));
        assert_eq!(
            refused.header("vary"),
            Some("accept-encoding"),
            "others take it"
        );
        assert_eq!(refused.header("content-encoding"), None);
        let varies = ask("GET", "gzip", with("vary", "Origin, Accept-Encoding"));
        assert_eq!(varies.header("vary"), Some("Origin, Accept-Encoding"));
    }

    #[test]
    fn tags_become_weak_and_ranges_are_no_longer_offered() {
        for (tag, told) in [("\"v1\"", "W/\"v1\""), ("W/\"v1\"", "W/\"v1\"")] {
            let make = move || {
                Response::text(text())
                    .with_header("etag", tag)
                    .with_header("accept-ranges", "bytes")
                    .with_header("content-length", "7")
            };
            let answer = ask("GET", "gzip", make);
            assert_eq!(answer.header("etag"), Some(told));
            assert_eq!(answer.header("accept-ranges"), None);
            assert_eq!(answer.header("content-length"), None);
        }
    }

    #[test]
    fn a_head_has_the_fields_of_a_get() {
        let told = || {
            let length = text().len().to_string();
            Response::text("").with_header("content-length", &length)
        };
        for make in [told as fn() -> Response, || Response::text(text())] {
            let answer = ask("HEAD", "gzip", make);
            assert_eq!(answer.header("content-encoding"), Some("gzip"));
            assert_eq!(answer.header("content-length"), None);
            assert_eq!(answer.into_bytes().unwrap().len(), 0);
        }
        let short = ask("HEAD", "gzip", || {
            Response::text("").with_header("content-length", "9")
        });
        assert_eq!(short.header("content-encoding"), None);
        assert_eq!(short.header("content-length"), Some("9"));
    }

    #[test]
    fn a_head_of_what_gains_nothing_has_the_fields_of_its_get() {
        let noise = || {
            let mut state = 1_u32;
            let bytes = (0..2048).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
            Response::text(bytes.collect::<Vec<u8>>()).with_header("etag", "\"a\"")
        };
        for method in ["GET", "HEAD"] {
            let answer = ask(method, "gzip", noise);
            assert_eq!(answer.header("content-encoding"), None, "{method}");
            assert_eq!(answer.header("etag"), Some("\"a\""), "{method}");
        }
    }

    #[test]
    fn a_304_has_the_fields_of_its_200() {
        let unmodified = || Response::new(StatusCode::NOT_MODIFIED).with_header("etag", "\"a\"");
        let answer = ask("GET", "gzip", unmodified);
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        assert_eq!(answer.header("etag"), Some("W/\"a\""));
        assert_eq!(ask("GET", "", unmodified).header("etag"), Some("\"a\""));
    }

    #[test]
    fn a_body_that_breaks_off_or_lies_about_its_length_is_an_error() {
        let broken = || {
            Response::text(Body::from_fn(|out| {
                out.write_all(b"some")?;
                Err(io::Error::other("no more"))
            }))
        };
        let short = || Response::text(Body::from_sized_reader(io::Cursor::new("four"), 5000));
        let long = || {
            Response::text(Body::from_sized_fn(2000, |out| {
                out.write_all(&[b'x'; 2001])
            }))
        };
        for make in [broken as fn() -> Response, short, long] {
            assert!(ask("GET", "gzip", make).into_bytes().is_err());
        }
    }

    /// Keeps what was there at each flush.
    struct Flushed(Vec<u8>, Vec<usize>);

    impl Sink for Flushed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.1.push(self.0.len());
            Ok(())
        }

        fn set_policy(&mut self, _: Flush) {}

        fn trailer(&mut self, _: HeaderName, _: HeaderValue) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_written_can_be_read_at_each_flush() {
        for &coding in CODINGS {
            let mut flushed = Flushed(Vec::new(), Vec::new());
            let mut out = BodyWriter::new(&mut flushed);
            let mut coded = Coded::new(coding, &mut out, None).unwrap();
            Sink::write(&mut coded, b"one, ").unwrap();
            coded.set_policy(Flush::Bytes(9));
            Sink::write(&mut coded, b"two, ").unwrap();
            Sink::write(&mut coded, b"three").unwrap();
            coded.finish().unwrap();
            let [first, second] = flushed.1[..] else {
                panic!("{coding:?}: {:?}", flushed.1);
            };
            let until = |end: usize| {
                let mut text = Vec::new();
                let mut bytes = &flushed.0[..end];
                // The end is missing, which is an error behind what is there.
                let _ = match coding {
                    Coding::Gzip => flate2::read::GzDecoder::new(&mut bytes).read_to_end(&mut text),
                    Coding::Brotli => {
                        brotli::Decompressor::new(&mut bytes, 64).read_to_end(&mut text)
                    }
                    Coding::Zstd => zstd::stream::read::Decoder::new(&mut bytes)
                        .unwrap()
                        .read_to_end(&mut text),
                };
                String::from_utf8(text).unwrap()
            };
            assert_eq!(until(first), "one, ", "{coding:?}");
            assert_eq!(until(second), "one, two, three", "{coding:?}");
            assert_eq!(
                decoded(coding.name(), &flushed.0).unwrap(),
                "one, two, three"
            );
        }
    }
}
