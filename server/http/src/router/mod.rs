//! Which handler answers which path and method.

pub(crate) mod params;

use std::fmt;

use http::{Method, StatusCode, header::ALLOW};
use maniple::{inspect::depth_label, log_limit::LogLimit, log_within};

use crate::{
    http1::head::ascii,
    request::Request,
    response::{IntoResponse, Response},
    server::buffers::Scratch,
};

/// Answers requests: any `Fn(&mut Request) -> impl IntoResponse` that threads can share.
///
/// It runs on the connection's coroutine, as plain blocking code. A panic is answered with 500 and ends
/// the connection, not the server.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: &mut Request) -> Response;
}

impl<F, R> Handler for F
where
    F: Fn(&mut Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    #[inline]
    fn call(&self, request: &mut Request) -> Response {
        self(request).into_response()
    }
}

/// Maps paths and methods to handlers.
///
/// Paths are matched as they were sent, without percent-decoding; `{name}` stands for one segment,
/// `{*name}` for the rest, as in `matchit`. Their values are decoded. `HEAD` is answered by `GET`'s
/// handler, `OPTIONS` with the list of methods. No route is 404, no method 405.
///
/// What is written out goes before what stands for anything: `/users/me` beside `/users/{id}`, `/{id}.json`
/// beside `/{id}`. Two that stand for anything at one place conflict, even if one of them would take more:
/// `/{id}` and `/{name}`, also `/{id}` and `/{*rest}`. Write `/{*rest}` alone and look at what it took, or
/// begin one of them with something of its own, such as `/files/{*rest}`.
///
/// `{*name}` stands for at least one byte: `/files/{*rest}` is neither `/files/` nor `/files`, which are routes of
/// their own and may stand beside it. A `/` at the end counts: `/users` is not `/users/`. What no route has is the
/// [`fallback`](Router::fallback)'s.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router};
/// let router = Router::new()
///     .get("/", |_: &mut Request| "hello")
///     .get("/users/{id}", |request: &mut Request| {
///         format!("user {}", request.param("id").unwrap_or("?"))
///     });
/// # let _ = router;
/// ```
#[derive(Default)]
pub struct Router {
    paths: matchit::Router<usize>,
    /// Those of the paths that are written out in full, by their length. What they match, they match before any
    /// other, so that they need not be looked for among all.
    literal: Vec<Vec<(Box<[u8]>, usize)>>,
    routes: Vec<Route>,
    fallback: Option<Box<dyn Handler>>,
    connect: Option<Box<dyn Handler>>,
}

struct Route {
    path: String,
    methods: Vec<(Method, Box<dyn Handler>)>,
    allow: String,
}

/// Why a route was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route {method} {path}: {reason}")]
pub struct RouteError {
    method: Method,
    path: String,
    reason: String,
}

/// What a path and method lead to.
pub(crate) enum Found<'r> {
    Handler(&'r dyn Handler),
    Answer(Box<Response>),
}

impl Router {
    /// A router without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler for `GET`, and `HEAD`.
    ///
    /// # Panics
    /// If the path is malformed, has parameters as other routers write them (`/:id`, `/*rest`, `/<id>`) or conflicts
    /// with another; as for all methods here, since routes are part of the program. [`Router::try_route`] returns an
    /// error instead.
    #[track_caller]
    pub fn get(self, path: &str, handler: impl Handler) -> Self {
        self.route(Method::GET, path, handler)
    }

    /// Adds a handler for `POST`; panics as [`Router::get`].
    #[track_caller]
    pub fn post(self, path: &str, handler: impl Handler) -> Self {
        self.route(Method::POST, path, handler)
    }

    /// Adds a handler for `PUT`; panics as [`Router::get`].
    #[track_caller]
    pub fn put(self, path: &str, handler: impl Handler) -> Self {
        self.route(Method::PUT, path, handler)
    }

    /// Adds a handler for `PATCH`; panics as [`Router::get`].
    #[track_caller]
    pub fn patch(self, path: &str, handler: impl Handler) -> Self {
        self.route(Method::PATCH, path, handler)
    }

