//! Cookies that the client sent.

use std::convert::Infallible;

use http::header::COOKIE;

use super::FromHead;
use crate::request::Request;

/// The cookies that the client sent: names and values as they were sent, in their order.
///
/// A value that stands in quotes is given without them. What is no pair of a name and a value is passed over; so browsers
/// send what scripts set. As many are read as the head had room for, and each call reads them anew: nothing is stored.
/// [`Response::with_cookie`](crate::Response::with_cookie) sets one.
///
/// # Examples
/// ```
/// use maniple_server::{Cookie, IntoResponse, Request, Router, extract::Cookies};
///
/// fn visit(cookies: Cookies) -> impl IntoResponse {
///     let visits: u32 = cookies.get("visits").and_then(|text| text.parse().ok()).unwrap_or(0);
///     let cookie = Cookie::build(("visits", format!("{}", visits + 1))).http_only(true).secure(true);
///     format!("{visits} visits before").into_response().with_cookie(cookie)
/// }
///
/// let router = Router::new().get("/", visit);
/// let mut request = Request::for_test("GET", "/").with_header("cookie", "a=b; visits=2");
/// let answer = router.answer(&mut request);
/// assert_eq!(answer.header("set-cookie"), Some("visits=3; HttpOnly; Secure"));
/// assert_eq!(answer.into_text().unwrap(), "2 visits before");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookies {
    /// The fields, joined as one.
    text: String,
}

impl Cookies {
    pub(crate) fn of<'v>(fields: impl Iterator<Item = &'v [u8]>) -> Self {
        let mut text = String::new();
        for value in fields {
            if !text.is_empty() {
                text.push(';');
            }
            text.push_str(&String::from_utf8_lossy(value));
        }
        Self { text }
    }

    /// The value of the first of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|&(other, _)| other == name)
            .map(|(_, value)| value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.split(';').filter_map(pair)
    }
}

/// A name and a value, as RFC 6265 5.2 has user agents read them.
fn pair(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    let is_blank = |character: char| character == ' ' || character == '\t';
    let (name, value) = (name.trim_matches(is_blank), value.trim_matches(is_blank));
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    (!name.is_empty()).then_some((name, inner.unwrap_or(value)))
}

impl FromHead for Cookies {
    type Rejection = Infallible;

    fn from_head(request: &Request) -> Result<Self, Infallible> {
        Ok(Self::of(request.header_values(COOKIE.as_str())))
    }

    fn is_absent(request: &Request) -> bool {
        request.header(COOKIE.as_str()).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_they_come_and_the_rest_is_passed_over() {
        let text = "a=1; b = \"two\" ;c;=d; e=; a=3;f=\"x;g==h=; é=ü";
        let cookies = Cookies {
            text: text.to_owned(),
        };
        let expected = [
            ("a", "1"),
            ("b", "two"),
            ("e", ""),
            ("a", "3"),
            ("f", "\"x"),
            ("g", "=h="),
            ("é", "ü"),
        ];
        assert_eq!(cookies.iter().collect::<Vec<_>>(), expected);
        assert_eq!(cookies.get("a"), Some("1"));
        assert_eq!(cookies.get("c"), None);
    }
}
