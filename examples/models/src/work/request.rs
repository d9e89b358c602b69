//! What a client asks, out of the bytes that it sent.

use std::time::Duration;

use super::{Answer, Backends, Unavailable, backend::Stream, burn};

/// The longest head of a request, in bytes.
pub const LONGEST_HEAD: usize = 8 * 1024;

/// The longest that `/cpu` burns.
pub const LONGEST_BURN: Duration = Duration::from_secs(1);

/// A request, and whether its connection ends with the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// Whether the client wants the connection closed after the answer, or its request leaves no other choice.
    pub closes: bool,
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `GET /aggregate/{id}`
    Aggregate(u64),
    /// `GET /cpu?us=`
    Cpu(Duration),
    /// Something else: this is its answer.
    Refused(Answer),
}

impl Ask {
    /// Does what is asked on the calling thread, with `aggregate` to ask the backends.
    pub fn answer(self, aggregate: impl FnOnce(u64) -> Result<Answer, Unavailable>) -> Answer {
        match self {
            Ask::Aggregate(id) => aggregate(id).unwrap_or_else(Answer::from),
            Ask::Cpu(time) => burn(time),
            Ask::Refused(answer) => answer,
        }
    }

    /// Does what is asked on the calling thread, and asks one backend after the other.
    pub fn answer_in_turn<S: Stream>(self, backends: &mut Backends<S>) -> Answer {
        self.answer(|id| backends.ask_in_turn(id))
    }
}

impl Request {
    /// Takes the first whole request out of `bytes`; `None` if there is none yet.
    pub fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut fields);
        let (request, length) = match head.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => (Self::of(&head), length),
            Ok(httparse::Status::Partial) if bytes.len() < LONGEST_HEAD => return None,
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                (Self::last(431, "the head is too large"), bytes.len())
            }
            Err(error) => (Self::last(400, &error.to_string()), bytes.len()),
        };
        bytes.drain(..length);
        Some(request)
    }

    fn of(head: &httparse::Request<'_, '_>) -> Self {
        let field = |name: &str| {
            let found = head
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name));
            found.map(|field| field.value)
        };
        let minor = head.version.unwrap_or(0);
        if minor == 1 && field("host").is_none() {
            return Self::last(400, "the field Host is missing");
        }
        if field("transfer-encoding").is_some()
            || field("content-length").is_some_and(|n| n != b"0")
        {
            return Self::last(400, "no body is expected here");
        }
        Self {
            ask: asked(head.method.unwrap_or(""), head.path.unwrap_or("")),
            closes: minor == 0
                || field("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close")),
        }
    }

    /// Whether the end of the request is not known, so that whatever else the client sends is to be thrown away.
    pub fn is_broken(&self) -> bool {
        self.closes
            && matches!(&self.ask, Ask::Refused(answer) if [400, 431].contains(&answer.status))
    }

    /// A refusal after which the rest of what the client sent makes no sense.
    fn last(status: u16, why: &str) -> Self {
        Self {
            ask: Ask::Refused(Answer::refusal(status, why)),
            closes: true,
        }
    }
}

fn asked(method: &str, target: &str) -> Ask {
    let refused = |status, why| Ask::Refused(Answer::refusal(status, why));
    if let Some(id) = target.strip_prefix("/aggregate/") {
        match (method, id.parse()) {
            ("GET", Ok(id)) => Ask::Aggregate(id),
            ("GET", Err(_)) => refused(400, "the id is a number from 0 to 2^64-1"),
            _ => refused(405, "use GET"),
        }
    } else if let Some(us) = target.strip_prefix("/cpu?us=") {
        match (method, us.parse().map(Duration::from_micros)) {
            ("GET", Ok(time)) if time <= LONGEST_BURN => Ask::Cpu(time),
            ("GET", _) => refused(400, "us is a number from 0 to 1000000"),
            _ => refused(405, "use GET"),
        }
    } else {
        refused(404, "there is /aggregate/{id} and /cpu?us=")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: Vec<u8>) -> Vec<Request> {
        std::iter::from_fn(|| Request::take(&mut bytes)).collect()
    }

    #[test]
    fn requests_are_taken_one_after_the_other() {
        let two = b"GET /aggregate/7 HTTP/1.1\r\nHost: s\r\n\r\nGET /cpu?us=5 HTTP/1.1\r\nhost: s\r\nconnection: Close\r\n\r\n";
        let requests = all(two.to_vec());
        let asks: Vec<_> = requests
            .iter()
            .map(|request| (request.ask.clone(), request.closes))
            .collect();
        assert_eq!(
            asks,
            [
                (Ask::Aggregate(7), false),
                (Ask::Cpu(Duration::from_micros(5)), true)
            ]
        );
    }

    #[test]
    fn half_a_head_is_no_request_yet() {
        let head = b"GET /aggregate/7 HTTP/1.1\r\nHost: s\r\n\r\n";
        for length in 0..head.len() {
            assert_eq!(all(head[..length].to_vec()), [], "of {length} bytes");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_status() {
        let endless = format!("GET / HTTP/1.1\r\nHost: {}", "a".repeat(LONGEST_HEAD));
        for (bytes, status, closes) in [
            ("GET /aggregate/x HTTP/1.1\r\nHost: s\r\n\r\n", 400, false),
            (
                "GET /cpu?us=2000000 HTTP/1.1\r\nHost: s\r\n\r\n",
                400,
                false,
            ),
            ("POST /aggregate/1 HTTP/1.1\r\nHost: s\r\n\r\n", 405, false),
            ("GET /other HTTP/1.1\r\nHost: s\r\n\r\n", 404, false),
            ("GET /other HTTP/1.0\r\n\r\n", 404, true),
            ("GET /aggregate/1 HTTP/1.1\r\n\r\n", 400, true),
            (
                "GET /aggregate/1 HTTP/1.1\r\nHost: s\r\nContent-Length: 3\r\n\r\nabc",
                400,
                true,
            ),
            ("\u{1}\u{2}\r\n\r\n", 400, true),
            (&endless, 431, true),
        ] {
            let request = all(bytes.into()).remove(0);
            let Ask::Refused(answer) = &request.ask else {
                panic!("{bytes:?} was taken for {request:?}")
            };
            assert_eq!(
                (answer.status, request.closes),
                (status, closes),
                "{bytes:?}"
            );
        }
    }
}
