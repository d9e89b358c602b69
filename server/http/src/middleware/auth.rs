//! Who asks: passwords and tokens of the field `Authorization`.

use std::{fmt, hint::black_box};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE};

use super::chain::{Middleware, Next};
use crate::{
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
};

/// Lets those through whose name and password a function takes (RFC 7617); others are answered with 401.
///
/// The function is asked for each request that names somebody. It may wait, as for a database, and should compare
/// secrets with [`equal_secrets`]. Passwords travel readable for anybody on the way: over TLS alone.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, middleware::{BasicAuth, equal_secrets}};
///
/// let auth = BasicAuth::new("reports", |name, password| {
///     equal_secrets(name.as_bytes(), b"ann") & equal_secrets(password.as_bytes(), b"secret")
/// });
/// let router = Router::new().with(auth).get("/", |_: &mut Request| "for Ann");
/// let ask = |authorization| {
///     router.answer(&mut Request::for_test("GET", "/").with_header("authorization", authorization))
/// };
/// assert_eq!(ask("Basic YW5uOnNlY3JldA==").into_text().unwrap(), "for Ann");
/// assert_eq!(ask("Basic YW5uOmd1ZXNz").status(), 401);
/// ```
pub struct BasicAuth<F> {
    challenge: HeaderValue,
    knows: F,
}

impl<F: Fn(&str, &str) -> bool> BasicAuth<F> {
    /// For the realm of that name, which browsers show.
    ///
    /// # Panics
    /// If the name has other characters than visible ASCII and spaces, or a quote or backslash.
    #[track_caller]
    pub fn new(realm: &str, knows: F) -> Self {
        Self {
            challenge: challenge(
                &format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
                realm,
            ),
            knows,
        }
    }
}

/// Lets those through whose token a function takes (RFC 6750); others are answered with 401.
///
/// The function is given the token and the request: it may put whose token it is into
/// [`Request::extensions_mut`], and may wait. It should compare secrets with [`equal_secrets`].
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, middleware::{BearerAuth, equal_secrets}};
///
/// let auth = BearerAuth::new("api", |token, _: &mut Request| equal_secrets(token.as_bytes(), b"s3cret"));
/// let router = Router::new().with(auth).get("/", |_: &mut Request| "for members");
/// let mut request = Request::for_test("GET", "/").with_header("authorization", "Bearer s3cret");
/// assert_eq!(router.answer(&mut request).into_text().unwrap(), "for members");
/// assert_eq!(router.answer(&mut Request::for_test("GET", "/")).status(), 401);
/// ```
pub struct BearerAuth<F> {
    challenge: HeaderValue,
    knows: F,
}

impl<F: Fn(&str, &mut Request) -> bool> BearerAuth<F> {
    /// For the realm of that name.
    ///
    /// # Panics
    /// If the name has other characters than visible ASCII and spaces, or a quote or backslash.
    #[track_caller]
    pub fn new(realm: &str, knows: F) -> Self {
        Self {
            challenge: challenge(&format!("Bearer realm=\"{realm}\""), realm),
            knows,
        }
    }
}

#[track_caller]
fn challenge(text: &str, realm: &str) -> HeaderValue {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    assert!(realm.bytes().all(is_plain), "not a realm: {realm:?}");
    HeaderValue::from_str(text).expect("plain characters")
}

/// Whether both are the same, in a time that tells their lengths and nothing else of them.
pub fn equal_secrets(a: &[u8], b: &[u8]) -> bool {
    let differ = a
        .iter()
        .zip(b)
        .fold(0, |differ, (a, b)| black_box(differ | (a ^ b)));
    a.len() == b.len() && differ == 0
}

/// What follows the scheme's name, which is without case (RFC 9110, 11.1).
fn credentials(request: &Request, scheme: &str) -> Option<String> {
    let (named, rest) = request.header_str("authorization")?.split_once(' ')?;
    let credentials = rest.trim_start_matches(' ');
    named
        .eq_ignore_ascii_case(scheme)
        .then(|| credentials.to_owned())
}

fn refuse(challenge: &HeaderValue) -> Response {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "who asks is not known here");
    let mut response = problem.into_response();
    response
        .headers_mut()
        .insert(WWW_AUTHENTICATE, challenge.clone());
    response
}

impl<F: Fn(&str, &str) -> bool + Send + Sync + 'static> Middleware for BasicAuth<F> {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let is_known = || {
            let decoded = STANDARD.decode(credentials(request, "basic")?).ok()?;
            let text = String::from_utf8(decoded).ok()?;
            let (name, password) = text.split_once(':')?;
            Some((self.knows)(name, password))
        };
        match is_known() {
            Some(true) => next.run(request),
            _ => refuse(&self.challenge),
        }
    }
}

impl<F: Fn(&str, &mut Request) -> bool + Send + Sync + 'static> Middleware for BearerAuth<F> {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        match credentials(request, "bearer") {
            Some(token) if (self.knows)(&token, request) => next.run(request),
            _ => refuse(&self.challenge),
        }
    }
}

impl<F> fmt::Debug for BasicAuth<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BasicAuth").field(&self.challenge).finish()
    }
}

impl<F> fmt::Debug for BearerAuth<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BearerAuth").field(&self.challenge).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Router;

    #[test]
    fn secrets_are_equal_or_not() {
        assert!(equal_secrets(b"", b"") && equal_secrets(b"abc", b"abc"));
        for other in ["ab", "abd", "abcd", "Abc"] {
            assert!(!equal_secrets(b"abc", other.as_bytes()));
        }
    }

    #[test]
    fn who_is_not_known_is_told_how_to_say_who_it_is() {
        let auth = BasicAuth::new("the reports", |name, password| {
            (name, password) == ("ann", "a:b")
        });
        let router = Router::new()
            .with(auth)
            .get("/", |_: &mut Request| "for Ann");
        let ask = |value: &str| {
            let mut request = Request::for_test("GET", "/").with_header("authorization", value);
            router.answer(&mut request)
        };
        assert_eq!(ask("basic  YW5uOmE6Yg==").status(), StatusCode::OK);
        for value in [
            "",
            "Basic",
            "Basic ",
            "Basic ?",
            "Basic YW5u",
            "Bearer YW5uOmE6Yg==",
        ] {
            let answer = ask(value);
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{value:?}");
            let challenge = "Basic realm=\"the reports\", charset=\"UTF-8\"";
            assert_eq!(answer.header("www-authenticate"), Some(challenge));
        }
    }

    #[test]
    #[should_panic(expected = "not a realm")]
    fn a_realm_that_would_end_its_quotes_is_refused() {
        let _auth = BearerAuth::new("a\"b", |_, _| true);
    }
}
