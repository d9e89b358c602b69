//! Entity tags for answers that are made, and 304 for who has them.

use std::hash::{DefaultHasher, Hasher};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
        CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    },
};

use super::chain::{Middleware, Next};
use crate::{
    http1::condition::Verdict,
    request::Request,
    response::{Body, Response},
    validators::{Validators, failed},
};

/// Gives answers with status 200 to `GET` and `HEAD` an entity tag, and answers 304 to a client that has that version, or 412
/// to one that wants another.
///
/// The tag is made of the body's bytes: the handler runs all the same, and what is saved is the way to the client. A handler
/// that sets `ETag` or `Last-Modified` keeps what it has set. A body that is made while it is sent, an empty one, and
/// one with `Cache-Control: no-store`, get no tag; if they bring a tag or a date, then conditions are held to these.
/// Handlers that change something ask [`Validators::check`](crate::Validators::check) themselves: behind them
/// it would be too late.
///
/// Tags are weak by default, since what stands further out, such as compression in a proxy, may change the bytes.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, middleware::ETag};
/// let router = Router::new().with(ETag::new()).get("/", |_: &mut Request| "hello");
/// let first = router.answer(&mut Request::for_test("GET", "/"));
/// let tag = first.header("etag").unwrap();
/// let again = Request::for_test("GET", "/").with_header("if-none-match", tag);
/// assert_eq!(router.answer(&mut { again }).status(), 304);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ETag {
    strong: bool,
}

impl ETag {
    /// With weak tags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes strong tags: for services whose answers nothing further out changes.
    pub fn strong(mut self) -> Self {
        self.strong = true;
        self
    }

    fn tag(&self, body: &[u8]) -> HeaderValue {
        let mut hasher = DefaultHasher::new();
        hasher.write(body);
        let weak = if self.strong { "" } else { "W/" };
        let tag = format!("{weak}\"{:x}-{:016x}\"", body.len(), hasher.finish());
        HeaderValue::from_str(&tag).expect("a tag has digits and quotes")
    }
}

impl Middleware for ETag {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let mut response = next.run(request);
        let reads = [Method::GET, Method::HEAD].contains(request.method());
        if !reads || response.status() != StatusCode::OK {
            return response;
        }
        let has_own = response
            .map()
            .is_some_and(|headers| headers.contains_key(ETAG));
        if !has_own
            && !is_never_stored(response.map())
            && let Some(body @ [_, ..]) = response.body.bytes()
        {
            let tag = self.tag(body);
            response.headers_mut().insert(ETAG, tag);
        }
        let Some(headers) = response.map() else {
            return response;
        };
        let version = Validators::of_answer(headers);
        if version.tag.is_none() && version.modified.is_none() {
            return response;
        }
        match version.judge(request) {
            Verdict::Proceed => response,
            Verdict::Failed => failed(),
            Verdict::NotModified => not_modified(response),
        }
    }
}

fn is_never_stored(headers: Option<&HeaderMap>) -> bool {
    let values = headers.map(|headers| headers.get_all(CACHE_CONTROL));
    let mut values = values.into_iter().flatten();
    values.any(|value| {
        let mut options = value.as_bytes().split(|&byte| byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"no-store"))
    })
}

/// What is said of the body goes with it (RFC 9110, 15.4.5).
fn not_modified(response: Response) -> Response {
    const OF_THE_BODY: [HeaderName; 7] = [
        ACCEPT_RANGES,
        CONTENT_DISPOSITION,
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
    ];
    let mut response = response
        .with_status(StatusCode::NOT_MODIFIED)
        .with_body(Body::empty());
    let headers = response.headers_mut();
    for name in OF_THE_BODY {
        headers.remove(name);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Router;

    fn ask(make: fn(&mut Request) -> Response, method: &str, field: (&str, &str)) -> Response {
        let router = Router::new().with(ETag::new()).any("/", make);
        router.answer(&mut Request::for_test(method, "/").with_header(field.0, field.1))
    }

    #[test]
    fn a_tag_is_of_the_bytes() {
        let of = |text: &'static str| {
            let router = Router::new()
                .with(ETag::new().strong())
                .get("/", move |_: &mut Request| text);
            let answer = router.answer(&mut Request::for_test("GET", "/"));
            answer.header("etag").map(str::to_owned)
        };
        assert_eq!(of("one"), of("one"));
        assert_ne!(of("one"), of("two"));
        assert!(of("one").is_some_and(|tag| tag.starts_with("\"3-")));
        assert_eq!(of(""), None);
    }

    #[test]
    fn who_has_it_gets_what_is_not_of_the_body() {
        let make = |_: &mut Request| {
            Response::text("hello")
                .with_header("etag", "\"mine\"")
                .with_header("vary", "accept")
                .with_header("cache-control", "max-age=5")
                .with_header("content-language", "en")
        };
        for method in ["GET", "HEAD"] {
            let answer = ask(make, method, ("if-none-match", "\"other\", W/\"mine\""));
            assert_eq!(answer.status(), 304);
            for (name, expected) in [
                ("etag", Some("\"mine\"")),
                ("vary", Some("accept")),
                ("cache-control", Some("max-age=5")),
                ("content-language", None),
                ("content-type", None),
            ] {
                assert_eq!(answer.header(name), expected, "{name}");
            }
            assert_eq!(answer.into_text().unwrap(), "");
        }
        let answer = ask(make, "GET", ("if-match", "\"other\""));
        assert_eq!(answer.status(), 412);
        let answer = ask(make, "GET", ("if-none-match", "\"other\""));
        assert_eq!(answer.into_text().unwrap(), "hello");
    }

    #[test]
    fn what_it_must_not_touch_it_leaves_alone() {
        let untouched = |make: fn(&mut Request) -> Response, method: &str| {
            let answer = ask(make, method, ("if-none-match", "*"));
            answer.header("etag").is_none() && answer.status() != 304
        };
        assert!(untouched(|_| Response::text("made"), "POST"));
        let missing = |_: &mut Request| Response::text("none").with_status(StatusCode::NOT_FOUND);
        assert!(untouched(missing, "GET"));
        let streamed = |_: &mut Request| Response::text(Body::from_reader(&b"streamed"[..]));
        let answer = ask(streamed, "GET", ("if-none-match", "\"x\""));
        assert_eq!(answer.header("etag"), None);
        assert_eq!(answer.into_text().unwrap(), "streamed");
        let secret = |_: &mut Request| {
            Response::text("secret").with_header("cache-control", "private, no-store")
        };
        assert_eq!(ask(secret, "GET", ("x", "y")).header("etag"), None);
    }

    #[test]
    fn a_streamed_body_that_brings_a_tag_is_held_to_it() {
        let make = |_: &mut Request| {
            let body = Body::from_fn(|_| panic!("it is not sent"));
            Response::text(body).with_header("etag", "\"mine\"")
        };
        assert_eq!(
            ask(make, "GET", ("if-none-match", "\"mine\"")).status(),
            304
        );
    }
}
