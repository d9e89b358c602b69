//! Several names of a site, of which one is used.

use http::{HeaderValue, StatusCode, header::LOCATION, uri::Authority};

use super::chain::{Middleware, Next};
use crate::{request::Request, response::Response};

/// Redirects requests to other names of a site to the one that it is to be known by: with 308, so that methods and bodies
/// stay. Scheme, port and target stay, too.
///
/// Only the names that are [given](Self::instead_of) are redirected. Requests to any other host go on, as do those to none and
/// those that ask for no resource (`OPTIONS *`, `CONNECT`).
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, StatusCode, middleware::CanonicalHost};
///
/// let router = Router::new()
///     .with(CanonicalHost::new("example.com").instead_of(["www.example.com", "example.org"]))
///     .get("/news", |_: &mut Request| "news");
/// let mut request = Request::for_test("GET", "/news?page=2").with_header("host", "WWW.example.com:8080");
/// let answer = router.answer(&mut request);
/// assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
/// assert_eq!(answer.header("location"), Some("http://example.com:8080/news?page=2"));
/// ```
#[derive(Clone, Debug)]
pub struct CanonicalHost {
    host: String,
    others: Vec<String>,
}

impl CanonicalHost {
    /// The name to use.
    ///
    /// # Panics
    /// If it is no host, or has a port: `example.com`, `127.0.0.1`, `[::1]`.
    #[track_caller]
    pub fn new(host: &str) -> Self {
        Self {
            host: checked(host),
            others: Vec::new(),
        }
    }

    /// Names that are not to be used, without ports; case is no matter. The one to use is left out of them.
    ///
    /// # Panics
    /// If one is no host, or has a port.
    #[track_caller]
    pub fn instead_of<'h>(mut self, hosts: impl IntoIterator<Item = &'h str>) -> Self {
        for host in hosts {
            let host = checked(host);
            if host != self.host {
                self.others.push(host);
            }
        }
        self
    }

    fn location(&self, request: &Request) -> Option<HeaderValue> {
        let path = request.path();
        let host: Authority = request.host()?.parse().ok()?;
        if host.as_str().contains('@') || !path.starts_with('/') {
            return None;
        }
        // A name from the root is the same name.
        let name = host.host().strip_suffix('.').unwrap_or(host.host());
        let mut others = self.others.iter();
        others.find(|other| other.eq_ignore_ascii_case(name))?;
        let port = match host.port() {
            Some(port) => format!(":{port}"),
            None => String::new(),
        };
        let (scheme, host) = (request.scheme(), &self.host);
        let (mark, query) = request.query().map_or(("", ""), |query| ("?", query));
        HeaderValue::from_str(&format!("{scheme}://{host}{port}{path}{mark}{query}")).ok()
    }
}

#[track_caller]
fn checked(host: &str) -> String {
    let authority = host.parse::<Authority>().ok();
    let is_host = authority.is_some_and(|all| all.host() == host && !host.is_empty());
    assert!(is_host, "{host:?} is no host without a port");
    host.to_ascii_lowercase()
}

impl Middleware for CanonicalHost {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        match self.location(request) {
            Some(location) => {
                let mut response = Response::new(StatusCode::PERMANENT_REDIRECT);
                response.headers_mut().insert(LOCATION, location);
                response
            }
            None => next.run(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Router;

    fn ask(target: &str, host: &str) -> Option<String> {
        let names = ["www.a.example", "B.example", "a.example", "[::1]"];
        let router = Router::new()
            .with(CanonicalHost::new("A.example").instead_of(names))
            .get("/{*path}", |_: &mut Request| "here");
        let mut request = Request::for_test("GET", target).with_header("host", host);
        let answer = router.answer(&mut request);
        let to = answer.header("location").map(str::to_owned);
        assert_eq!(
            to.is_some(),
            answer.status() == StatusCode::PERMANENT_REDIRECT
        );
        to
    }

    #[test]
    fn other_names_lead_to_the_one_and_nothing_leads_elsewhere() {
        for (host, target, to) in [
            ("www.a.example", "/x", Some("http://a.example/x")),
            ("b.EXAMPLE:81", "/x?y=1", Some("http://a.example:81/x?y=1")),
            ("b.example.", "/x", Some("http://a.example/x")),
            ("[::1]:8080", "/x", Some("http://a.example:8080/x")),
            (
                "b.example",
                "//evil.example/",
                Some("http://a.example//evil.example/"),
            ),
            ("a.example", "/x", None),
            ("A.example:80", "/x", None),
            ("c.example", "/x", None),
            ("www.a.example.evil", "/x", None),
        ] {
            assert_eq!(ask(target, host).as_deref(), to, "{host} {target}");
        }
    }

    #[test]
    fn what_is_no_host_is_a_mistake() {
        for wrong in ["", "a:80", "http://a", "a/b", "u@a", "a b"] {
            let made = std::panic::catch_unwind(|| CanonicalHost::new(wrong));
            assert!(made.is_err(), "{wrong:?}");
        }
    }
}
