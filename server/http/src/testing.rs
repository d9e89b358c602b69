//! Requests without a connection, to call a handler or a router with.

use std::{sync::Arc, time::Duration};

use crate::{
    body::BodyLimits,
    http1::head::{self, Limits, MOST_FIELDS, MOST_TARGET_BYTES},
    request::Request,
    server::{buffers::Scratch, exchange::Exchange, state::Connection},
    transport::{Peer, Transport, memory},
};

impl Request {
    /// A request for a test, as if it had just come: call a handler with it, or
    /// [`Router::answer`](crate::Router::answer).
    ///
    /// It goes through the parser, so it is one that a client could have sent. It has a `Host`, and no other header
    /// field and no body unless they are set. There is no limit to its body but memory. Whole servers are tested over
    /// [`transport::memory`](crate::transport::memory).
    ///
    /// # Panics
    /// If the server would not let it through to a handler: for instance a target with a space in it.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{BodyError, Request, StatusCode};
    ///
    /// fn rename(request: &mut Request) -> Result<String, BodyError> {
    ///     let name = String::from_utf8_lossy(&request.read_body()?).into_owned();
    ///     Ok(format!("{} is {name} now", request.param("id").unwrap_or("?")))
    /// }
    ///
    /// let mut request = Request::for_test("PUT", "/users/7")
    ///     .with_param("id", "7")
    ///     .with_header("content-type", "text/plain")
    ///     .with_body("Ann");
    /// assert_eq!(rename(&mut request).unwrap(), "7 is Ann now");
    /// ```
    #[track_caller]
    pub fn for_test(method: &str, target: &str) -> Self {
        let parts = Parts {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: vec![("host".to_owned(), b"test".to_vec())],
            body: Vec::new(),
        };
        parts.into_request()
    }

    /// The same with a header field, in the place of those of that name: for requests made by [`Request::for_test`].
    /// `Content-Length` is set by [`Request::with_body`].
    ///
    /// # Panics
    /// If it was not made by [`Request::for_test`].
    #[must_use]
    #[track_caller]
    pub fn with_header(self, name: &str, value: &str) -> Self {
        self.made_anew(|parts| parts.set(name, value.as_bytes()))
    }

    /// The same with a body and its length: for requests made by [`Request::for_test`].
    ///
    /// # Panics
    /// If it was not made by [`Request::for_test`].
    #[must_use]
    #[track_caller]
    pub fn with_body(self, body: impl Into<Vec<u8>>) -> Self {
        self.made_anew(|parts| {
            parts.body = body.into();
            let length = parts.body.len().to_string();
            parts.set("content-length", length.as_bytes());
        })
    }

    /// The same with a path parameter, decoded: for requests made by [`Request::for_test`] that do not go through a
    /// router, which would set it.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: &str) -> Self {
        self.exchange.scratch_mut().params.set(name, value);
        self
    }

    /// From other parts, with the same parameters and extensions.
    #[track_caller]
    fn made_anew(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        let mut parts = Parts::of(&self);
        change(&mut parts);
        let before = self.exchange.scratch_mut();
        let params = std::mem::take(&mut before.params).without_parts_of_heads();
        let extensions = std::mem::take(before.extensions_mut());
        let mut made = parts.into_request();
        let after = made.exchange.scratch_mut();
        after.params = params;
        *after.extensions_mut() = extensions;
        made
    }
}

/// What a request is made of.
struct Parts {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Parts {
    fn of(request: &Request) -> Self {
        let scratch = request.exchange.scratch();
        let bytes = &scratch.input.bytes[scratch.input.start..];
        let text = |range: &std::ops::Range<usize>| {
            String::from_utf8_lossy(&bytes[range.clone()]).into_owned()
        };
        let fields = scratch.fields.iter();
        let fields = fields.map(|field| (text(&field.name), bytes[field.value.clone()].to_vec()));
        Self {
            method: request.method().to_string(),
            target: text(&scratch.head.target),
            fields: fields.collect(),
            body: scratch.input.unused().to_vec(),
        }
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.fields
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.fields.push((name.to_owned(), value.to_vec()));
    }

