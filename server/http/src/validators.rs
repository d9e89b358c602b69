//! Which version of a thing is asked about: conditional requests, for handlers.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ETAG, LAST_MODIFIED},
};

use crate::{
    http1::condition::{Conditions, Verdict, Version, is_tag},
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
};

/// What tells versions of a thing apart, to carry out a request only if its conditions hold (RFC 9110, 13).
///
/// A client that has a version asks with `If-None-Match` or `If-Modified-Since` and is answered 304 while there is no other.
/// One that changes a thing asks with `If-Match` or `If-Unmodified-Since` and is answered 412 if somebody else was faster.
/// Answers to `GET` are looked after by the middleware [`ETag`](crate::middleware::ETag): this is for handlers that
/// change things, and for those that would rather not make an answer which is not sent.
///
/// # Examples
/// ```
/// use maniple_server::{IntoResponse, Request, Response, StatusCode, Validators};
///
/// fn rename(request: &mut Request) -> Result<Response, Response> {
///     let version = Validators::new().etag("v7");
///     version.check(request)?;
///     Ok(StatusCode::NO_CONTENT.into_response())
/// }
///
/// let put = |tag| Request::for_test("PUT", "/users/7").with_header("if-match", tag);
/// assert_eq!(rename(&mut put("\"v7\"")).into_response().status(), 204);
/// assert_eq!(rename(&mut put("\"v6\"")).into_response().status(), 412);
/// ```
#[derive(Clone, Debug)]
pub struct Validators {
    pub(crate) exists: bool,
    pub(crate) tag: Option<HeaderValue>,
    /// In seconds since 1970.
    pub(crate) modified: Option<u64>,
}

impl Default for Validators {
    fn default() -> Self {
        Self::new()
    }
}

impl Validators {
    /// Of a thing that is there, with neither tag nor date.
    pub fn new() -> Self {
        Self {
            exists: true,
            tag: None,
            modified: None,
        }
    }

    /// Of a thing that is not there: `If-None-Match: *` holds, by which a client makes it and replaces nothing.
    pub fn of_nothing() -> Self {
        Self {
            exists: false,
            ..Self::new()
        }
    }

    /// With an entity tag, given without quotes: the same for the same bytes alone.
    ///
    /// # Panics
    /// If it has a quote, a blank or a control character.
    #[track_caller]
    pub fn etag(self, opaque: &str) -> Self {
        self.tagged(format!("\"{opaque}\""))
    }

    /// With a weak entity tag, given without quotes: the same for answers that mean the same. Ranges and `If-Match` do not
    /// work with it.
    ///
    /// # Panics
    /// If it has a character that a tag may not have, like that of [`Validators::etag`].
    #[track_caller]
    pub fn weak_etag(self, opaque: &str) -> Self {
        self.tagged(format!("W/\"{opaque}\""))
    }

    #[track_caller]
    fn tagged(mut self, tag: String) -> Self {
        assert!(is_tag(tag.as_bytes()), "not an entity tag: {tag}");
        let tag = HeaderValue::from_str(&tag);
        self.tag = Some(tag.expect("what a tag may have, a field's value may have"));
        self
    }

    /// With the time of the last change, of which whole seconds count.
    pub fn last_modified(mut self, at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH);
        self.modified = Some(since.map_or(0, |since| since.as_secs()));
        self
    }

    /// Whether the request is to be carried out: its conditions hold, or it has none.
    ///
    /// # Errors
    /// The answer, if it is not: 304 with tag and date, or 412.
    #[allow(clippy::result_large_err)]
    pub fn check(&self, request: &Request) -> Result<(), Response> {
        match self.judge(request) {
            Verdict::Proceed => Ok(()),
            Verdict::NotModified => {
                let mut response = Response::new(StatusCode::NOT_MODIFIED);
                self.add_to(response.headers_mut());
                Err(response)
            }
            Verdict::Failed => Err(failed()),
        }
    }

    pub(crate) fn judge(&self, request: &Request) -> Verdict {
        let method = request.method();
        let all = |name| request.header_values(name).collect();
        let conditions = Conditions {
            if_match: all("if-match"),
            if_none_match: all("if-none-match"),
            if_modified_since: request.header("if-modified-since"),
            if_unmodified_since: request.header("if-unmodified-since"),
        };
        conditions.judge(self.version(), [Method::GET, Method::HEAD].contains(method))
    }

    pub(crate) fn version(&self) -> Version<'_> {
        Version {
            exists: self.exists,
            tag: self.tag.as_ref().map(HeaderValue::as_bytes),
            modified: self.modified,
        }
    }

    /// Those that an answer has.
    pub(crate) fn of_answer(headers: &HeaderMap) -> Self {
        let tag = headers.get(ETAG);
        let modified = headers.get(LAST_MODIFIED).and_then(|date| {
            let date = httpdate::parse_http_date(date.to_str().ok()?).ok()?;
            Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
        });
        Self {
            exists: true,
            tag: tag.filter(|tag| is_tag(tag.as_bytes())).cloned(),
            modified,
        }
    }

    /// Adds them as fields.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        if let Some(tag) = &self.tag {
            headers.insert(ETAG, tag.clone());
        }
        if let Some(modified) = self.modified {
            headers.insert(LAST_MODIFIED, date(modified));
        }
    }
}

/// 412.
pub(crate) fn failed() -> Response {
    let reason = "it is not, or no longer, the version that was asked for";
    Problem::new(StatusCode::PRECONDITION_FAILED, reason).into_response()
}

fn date(seconds: u64) -> HeaderValue {
    // The year 9999 is the last that the form has.
    let seconds = seconds.min(253_402_300_799);
    let date = httpdate::fmt_http_date(UNIX_EPOCH + std::time::Duration::from_secs(seconds));
    HeaderValue::from_str(&date).expect("a date has letters, digits and blanks")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_made_only_if_it_is_not_there() {
        let put = Request::for_test("PUT", "/x").with_header("if-none-match", "*");
        assert!(Validators::of_nothing().check(&put).is_ok());
        let there = Validators::new().check(&put);
        assert_eq!(there.unwrap_err().status(), 412);
    }

    #[test]
    fn who_has_it_is_told_its_tag_and_date_again() {
        let get = Request::for_test("GET", "/x").with_header("if-none-match", "W/\"a\"");
        let at = UNIX_EPOCH + std::time::Duration::from_millis(784_111_777_900);
        let version = Validators::new().weak_etag("a").last_modified(at);
        let answer = version.check(&get).unwrap_err();
        assert_eq!(answer.status(), 304);
        assert_eq!(answer.header("etag"), Some("W/\"a\""));
        let date = answer.header("last-modified");
        assert_eq!(date, Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    }

    #[test]
    #[should_panic(expected = "not an entity tag")]
    fn a_tag_with_a_quote_is_refused() {
        let _ = Validators::new().etag("a\"b");
    }
}
