//! Which pages of other origins may read answers.

use std::time::Duration;

use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, VARY,
    },
};

use super::chain::{Middleware, Next};
use crate::{request::Request, response::Response};

/// Lets pages of other origins read answers, as the Fetch standard has it
/// (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
///
/// A preflight, which is `OPTIONS` with `Origin` and `Access-Control-Request-Method`, is answered with 204 and does not
/// reach the handler. Other answers get the fields that let the page read them, and `Vary: Origin` unless all origins
/// are allowed. An origin that is not allowed gets none of these fields: the browser then keeps the answer from the
/// page. The request is answered all the same, so this guards no state: see
/// [`RefuseCrossSite`](super::RefuseCrossSite).
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, middleware::Cors};
/// let cors = Cors::of_origins(["https://app.example"]).headers(["content-type"]).credentials(true);
/// let router = Router::new().with(cors).get("/", |_: &mut Request| "hello");
/// let mut request = Request::for_test("GET", "/").with_header("origin", "https://app.example");
/// let answer = router.answer(&mut request);
/// assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
/// ```
#[derive(Clone, Debug)]
pub struct Cors {
    /// `None`: any.
    origins: Option<Vec<HeaderValue>>,
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

impl Cors {
    /// For pages of any origin, without credentials: for what is public anyway.
    pub fn any_origin() -> Self {
        Self {
            origins: None,
            methods: HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE"),
            headers: None,
            exposed: None,
            credentials: false,
            max_age: HeaderValue::from(3600),
        }
    }

    /// For pages of these origins, each as a browser names it: `https://app.example`, with the port if it is not the
    /// usual.
    ///
    /// # Panics
    /// If one is no origin: it has no `://`, or a path, as a trailing `/`.
    #[track_caller]
    pub fn of_origins<'a>(origins: impl IntoIterator<Item = &'a str>) -> Self {
        let origins = origins.into_iter().map(|origin| {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            assert!(
                !host.is_empty() && !host.contains('/'),
                "not an origin: {origin:?}"
            );
            HeaderValue::from_str(origin).unwrap_or_else(|_| panic!("not an origin: {origin:?}"))
        });
        Self {
            origins: Some(origins.collect()),
            ..Self::any_origin()
        }
    }

    /// Which methods pages may use. Default: `GET`, `HEAD`, `POST`, `PUT`, `PATCH` and `DELETE`.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        let names: Vec<_> = methods
            .into_iter()
            .map(|method| method.to_string())
            .collect();
        self.methods = HeaderValue::from_str(&names.join(", ")).expect("methods are tokens");
        self
    }

    /// Which header fields pages may set, beyond those that always may. Default: none.
    ///
    /// # Panics
    /// If one is not a field's name.
    #[track_caller]
    pub fn headers<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.headers = Some(list(names));
        self
    }

    /// Which header fields of the answer pages may read, beyond those that they always may. Default: none.
    ///
    /// # Panics
    /// If one is not a field's name.
    #[track_caller]
    pub fn expose<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.exposed = Some(list(names));
        self
    }

    /// Whether requests with cookies may be read. Default: no.
    ///
    /// # Panics
    /// If any origin is allowed: browsers refuse the two together.
    #[track_caller]
    pub fn credentials(mut self, allowed: bool) -> Self {
        assert!(
            !allowed || self.origins.is_some(),
            "credentials need a list of origins"
        );
        self.credentials = allowed;
        self
    }

    /// How long a browser may remember a preflight, in whole seconds. Default: an hour; browsers have bounds of their
    /// own.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = HeaderValue::from(age.as_secs());
        self
    }

    /// What to say of an origin; `None` if it is not allowed.
    fn allowed(&self, origin: &[u8]) -> Option<HeaderValue> {
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => origins.iter().find(|one| one.as_bytes() == origin).cloned(),
        }
    }

    fn let_read(&self, response: &mut Response, allowed: Option<HeaderValue>) {
        let headers = response.headers_mut();
        if self.origins.is_some() {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            if self.credentials {
                let yes = HeaderValue::from_static("true");
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
            }
        }
    }

    fn preflight(&self, allowed: Option<HeaderValue>) -> Response {
        let mut response = Response::new(StatusCode::NO_CONTENT);
        let may = allowed.is_some();
        self.let_read(&mut response, allowed);
        if may {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
            if let Some(names) = &self.headers {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            }
        }
        response
    }
}

#[track_caller]
fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> HeaderValue {
    let checked = names.into_iter().map(|name| {
        let name = HeaderName::from_bytes(name.as_bytes());
        name.unwrap_or_else(|error| panic!("{error}"))
    });
    let names: Vec<_> = checked.map(|name| name.as_str().to_owned()).collect();
    HeaderValue::from_str(&names.join(", ")).expect("names are tokens")
}

impl Middleware for Cors {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let allowed = request.header("origin").map(|origin| self.allowed(origin));
        let asks_first = request.method() == Method::OPTIONS
            && request.header("access-control-request-method").is_some();
        if let (Some(allowed), true) = (&allowed, asks_first) {
            return self.preflight(allowed.clone());
        }
        let mut response = next.run(request);
        let allowed = allowed.flatten();
        if let (Some(_), Some(names)) = (&allowed, &self.exposed) {
            response
                .headers_mut()
                .insert(ACCESS_CONTROL_EXPOSE_HEADERS, names.clone());
        }
        self.let_read(&mut response, allowed);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Router;

    const HERE: &str = "https://app.example";

    fn ask(cors: Cors, method: &str, fields: &[(&str, &str)]) -> Response {
        let router = Router::new().with(cors).get("/", |_: &mut Request| "hello");
        let request = Request::for_test(method, "/");
        let mut request = fields.iter().fold(request, |request, (name, value)| {
            request.with_header(name, value)
        });
        router.answer(&mut request)
    }

    #[test]
    fn a_preflight_is_answered_before_the_handler() {
        let cors = Cors::of_origins([HERE])
            .headers(["X-Token"])
            .credentials(true);
        let first = [("origin", HERE), ("access-control-request-method", "PUT")];
        let answer = ask(cors.clone(), "OPTIONS", &first);
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(answer.header("access-control-allow-origin"), Some(HERE));
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("x-token")
        );
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            Some("true")
        );
        assert_eq!(answer.header("access-control-max-age"), Some("3600"));
        let foreign = [("origin", "https://b.example"), first[1]];
        let answer = ask(cors, "OPTIONS", &foreign);
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(answer.header("access-control-allow-methods"), None);
    }

    #[test]
    fn caches_are_told_that_answers_differ_by_origin() {
        for origin in [HERE, "https://b.example", "null"] {
            let answer = ask(Cors::of_origins([HERE]), "GET", &[("origin", origin)]);
            assert_eq!(answer.header("vary"), Some("origin"));
            let told = answer.header("access-control-allow-origin");
            assert_eq!(told.is_some(), origin == HERE);
        }
        let answer = ask(Cors::of_origins([HERE]), "GET", &[]);
        assert_eq!(answer.header("vary"), Some("origin"), "that of no page too");
        let answer = ask(Cors::any_origin(), "GET", &[("origin", HERE)]);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("vary"), None);
    }

    #[test]
    #[should_panic(expected = "not an origin")]
    fn an_origin_with_a_path_would_never_match() {
        let _cors = Cors::of_origins(["https://app.example/"]);
    }
}
