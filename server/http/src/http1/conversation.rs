//! The states of a conversation, for both ends: what an exchange has come to, and what may come next on the connection.
//!
//! ```text
//!   a server's end                                       a client's end
//!
//!   awaiting a head ◄───────────────┐                    sending ──► awaiting a head ◄─ interim answer ─┐
//!        │ head                     │ Next::Request               │  │ head                              │
//!        ▼                          │                    (rest of │  ├───────────────────────────────────┘
//!   the body is the handler's       │                    the body │  │ final answer
//!        │ answer: Answered         │                    meanwhile)  ▼
//!        ▼                          │                        reading its body
//!   Next ─┬─ what is left of the body is read away              │ its end
//!         ├─ Close                                              ▼
//!         ├─ Linger: what still comes is read away            the connection is used again, or closed
//!         └─ Reset: an orderly end would be a lie
//! ```
//!
//! Pure: who owns the bytes asks here and acts.

use http::{HeaderMap, StatusCode, header::CONTENT_LENGTH};

use super::scan::parse_length;

/// Whether another exchange may follow, by what one side says of it (RFC 9112, 9.3): `close` and `keep-alive` are
/// the options of its `Connection` fields.
#[inline]
pub(crate) fn persists(http_11: bool, close: bool, keep_alive: bool) -> bool {
    match http_11 {
        true => !close,
        false => keep_alive && !close,
    }
}

/// Whether an answer has no body, whatever its fields say (RFC 9112, 6.3): `of_head` says that it is one to `HEAD`.
pub(crate) fn is_bodiless(status: StatusCode, of_head: bool) -> bool {
    of_head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// Whether the final answer is still to come.
pub(crate) fn is_interim(status: StatusCode) -> bool {
    // What follows 101 is another protocol.
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// How the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// There is none, and no field says so.
    NoBody,
    Length(u64),
    Chunked,
    /// With the connection, for HTTP/1.0.
    Close,
}

/// What the body of a response is, and to what it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: Option<&'a HeaderMap>,
    /// Its length, if that is known beforehand.
    pub(crate) length: Option<u64>,
    /// Whether the request was a `HEAD`.
    pub(crate) of_head: bool,
    pub(crate) http_11: bool,
}

impl Content<'_> {
    /// How the response ends, and whether its body is sent (RFC 9112, 6.3).
    #[inline]
    pub(crate) fn ending(&self) -> (Ending, bool) {
        match self.length {
            Some(length) if self.status == StatusCode::OK && !self.of_head => {
                (Ending::Length(length), true)
            }
            _ => self.unusual_ending(),
        }
    }

    fn unusual_ending(&self) -> (Ending, bool) {
        let unsent = |length: Option<u64>| (length.map_or(Ending::NoBody, Ending::Length), false);
        match (self.status, self.length) {
            // RFC 9110, 8.6, 15.3.5 and 15.3.6.
            (StatusCode::NO_CONTENT, _) => unsent(None),
            (StatusCode::RESET_CONTENT, _) => unsent(Some(0)),
            (StatusCode::NOT_MODIFIED, _) => unsent(self.said_length()),
            // What GET would be answered with: nobody may have made a body to see how long it is.
            (_, Some(0)) if self.of_head => unsent(self.said_length()),
            (_, Some(length)) => (Ending::Length(length), !self.of_head),
            (_, None) if self.http_11 => (Ending::Chunked, !self.of_head),
            (_, None) if self.of_head => unsent(None),
            (_, None) => (Ending::Close, true),
        }
    }

    /// What the handler says of a body that is not sent (RFC 9110, 8.6).
    fn said_length(&self) -> Option<u64> {
        let mut said = self.headers?.get_all(CONTENT_LENGTH).iter();
        match (said.next(), said.next()) {
            (Some(length), None) => parse_length(length.as_bytes()),
            _ => None,
        }
    }
}

/// What the head of an answer says about the connection, if anything needs to be said.
#[inline]
pub(crate) fn connection_option(keep: bool, http_11: bool, ending: Ending) -> Option<&'static str> {
    match (keep, http_11) {
        _ if matches!(ending, Ending::Close) => Some("close"),
        (false, _) => Some("close"),
        (true, false) => Some("keep-alive"),
        (true, true) => None,
    }
}