    #[track_caller]
    fn into_request(self) -> Request {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.fields {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        let head_bytes = bytes.len();
        bytes.extend_from_slice(&self.body);
        match read(bytes, head_bytes) {
            Ok(request) => request,
            Err(reason) => panic!("{} {} is no request: {reason}", self.method, self.target),
        }
    }
}

/// Takes the bytes in as a connection does.
fn read(bytes: Vec<u8>, head_bytes: usize) -> Result<Request, &'static str> {
    // Its other end is gone at once: whatever is read beyond the bytes finds the end.
    let (stream, _) = memory::pair();
    let connection = Arc::new(Connection::new(Transport::Memory(stream), 0));
    let body_limits = BodyLimits {
        length: u64::MAX,
        stall: Duration::from_secs(60),
        interim: false,
        slowest: 0,
        overhead: usize::from(u16::MAX),
    };
    let limits = Limits {
        head_bytes: usize::from(u16::MAX),
        line_bytes: MOST_TARGET_BYTES,
        fields: MOST_FIELDS,
        values: usize::MAX,
    };
    let mut exchange = Exchange::new(connection, Peer::Memory, body_limits);
    let mut scratch = Scratch::make();
    scratch.input.filled = bytes.len();
    scratch.input.bytes = bytes;
    let Scratch {
        input,
        fields,
        head,
        ..
    } = &mut *scratch;
    match head::parse(&input.bytes, &limits, fields, head) {
        Ok(true) if head.length == head_bytes => {}
        Ok(_) => return Err("its head ends elsewhere"),
        Err(reject) => return Err(reject.reason),
    }
    exchange.lend(scratch);
    exchange.begin();
    Ok(Request { exchange })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_request_for_a_test_is_as_it_was_asked_for() {
        let mut request = Request::for_test("POST", "/a%20b?x=1")
            .with_header("Accept", "text/css")
            .with_body("one")
            .with_body("other")
            .with_param("id", "7 or so")
            .with_header("accept", "text/html");
        assert_eq!(request.method(), "POST");
        assert_eq!((request.path(), request.query()), ("/a%20b", Some("x=1")));
        assert_eq!(request.header_str("accept"), Some("text/html"));
        assert_eq!(request.headers()["content-length"], "5");
        assert_eq!(request.headers().len(), 3);
        assert_eq!(request.param("id"), Some("7 or so"));
        assert_eq!(request.peer(), &Peer::Memory);
        assert_eq!(request.peer_addr(), None);
        let mut body = String::new();
        request.body().read_to_string(&mut body).unwrap();
        assert_eq!(body, "other");
    }

    #[test]
    fn a_body_that_is_cut_ends_as_on_the_wire() {
        let mut request = Request::for_test("POST", "/").with_header("content-length", "5");
        let error = request.read_body().unwrap_err();
        assert!(matches!(error, crate::BodyError::Disconnected), "{error}");
    }

    #[test]
    fn chunks_are_read_as_such() {
        let mut request = Request::for_test("POST", "/").with_body("3\r\nabc\r\n0\r\n\r\n");
        let mut parts = Parts::of(&request);
        parts.fields.retain(|(name, _)| name != "content-length");
        parts.set("transfer-encoding", b"chunked");
        request = parts.into_request();
        assert_eq!(request.read_body().unwrap(), "abc");
    }

    #[test]
    fn what_no_client_could_send_is_refused() {
        for (method, target) in [
            ("GET", "/a b"),
            ("GE T", "/"),
            ("GET", "a"),
            ("GET", "/\r\n\r\n"),
        ] {
            let made = std::panic::catch_unwind(|| Request::for_test(method, target));
            assert!(made.is_err(), "{method} {target:?}");
        }
    }
}
