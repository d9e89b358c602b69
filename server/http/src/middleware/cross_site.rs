//! Requests that another site has a browser send in its user's name.

use http::{Method, StatusCode};

use super::chain::{Middleware, Next};
use crate::{
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
};

/// Refuses with 403 what another site has a browser send: cross-site request forgery, without tokens.
///
/// `GET`, `HEAD` and `OPTIONS` pass, which must change nothing. Of other requests one passes whose `Sec-Fetch-Site`,
/// which all browsers of today send and no page can set, says `same-origin` or `none`. Without that field, one passes
/// whose `Origin` is the host that it asks, or one that is allowed here. With neither field it is no browser's, and
/// passes: programs have no user whose cookies could be used. See <https://www.w3.org/TR/fetch-metadata/>.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, middleware::RefuseCrossSite};
/// let router = Router::new()
///     .with(RefuseCrossSite::new().allow("https://pay.example"))
///     .post("/transfer", |_: &mut Request| "done");
/// let ask = |site| {
///     router.answer(&mut Request::for_test("POST", "/transfer").with_header("sec-fetch-site", site))
/// };
/// assert_eq!(ask("same-origin").status(), 200);
/// assert_eq!(ask("cross-site").status(), 403);
/// ```
#[derive(Clone, Debug, Default)]
pub struct RefuseCrossSite {
    allowed: Vec<String>,
}

impl RefuseCrossSite {
    /// With no other origin allowed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets pages of that origin, such as `https://pay.example`, ask too.
    pub fn allow(mut self, origin: impl Into<String>) -> Self {
        self.allowed.push(origin.into());
        self
    }

    fn lets_pass(&self, request: &Request) -> bool {
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()) {
            return true;
        }
        let origin = request.header("origin");
        if origin.is_some_and(|origin| self.allowed.iter().any(|one| one.as_bytes() == origin)) {
            return true;
        }
        if let Some(site) = request.header("sec-fetch-site") {
            return site == b"same-origin" || site == b"none";
        }
        let Some(origin) = origin else { return true };
        // `null` has no host, and is no place of ours.
        let asker = origin.split(|&byte| byte == b'/').nth(2);
        asker.is_some_and(|asker| {
            request
                .header("host")
                .is_some_and(|host| host.eq_ignore_ascii_case(asker))
        })
    }
}

impl Middleware for RefuseCrossSite {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        if self.lets_pass(request) {
            return next.run(request);
        }
        let reason = "asked for by a page of another site";
        Problem::new(StatusCode::FORBIDDEN, reason).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_host_may_change_something() {
        let guard = RefuseCrossSite::new().allow("https://pay.example");
        let passes = |method: &str, fields: &[(&str, &str)]| {
            let request = fields
                .iter()
                .fold(Request::for_test(method, "/"), |request, (name, value)| {
                    request.with_header(name, value)
                });
            guard.lets_pass(&request)
        };
        let cross = ("sec-fetch-site", "cross-site");
        assert!(passes("GET", &[cross]));
        assert!(!passes("POST", &[cross]));
        assert!(!passes("DELETE", &[("sec-fetch-site", "same-site")]));
        assert!(passes("POST", &[("sec-fetch-site", "none")]));
        assert!(passes("POST", &[cross, ("origin", "https://pay.example")]));
        let host = ("host", "shop.example:8080");
        assert!(passes(
            "POST",
            &[host, ("origin", "http://shop.example:8080")]
        ));
        assert!(!passes("POST", &[host, ("origin", "http://shop.example")]));
        assert!(!passes("POST", &[host, ("origin", "null")]));
        assert!(passes("POST", &[host]), "no browser sent it");
    }
}