/// How far a server's answer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Whole,
    /// Whole; the end of the connection says so.
    ThenClose,
    /// Its body broke off, which its framing shows.
    Cut,
    /// Its body broke off, and an orderly end of the connection would look like the body's.
    CutUnseen,
}

impl Sent {
    /// That of an answer all of whose bytes were there.
    #[inline]
    pub(crate) fn all(ending: Ending) -> Self {
        match ending {
            Ending::Close => Sent::ThenClose,
            _ => Sent::Whole,
        }
    }

    /// That of an answer whose body broke off.
    pub(crate) fn cut(ending: Ending) -> Self {
        match ending {
            Ending::Close => Sent::CutUnseen,
            _ => Sent::Cut,
        }
    }
}

/// What a server does after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Awaits the next request.
    Request,
    /// Closes: the client has sent nothing that it would not read.
    Close,
    /// Ends its own side, and reads away what still comes, that the answer may be read.
    Linger,
    /// Closes so that it looks like no orderly end.
    Reset,
}

/// After an answer that got so far, on a connection that is kept if `keep`. Whether nothing more has come of the
/// client is asked only where it matters.
#[inline(always)]
pub(crate) fn after_answer(
    sent: Sent,
    keep: bool,
    nothing_more_came: impl FnOnce() -> bool,
) -> Next {
    match sent {
        Sent::Whole if keep => Next::Request,
        Sent::CutUnseen => Next::Reset,
        Sent::Cut => Next::Linger,
        // Bytes that are not read would have closing take the answer away from the client (RFC 9112, 9.6).
        Sent::Whole | Sent::ThenClose => match nothing_more_came() {
            true => Next::Close,
            false => Next::Linger,
        },
    }
}

/// A client that awaits the head of a final answer.
#[derive(Debug, Default)]
pub(crate) struct Awaiting {
    interim: usize,
    interim_bytes: usize,
}

/// A response's head may take this much, and so may all the interim ones before it.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// Interim responses to one request.
const MAX_INTERIM: usize = 128;