    /// Adds a handler for `DELETE`; panics as [`Router::get`].
    #[track_caller]
    pub fn delete(self, path: &str, handler: impl Handler) -> Self {
        self.route(Method::DELETE, path, handler)
    }

    /// Adds a handler for any method; panics as [`Router::get`].
    #[track_caller]
    pub fn route(mut self, method: Method, path: &str, handler: impl Handler) -> Self {
        if let Err(error) = self.try_route(method, path, handler) {
            panic!("{error}");
        }
        self
    }

    /// Adds a handler, or says why not.
    ///
    /// # Errors
    /// If the path is malformed or conflicts with another, or has a handler for the method.
    pub fn try_route(
        &mut self,
        method: Method,
        path: &str,
        handler: impl Handler,
    ) -> Result<(), RouteError> {
        let failed = |reason: String| RouteError {
            method: method.clone(),
            path: path.to_owned(),
            reason,
        };
        if !path.starts_with('/') {
            return Err(failed("path must begin with /".to_owned()));
        }
        if let Some(reason) = path.split('/').find_map(misspelt) {
            return Err(failed(reason));
        }
        let index = match self.routes.iter().position(|route| route.path == path) {
            Some(index) => index,
            None => {
                self.paths
                    .insert(path, self.routes.len())
                    .map_err(|error| failed(error.to_string()))?;
                if !path.contains(['{', '}']) {
                    let least = path.len() + 1;
                    self.literal
                        .resize_with(self.literal.len().max(least), Vec::new);
                    self.literal[path.len()].push((path.as_bytes().into(), self.routes.len()));
                }
                self.routes.push(Route {
                    path: path.to_owned(),
                    methods: Vec::new(),
                    allow: String::new(),
                });
                self.routes.len() - 1
            }
        };
        let route = &mut self.routes[index];
        if route.methods.iter().any(|(other, _)| *other == method) {
            return Err(failed("it has a handler already".to_owned()));
        }
        route.methods.push((method, Box::new(handler)));
        route.allow = route.allowed();
        Ok(())
    }

    /// Answers what no route matches, in place of 404.
    pub fn fallback(mut self, handler: impl Handler) -> Self {
        self.fallback = Some(Box::new(handler));
        self
    }

    /// Adds the handler for `CONNECT`, which names a host and a port in place of a path: [`Request::path`] has them.
    /// Without one the answer is 501.
    ///
    /// It answers with [`Response::tunnel`], or with a refusal. Any other answer that is a success would have the client
    /// take it for a tunnel, so it is logged and sent as 500.
    pub fn connect(mut self, handler: impl Handler) -> Self {
        self.connect = Some(Box::new(move |request: &mut Request| {
            let response = handler.call(request);
            match response.status.is_success() && !response.is_takeover() {
                true => not_a_tunnel(response.status),
                false => response,
            }
        }));
        self
    }

    /// Answers a request: calls the handler for its path and method, or else says that there is none.
    ///
    /// The server calls this for each request, and a test may, with [`Request::for_test`]. What the server adds to an
    /// answer, and leaves out of it for `HEAD`, is not there yet.
    ///
    /// # Panics
    /// If the handler panics.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Request, Router, StatusCode};
    /// let router = Router::new().get("/users/{id}", |request: &mut Request| {
    ///     format!("user {}", request.param("id").unwrap_or("?"))
    /// });
    /// let answer = router.answer(&mut Request::for_test("GET", "/users/7"));
    /// assert_eq!(answer.into_text().unwrap(), "user 7");
    /// let answer = router.answer(&mut Request::for_test("GET", "/"));
    /// assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    /// ```
    #[inline]
    pub fn answer(&self, request: &mut Request) -> Response {
        let found = {
            let Scratch {
                input,
                head,
                params,
                ..
            } = request.exchange.scratch_mut();
            let path = head.path_in(&input.bytes[input.start..]);
            let base = path.as_ptr().addr();
            self.find(&head.method, path, |name, value| {
                let at = head.path.start + (value.as_ptr().addr() - base);
                params.push(name, value, at);
            })
        };
        match found {
            Found::Answer(response) => *response,
            Found::Handler(handler) => handler.call(request),
        }
    }

