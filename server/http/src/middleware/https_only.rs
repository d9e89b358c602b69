//! Requests in plain text, which are sent on to HTTPS.

use http::{HeaderValue, StatusCode, header::LOCATION, uri::Authority};

use super::chain::{Middleware, Next};
use crate::{
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
};

/// Redirects what does not come by TLS, as far as [`Request::scheme`] tells, to the same host and target by HTTPS: with
/// 308, so that methods and bodies stay.
///
/// The host is that which the client asked for, if it is among [`hosts`](Self::hosts), where these are set: set them, or
/// who can have a cache in front keep an answer sends its users elsewhere. Another, or none, is answered 400. Put routes for health
/// checks outside of it.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, StatusCode, middleware::HttpsOnly};
///
/// let router = Router::new()
///     .with(HttpsOnly::new().hosts(["example.com"]))
///     .get("/news", |_: &mut Request| "news");
/// let mut request = Request::for_test("GET", "/news?page=2").with_header("host", "Example.com:80");
/// let answer = router.answer(&mut request);
/// assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
/// assert_eq!(answer.header("location"), Some("https://example.com/news?page=2"));
/// ```
#[derive(Clone, Debug)]
pub struct HttpsOnly {
    hosts: Option<Vec<String>>,
    port: u16,
}

impl HttpsOnly {
    /// For any host, at port 443.
    pub fn new() -> Self {
        Self {
            hosts: None,
            port: 443,
        }
    }

    /// Hosts to redirect to, without ports; case is no matter. Default: any.
    pub fn hosts<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        let hosts = hosts
            .into_iter()
            .map(|host| host.into().to_ascii_lowercase());
        self.hosts = Some(hosts.collect());
        self
    }

    /// Where HTTPS is spoken. Default: 443.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    fn location(&self, request: &Request) -> Option<HeaderValue> {
        let authority: Authority = request.host()?.parse().ok()?;
        let host = authority.host().to_ascii_lowercase();
        if authority.as_str().contains('@') || host.is_empty() {
            return None;
        }
        if let Some(hosts) = &self.hosts
            && !hosts.contains(&host)
        {
            return None;
        }
        let port = match self.port {
            443 => String::new(),
            port => format!(":{port}"),
        };
        let path = request.path();
        // Of `OPTIONS *` and of CONNECT, which are no resources.
        let path = path.starts_with('/').then_some(path)?;
        let (mark, query) = request.query().map_or(("", ""), |query| ("?", query));
        HeaderValue::from_str(&format!("https://{host}{port}{path}{mark}{query}")).ok()
    }
}

impl Default for HttpsOnly {
    fn default() -> Self {
        Self::new()
    }
}

impl Middleware for HttpsOnly {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        if request.scheme() == "https" {
            return next.run(request);
        }
        match self.location(request) {
            Some(location) => {
                let mut response = Response::new(StatusCode::PERMANENT_REDIRECT);
                response.headers_mut().insert(LOCATION, location);
                response
            }
            None => Problem::new(StatusCode::BAD_REQUEST, "ask by HTTPS").into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Router;

    fn ask(https: HttpsOnly, target: &str, host: &str) -> Result<String, StatusCode> {
        let router = Router::new()
            .with(https)
            .get("/{*path}", |_: &mut Request| "secret");
        let mut request = Request::for_test("GET", target).with_header("host", host);
        let answer = router.answer(&mut request);
        let to = answer.header("location").map(str::to_owned);
        to.ok_or(answer.status())
    }

    #[test]
    fn a_redirect_leads_nowhere_else() {
        for (host, target, to) in [
            ("a.example", "/x", "https://a.example/x"),
            (
                "A.example:8080",
                "//evil.example/",
                "https://a.example//evil.example/",
            ),
            (
                "a.example",
                "/x?y=http://b",
                "https://a.example/x?y=http://b",
            ),
            ("[::1]:80", "/x", "https://[::1]/x"),
        ] {
            assert_eq!(ask(HttpsOnly::new(), target, host).unwrap(), to);
        }
        let here = || HttpsOnly::new().hosts(["A.example"]).port(8443);
        assert_eq!(
            ask(here(), "/", "a.EXAMPLE").unwrap(),
            "https://a.example:8443/"
        );
        assert_eq!(ask(here(), "/", "b.example"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(
            ask(here(), "/", "a.example.b.example"),
            Err(StatusCode::BAD_REQUEST)
        );
    }
}