impl Awaiting {
    /// A head of that status and length has come: whether it is the final answer's. An error if there is to be no end
    /// of interim ones.
    pub(crate) fn is_final(
        &mut self,
        status: StatusCode,
        length: usize,
    ) -> Result<bool, &'static str> {
        if !is_interim(status) {
            return Ok(true);
        }
        self.interim += 1;
        self.interim_bytes += length;
        match self.interim > MAX_INTERIM || self.interim_bytes > MAX_HEAD {
            true => Err("too many interim responses"),
            false => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn http_11_connections_stay_unless_closed_and_older_ones_only_if_asked_to() {
        for (http_11, close, keep_alive, stays) in [
            (true, false, false, true),
            (true, true, false, false),
            (true, true, true, false),
            (false, false, false, false),
            (false, false, true, true),
            (false, true, true, false),
        ] {
            assert_eq!(persists(http_11, close, keep_alive), stays);
        }
    }

    #[test]
    fn answers_to_head_and_those_without_content_have_no_body() {
        let bodiless = |code: u16| is_bodiless(StatusCode::from_u16(code).unwrap(), false);
        assert!([100, 101, 103, 204, 304].into_iter().all(bodiless));
        assert!(![200, 205, 206, 301, 404, 500].into_iter().any(bodiless));
        assert!(is_bodiless(StatusCode::OK, true));
    }

    #[test]
    fn switching_protocols_is_the_last_answer() {
        let interim = |code: u16| is_interim(StatusCode::from_u16(code).unwrap());
        assert!([100, 102, 103, 199].into_iter().all(interim));
        assert!(![101, 200, 404].into_iter().any(interim));
    }

    #[test]
    fn an_answer_says_of_the_connection_only_what_its_reader_would_not_expect() {
        let length = Ending::Length(3);
        assert_eq!(connection_option(true, true, length), None);
        assert_eq!(connection_option(true, false, length), Some("keep-alive"));
        assert_eq!(connection_option(false, true, length), Some("close"));
        assert_eq!(connection_option(false, false, length), Some("close"));
        assert_eq!(connection_option(true, false, Ending::Close), Some("close"));
    }

    #[test]
    fn only_a_whole_answer_is_followed_by_a_request() {
        let after = |sent, keep| after_answer(sent, keep, || true);
        assert_eq!(after(Sent::Whole, true), Next::Request);
        assert_eq!(after(Sent::Whole, false), Next::Close);
        for keep in [false, true] {
            assert_eq!(after(Sent::ThenClose, keep), Next::Close);
            assert_eq!(after(Sent::Cut, keep), Next::Linger);
            assert_eq!(after(Sent::CutUnseen, keep), Next::Reset);
        }
    }

    #[test]
    fn what_a_client_still_sends_is_read_away_before_the_end() {
        assert_eq!(after_answer(Sent::Whole, false, || false), Next::Linger);
        assert_eq!(after_answer(Sent::ThenClose, true, || false), Next::Linger);
        // A reset is meant to be seen.
        assert_eq!(after_answer(Sent::CutUnseen, true, || false), Next::Reset);
    }

    #[test]
    fn a_body_that_ends_with_the_connection_hides_that_it_was_cut() {
        assert_eq!(Sent::cut(Ending::Close), Sent::CutUnseen);
        assert_eq!(Sent::cut(Ending::Chunked), Sent::Cut);
        assert_eq!(Sent::cut(Ending::Length(9)), Sent::Cut);
        assert_eq!(Sent::all(Ending::Close), Sent::ThenClose);
        assert_eq!(Sent::all(Ending::NoBody), Sent::Whole);
    }

    #[test]
    fn interim_answers_are_passed_over_up_to_a_number_and_a_size() {
        let mut awaiting = Awaiting::default();
        for _ in 0..MAX_INTERIM {
            assert_eq!(awaiting.is_final(StatusCode::CONTINUE, 25), Ok(false));
        }
        assert_eq!(awaiting.is_final(StatusCode::OK, MAX_HEAD), Ok(true));
        assert!(awaiting.is_final(StatusCode::CONTINUE, 25).is_err());
        let mut awaiting = Awaiting::default();
        assert_eq!(awaiting.is_final(StatusCode::CONTINUE, MAX_HEAD), Ok(false));
        assert!(awaiting.is_final(StatusCode::CONTINUE, 1).is_err());
    }

    #[test]
    fn the_body_ends_as_status_and_method_say() {
        use Ending::{Chunked, Close, Length, NoBody};
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from_static("20"));
        for (status, of_head, length, says, expected) in [
            (200, false, Some(3), false, (Length(3), true)),
            // What a body has counts, not what is said of it.
            (200, false, Some(3), true, (Length(3), true)),
            (200, false, Some(0), true, (Length(0), true)),
            (404, false, Some(0), false, (Length(0), true)),
            (200, false, None, true, (Chunked, true)),
            (200, true, Some(3), false, (Length(3), false)),
            (200, true, Some(3), true, (Length(3), false)),
            (200, true, Some(0), true, (Length(20), false)),
            (200, true, Some(0), false, (NoBody, false)),
            (200, true, None, false, (Chunked, false)),
            (204, false, Some(3), true, (NoBody, false)),
            (204, true, None, true, (NoBody, false)),
            (205, false, Some(3), true, (Length(0), false)),
            (205, false, None, false, (Length(0), false)),
            (304, false, Some(3), false, (NoBody, false)),
            (304, false, Some(0), true, (Length(20), false)),
            (304, true, None, false, (NoBody, false)),
        ] {
            let mut content = Content {
                status: StatusCode::from_u16(status).unwrap(),
                headers: says.then_some(&headers),
                length,
                of_head,
                http_11: true,
            };
            assert_eq!(content.ending(), expected, "{content:?}");
            content.http_11 = false;
            let in_http_10 = match expected {
                (Chunked, true) => (Close, true),
                (Chunked, false) => (NoBody, false),
                expected => expected,
            };
            assert_eq!(content.ending(), in_http_10, "{content:?}");
        }
        for wrong in [&["x"][..], &["1", "1"], &["-1"], &[""]] {
            let mut headers = HeaderMap::new();
            for length in wrong {
                headers.append("content-length", HeaderValue::from_static(length));
            }
            let content = Content {
                status: StatusCode::OK,
                headers: Some(&headers),
                length: Some(0),
                of_head: true,
                http_11: true,
            };
            assert_eq!(content.ending(), (NoBody, false), "{wrong:?}");
        }
    }
}