    /// Finds the handler for a path, which is ASCII; `param` is called with each path parameter's name and value.
    #[inline]
    pub(crate) fn find(
        &self,
        method: &Method,
        path: &[u8],
        param: impl FnMut(&str, &str),
    ) -> Found<'_> {
        let same_length = self.literal.get(path.len());
        match same_length.and_then(|paths| paths.iter().find(|(literal, _)| **literal == *path)) {
            Some((_, route)) => self.routes[*route].answer(method),
            None => self.find_among_all(method, ascii(path), param),
        }
    }

    fn find_among_all(
        &self,
        method: &Method,
        path: &str,
        mut param: impl FnMut(&str, &str),
    ) -> Found<'_> {
        let Ok(matched) = self.paths.at(path) else {
            return self.unmatched(method, path);
        };
        for (name, value) in matched.params.iter() {
            param(name, value);
        }
        self.routes[*matched.value].answer(method)
    }

    #[cold]
    fn unmatched(&self, method: &Method, path: &str) -> Found<'_> {
        depth_label("no route");
        let response = match &self.fallback {
            _ if *method == Method::CONNECT => match &self.connect {
                Some(connect) => return Found::Handler(&**connect),
                None => not_implemented(),
            },
            _ if path == "*" => Response::new(StatusCode::NO_CONTENT),
            Some(fallback) => return Found::Handler(&**fallback),
            None if !is_standard(method) => not_implemented(),
            None => (StatusCode::NOT_FOUND, "not found\n").into_response(),
        };
        Found::Answer(Box::new(response))
    }
}

impl Route {
    #[inline(always)]
    fn answer(&self, method: &Method) -> Found<'_> {
        depth_label(&self.path);
        match self.handler(method) {
            Some(handler) => Found::Handler(handler),
            None => Found::Answer(Box::new(self.refuse(method))),
        }
    }

    #[inline]
    fn handler(&self, method: &Method) -> Option<&dyn Handler> {
        let find = |wanted: &Method| {
            self.methods
                .iter()
                .find(|(method, _)| method == wanted)
                .map(|(_, handler)| &**handler)
        };
        find(method).or_else(|| {
            (*method == Method::HEAD)
                .then(|| find(&Method::GET))
                .flatten()
        })
    }

    #[cold]
    fn refuse(&self, method: &Method) -> Response {
        if !is_standard(method) {
            return not_implemented();
        }
        let response = if *method == Method::OPTIONS {
            Response::new(StatusCode::NO_CONTENT)
        } else {
            (StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n").into_response()
        };
        response.with_header(ALLOW.as_str(), &self.allow)
    }

    fn allowed(&self) -> String {
        let mut names: Vec<&str> = self
            .methods
            .iter()
            .map(|(method, _)| method.as_str())
            .collect();
        for (implied, by) in [("HEAD", "GET"), ("OPTIONS", "")] {
            if !names.contains(&implied) && (by.is_empty() || names.contains(&by)) {
                names.push(implied);
            }
        }
        names.join(", ")
    }
}

/// Why a segment would not do what its writer most likely means, as others' routers write parameters.
#[cold]
fn misspelt(segment: &str) -> Option<String> {
    if let Some(name) = segment.strip_prefix(':').filter(|name| !name.is_empty()) {
        return Some(format!("write {{{name}}} for a parameter"));
    }
    if let Some(name) = segment.strip_prefix('*') {
        let name = if name.is_empty() { "rest" } else { name };
        return Some(format!("write {{*{name}}} for the rest of a path"));
    }
    let named = segment.strip_prefix('<');
    if let Some(name) = named.and_then(|rest| rest.strip_suffix('>')) {
        return Some(match name.strip_suffix("..") {
            Some(rest) => format!("write {{*{rest}}} for the rest of a path"),
            None => format!("write {{{name}}} for a parameter"),
        });
    }
    let plain = segment.replace("{{", "").replace("}}", "");
    match (plain.matches('{').count(), plain.matches('}').count()) {
        (opened, closed) if opened > closed => Some(format!("unclosed {{ in {segment}")),
        (opened, closed) if opened < closed => Some(format!("unopened }} in {segment}")),
        _ => None,
    }
}

