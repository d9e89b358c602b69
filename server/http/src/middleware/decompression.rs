//! Bodies of requests that come in a coding, as handlers read them.

use http::{HeaderValue, StatusCode, header::ACCEPT_ENCODING};

use super::chain::{Middleware, Next};
use crate::{
    body::BodyError,
    coding::{NAMES, Travels, decoder::Decoder},
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
};

/// Has handlers read what is in a compressed body: one whose `Content-Encoding` is gzip or, with the features `brotli` and
/// `zstd`, br or zstd.
///
/// It is decompressed as it is read, in pieces of the reader's size, so that a small body that expands without end takes no
/// memory. What comes out is bounded by [`max_bytes`](Self::max_bytes), or else by the server's
/// [`max_body_bytes`](crate::server::Builder::max_body_bytes), which bounds what travels as well: beyond it the
/// answer is 413. A body that breaks off, or is not in that coding, is answered 400. Another coding, or more than one, is
/// answered 415, with the codings that are taken in `Accept-Encoding` (RFC 9110, 15.5.16).
///
/// The header fields stay as they came: `Content-Length` is that of what travels.
///
/// While a body is read, its decompressor holds some 40 KiB for gzip, and as much as the sender chose for br and zstd: up to
/// 16 MiB and 8 MiB. It gives way to the worker's other coroutines after each 64 KiB.
///
/// # Examples
/// ```
/// use maniple_server::{BodyError, Request, Router, middleware::Decompression};
///
/// let import = |request: &mut Request| -> Result<String, BodyError> {
///     Ok(format!("{} bytes", request.read_body()?.len()))
/// };
/// let router = Router::new()
///     .with(Decompression::new().max_bytes(64 * 1024 * 1024))
///     .post("/import", import);
/// # let _ = router;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Decompression {
    max_bytes: Option<u64>,
}

impl Decompression {
    /// With the server's limit to bodies for what comes out, too.
    pub fn new() -> Self {
        Self::default()
    }

    /// At most so many bytes may come out of a body. Default: as many as may come in.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }
}

impl Middleware for Decompression {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let coding = match Travels::of(request.header_values("content-encoding")) {
            Travels::Plain => None,
            Travels::In(coding) => Some(coding),
            Travels::Unknown => return refuse("the body's coding is not known here"),
            Travels::InSeveral => return refuse("the body has several codings"),
        };
        if let Some(coding) = coding {
            let limit = self.max_bytes.unwrap_or(request.exchange.most_of_body());
            match Decoder::new(coding, limit) {
                Ok(decoder) => request.exchange.decode_with(Box::new(decoder)),
                Err(error) => return BodyError::Io(error).into_response(),
            }
        }
        next.run(request)
    }
}

#[cold]
fn refuse(reason: &'static str) -> Response {
    let mut response = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason).into_response();
    let names = HeaderValue::from_static(NAMES);
    response.headers_mut().insert(ACCEPT_ENCODING, names);
    response
}

#[cfg(all(test, feature = "gzip", feature = "brotli", feature = "zstd"))]
mod tests {
    use super::*;
    use crate::{
        coding::{CODINGS, decoder::tests::coded},
        router::Router,
    };

    fn ask(coding: &str, body: Vec<u8>) -> Response {
        let read = |request: &mut Request| request.read_body().map(|body| body.len().to_string());
        let router = Router::new()
            .with(Decompression::new().max_bytes(100_000))
            .post("/", read);
        let request = Request::for_test("POST", "/").with_header("content-encoding", coding);
        router.answer(&mut request.with_body(body))
    }

    #[test]
    fn what_comes_out_is_bounded_whatever_travels() {
        for &coding in CODINGS {
            let fits = ask(coding.name(), coded(coding, &[7; 100_000]));
            assert_eq!(fits.into_text().unwrap(), "100000");
            let body = coded(coding, &[7; 100_001]);
            assert!(body.len() < 1000);
            let answer = ask(coding.name(), body);
            assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        }
    }

    #[test]
    fn codings_that_are_not_known_are_refused_with_those_that_are() {
        for unknown in ["compress", "gzip, br", "gzip, gzip", "gzip;q=1"] {
            let answer = ask(unknown, b"text".to_vec());
            assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
            assert_eq!(answer.header("accept-encoding"), Some("zstd, gzip, br"));
        }
        for plain in ["identity", "", "Identity, "] {
            assert_eq!(ask(plain, b"text".to_vec()).into_text().unwrap(), "4");
        }
        let garbled = ask("gzip", b"text".to_vec());
        assert_eq!(garbled.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            garbled.into_text().unwrap(),
            "malformed request body: it is not in its coding\n"
        );
    }
}