/// Whether RFC 9110 or RFC 5789 defines the method: 405 knows it, 501 does not.
fn is_standard(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ]
    .contains(method)
}

/// Any success says to whoever sent a `CONNECT` that what follows the head is the tunnel's (RFC 9110, 9.3.6).
#[cold]
fn not_a_tunnel(status: StatusCode) -> Response {
    static RATE: LogLimit = LogLimit::new(1);
    log_within!(
        RATE,
        error,
        "a handler answered CONNECT with {status} and no tunnel"
    );
    (StatusCode::INTERNAL_SERVER_ERROR, "internal server error\n").into_response()
}

fn not_implemented() -> Response {
    (StatusCode::NOT_IMPLEMENTED, "method not implemented\n").into_response()
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self.routes.iter().map(|route| (&route.path, &route.allow));
        f.debug_map().entries(routes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        Router::new()
            .get("/", |_: &mut Request| "root")
            .post("/", |_: &mut Request| "posted")
            .get("/a/{x}/{*rest}", |_: &mut Request| "deep")
    }

    fn answer(method: Method, path: &str) -> u16 {
        match router().find(&method, path.as_bytes(), |_, _| {}) {
            Found::Handler(_) => 200,
            Found::Answer(response) => response.status().as_u16(),
        }
    }

    #[test]
    fn paths_and_methods_decide() {
        assert_eq!(answer(Method::GET, "/"), 200);
        assert_eq!(answer(Method::HEAD, "/"), 200);
        assert_eq!(answer(Method::PUT, "/"), 405);
        assert_eq!(answer(Method::OPTIONS, "/"), 204);
        assert_eq!(answer(Method::GET, "/nowhere"), 404);
        assert_eq!(answer(Method::from_bytes(b"BREW").unwrap(), "/"), 501);
    }

    #[test]
    fn refusals_list_what_is_allowed() {
        let router = router();
        let Found::Answer(mut response) = router.find(&Method::PUT, b"/", |_, _| {}) else {
            panic!("PUT has no handler");
        };
        assert_eq!(response.headers_mut()["allow"], "GET, POST, HEAD, OPTIONS");
    }

    #[test]
    fn parameters_are_given_by_name() {
        let router = router();
        let mut values = Vec::new();
        let found = router.find(&Method::GET, b"/a/1/2/3", |name, value| {
            values.push((name.to_owned(), value.to_owned()));
        });
        assert!(matches!(found, Found::Handler(_)));
        let expected = [("x", "1"), ("rest", "2/3")];
        assert_eq!(
            values,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn bad_routes_say_what_is_wrong() {
        let mut router = router();
        let twice = router.try_route(Method::GET, "/", |_: &mut Request| "");
        assert_eq!(
            twice.unwrap_err().to_string(),
            "route GET /: it has a handler already"
        );
        assert!(
            router
                .try_route(Method::GET, "x", |_: &mut Request| "")
                .is_err()
        );
        assert!(
            router
                .try_route(Method::GET, "/a/{y}/{*rest}", |_: &mut Request| "")
                .is_err()
        );
    }

    #[test]
    fn parameters_as_others_write_them_are_refused_with_a_hint() {
        let refused = |path: &str| {
            let added = Router::new().try_route(Method::GET, path, |_: &mut Request| "");
            added.unwrap_err().to_string()
        };
        for (path, hint) in [
            ("/users/:id", "write {id} for a parameter"),
            ("/users/:id/posts", "write {id} for a parameter"),
            ("/users/<id>", "write {id} for a parameter"),
            ("/files/*path", "write {*path} for the rest of a path"),
            ("/files/*", "write {*rest} for the rest of a path"),
            ("/files/<path..>", "write {*path} for the rest of a path"),
            ("/users/{id", "unclosed { in {id"),
            ("/users/id}", "unopened } in id}"),
        ] {
            assert_eq!(refused(path), format!("route GET {path}: {hint}"));
        }
        for path in [
            "/things/{id}:cancel",
            "/things/a:b",
            "/2*3",
            "/a<b",
            "/{{a}}",
            "/:",
        ] {
            let added = Router::new().try_route(Method::GET, path, |_: &mut Request| "");
            assert_eq!(added, Ok(()), "{path}");
        }
    }

    #[test]
    fn routes_conflict_where_two_stand_for_anything_and_not_beside_what_is_written_out() {
        let both = |first: &str, second: &str| {
            let mut router = Router::new().get(first, |_: &mut Request| "first");
            router
                .try_route(Method::GET, second, |_: &mut Request| "second")
                .is_ok()
        };
        for (first, second) in [
            ("/{id}", "/{name}"),
            ("/{id}", "/{*rest}"),
            ("/{*rest}", "/{id}"),
            ("/a/{id}/x", "/a/{*rest}"),
        ] {
            assert!(!both(first, second), "{first} {second}");
        }
        for (first, second) in [
            ("/users/me", "/users/{id}"),
            ("/users/me", "/users/{*rest}"),
            ("/files/", "/files/{*rest}"),
            ("/files", "/files/{*rest}"),
            ("/", "/{*rest}"),
            ("/{id}", "/files/{*rest}"),
            ("/{id}.json", "/{id}"),
        ] {
            assert!(both(first, second), "{first} {second}");
        }
    }

    #[test]
    fn a_rest_has_at_least_one_byte() {
        let router = Router::new().get("/files/{*rest}", |_: &mut Request| "files");
        for (path, is_found) in [
            ("/files/a", true),
            ("/files/a/", true),
            ("/files//", true),
            ("/files/", false),
            ("/files", false),
        ] {
            let found = router.find(&Method::GET, path.as_bytes(), |_, _| {});
            assert_eq!(matches!(found, Found::Handler(_)), is_found, "{path}");
        }
    }

    #[test]
    fn a_path_that_is_written_out_is_found_before_all_others() {
        let routes = [
            "/",
            "/a",
            "/b",
            "/ab",
            "/{x}",
            "/a/{x}",
            "/a/b",
            "/a/{x}/c",
            "/a/b/c",
            "/a/b/{*rest}",
            "/c/{*rest}",
            "/c/d",
            "/e/",
            "/{x}/f",
        ];
        let mut router = Router::new();
        for route in routes {
            router = router.get(route, move |_: &mut Request| route);
        }
        let mut parts = vec![String::new()];
        for _ in 0..4 {
            let longer = |path: &String| {
                ["/", "/a", "/b", "/ab", "/c", "/d", "/e", "/f"].map(|part| format!("{path}{part}"))
            };
            parts.extend(parts.iter().flat_map(longer).collect::<Vec<_>>());
        }
        for path in parts.iter().filter(|path| !path.is_empty()) {
            let (mut direct, mut among_all) = (Vec::new(), Vec::new());
            let note = |into: &mut Vec<_>, name: &str, value: &str| {
                into.push((name.to_owned(), value.to_owned()));
            };
            let found = router.find(&Method::GET, path.as_bytes(), |name, value| {
                note(&mut direct, name, value);
            });
            let expected = router.find_among_all(&Method::GET, path, |name, value| {
                note(&mut among_all, name, value);
            });
            let handler = |found| match found {
                Found::Handler(handler) => Some(std::ptr::from_ref(handler).cast::<()>().addr()),
                Found::Answer(_) => None,
            };
            assert_eq!(direct, among_all, "{path}");
            assert_eq!(handler(found), handler(expected), "{path}");
        }
    }
}
