//! Which handler answers which path and method: the routes, and what is around them.
//!
//! How they are added is in `add` and `nest`, which of them a path has in `paths`, a request's way through them in `answer`.

mod add;
mod answer;
mod entry;
mod error;
pub(crate) mod handler;
mod hosts;
mod nest;
pub(crate) mod params;
mod paths;
mod rules;
mod slash;
pub(crate) mod states;
mod subtree;
pub(crate) mod template;
mod unmet;

use std::{fmt, panic::Location, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use maniple::{log_limit::LogLimit, log_within};

pub use self::{entry::Route, error::RouteError, slash::TrailingSlash};
use self::{
    entry::{Endpoint, Entry, Setting, nothing},
    error::or_panic,
    handler::{Handler, IntoHandler},
    hosts::Hosts,
    paths::Paths,
    rules::Rules,
    states::States,
    subtree::Subtree,
};
use crate::{
    files::Files,
    middleware::{Form, Link, Middleware},
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
};

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
/// their own and may stand beside it. A `/` at the end counts: `/users` is not `/users/`, unless
/// [`trailing_slash`](Router::trailing_slash) says otherwise. What no route has is the [`fallback`](Router::fallback)'s.
///
/// Routes are for any host, or for [one](Router::host).
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
pub struct Router {
    paths: Paths,
    entries: Vec<Entry>,
    /// Around everything.
    around: Vec<Link>,
    fallback: Option<Arc<dyn Handler>>,
    /// Of its own, if it came with another router.
    fallback_rules: Rules,
    connect: Option<Arc<dyn Handler>>,
    subtrees: Vec<Subtree>,
    /// With what is around their own routes on each of them, and nothing around all.
    hosts: Option<Box<Hosts<Router>>>,
    form: Option<Arc<Form>>,
    states: Arc<States>,
    /// For all routes that have none of their own.
    rules: Rules,
    /// Stands for the fallbacks where no path matches.
    nowhere: Endpoint,
}

impl Router {
    /// A router without routes.
    pub fn new() -> Self {
        Self {
            paths: Paths::default(),
            entries: Vec::new(),
            around: Vec::new(),
            fallback: None,
            fallback_rules: Rules::default(),
            connect: None,
            subtrees: Vec::new(),
            hosts: None,
            form: None,
            states: Arc::default(),
            rules: Rules::default(),
            nowhere: Endpoint::new(Box::new(nothing), &[], Location::caller()),
        }
    }

    /// Adds a handler for `GET`, and `HEAD`.
    ///
    /// # Panics
    /// If the path is malformed, has parameters as other routers write them (`/:id`, `/*rest`, `/<id>`) or conflicts
    /// with another; as for all methods here, since routes are part of the program. [`Router::try_route`] returns an
    /// error instead.
    #[track_caller]
    pub fn get<K>(self, path: &str, handler: impl IntoHandler<K>) -> Self {
        self.route(Method::GET, path, handler)
    }

    /// Answers `GET` and `HEAD` below a prefix with files: `/static`, `/static/` and all below it. `/` is for all that has no
    /// other route. See [`Files`] for an example.
    ///
    /// # Panics
    /// If the prefix does not begin with `/`, ends with one, or has a `{*rest}`; and as [`Router::get`].
    #[track_caller]
    pub fn files(self, prefix: &str, files: Files) -> Self {
        let prefix = if prefix == "/" { "" } else { prefix };
        let is_prefix = prefix.is_empty() || prefix.starts_with('/');
        assert!(
            is_prefix && !prefix.ends_with('/') && !prefix.contains("{*"),
            "files {prefix}: a prefix begins with / and ends before one, without a {{*rest}}"
        );
        let with_slash = self
            .get(&format!("{prefix}/{{*path}}"), files.clone())
            .get(&format!("{prefix}/"), files.clone());
        match prefix {
            "" => with_slash,
            prefix => with_slash.get(prefix, files),
        }
    }

    /// Adds a handler for `POST`; panics as [`Router::get`].
    #[track_caller]
    pub fn post<K>(self, path: &str, handler: impl IntoHandler<K>) -> Self {
        self.route(Method::POST, path, handler)
    }

    /// Adds a handler for `PUT`; panics as [`Router::get`].
    #[track_caller]
    pub fn put<K>(self, path: &str, handler: impl IntoHandler<K>) -> Self {
        self.route(Method::PUT, path, handler)
    }

    /// Adds a handler for `PATCH`; panics as [`Router::get`].
    #[track_caller]
    pub fn patch<K>(self, path: &str, handler: impl IntoHandler<K>) -> Self {
        self.route(Method::PATCH, path, handler)
    }

    /// Adds a handler for `DELETE`; panics as [`Router::get`].
    #[track_caller]
    pub fn delete<K>(self, path: &str, handler: impl IntoHandler<K>) -> Self {
        self.route(Method::DELETE, path, handler)
    }

    /// Adds a handler for all methods that the path has no other handler for; panics as [`Router::get`].
    #[track_caller]
    pub fn any<K>(self, path: &str, handler: impl IntoHandler<K>) -> Self {
        self.at(path, Route::new().any(handler))
    }

    /// Adds a handler for any one method; panics as [`Router::get`].
    #[track_caller]
    pub fn route<K>(mut self, method: Method, path: &str, handler: impl IntoHandler<K>) -> Self {
        or_panic(self.try_route(method, path, handler));
        self
    }

    /// Adds a handler, or says why not.
    ///
    /// # Errors
    /// If the path is malformed or conflicts with another, or has a handler for the method. The error names both.
    #[track_caller]
    pub fn try_route<K>(
        &mut self,
        method: Method,
        path: &str,
        handler: impl IntoHandler<K>,
    ) -> Result<(), RouteError> {
        self.try_at(path, Route::new().on(method, handler))
    }

    /// Adds the handlers of a path, with what is around them; panics as [`Router::get`].
    ///
    /// A path may be given several times, with other methods.
    #[track_caller]
    pub fn at(mut self, path: &str, route: Route) -> Self {
        or_panic(self.try_at(path, route));
        self
    }

    /// Adds the handlers of a path, or says why not.
    ///
    /// # Errors
    /// Those of [`Router::try_route`]; handlers before the one that is at fault have been added.
    #[track_caller]
    pub fn try_at(&mut self, path: &str, route: Route) -> Result<(), RouteError> {
        for (method, handler) in route.handlers {
            let mut endpoint = Endpoint::new(handler, &route.around, Location::caller());
            endpoint.own_rules = route.rules;
            self.add(method, path, &[], endpoint)?;
        }
        Ok(())
    }

    /// Puts a middleware around everything that this router answers, also 404 and 405: routes that were added before
    /// and those that are added later.
    ///
    /// The first that was added is the outermost. A middleware runs once the route is known, so that
    /// [`Request::route`] has it.
    pub fn with(mut self, middleware: impl Middleware) -> Self {
        self.around.push(Arc::new(middleware));
        self.settle_endpoints();
        self
    }

    /// After a change to what all of them have.
    fn settle_endpoints(&mut self) {
        let setting = Setting {
            states: &self.states,
            rules: self.rules,
            is_bare: self.around.is_empty() && self.form.is_none(),
        };
        let of_hosts = self.hosts.iter_mut().flat_map(|hosts| hosts.iter_mut());
        let of_hosts = of_hosts.flat_map(|host| &mut host.routes.entries);
        let entries = self.entries.iter_mut().chain(of_hosts);
        let endpoints = entries.flat_map(Entry::endpoints_mut);
        endpoints.for_each(|endpoint| endpoint.settle(&setting));
    }

    /// What becomes of paths that no route of this router has, but one would with a `/` more or less at the end; whether its
    /// routes are added before or after. Default: [`TrailingSlash::Strict`].
    ///
    /// What is nested or merged may say otherwise. A path that has a route of its own is answered by that. With a method that
    /// the other path does not have, the answer is 405. Middleware sees the route that there is.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Request, Router, TrailingSlash};
    ///
    /// let router = Router::new()
    ///     .trailing_slash(TrailingSlash::Redirect)
    ///     .get("/users/", |_: &mut Request| "all")
    ///     .get("/users/{id}", |_: &mut Request| "one");
    /// let answer = router.answer(&mut Request::for_test("GET", "/users?page=2"));
    /// assert_eq!(answer.status(), 308);
    /// assert_eq!(answer.header("location"), Some("/users/?page=2"));
    /// ```
    pub fn trailing_slash(mut self, policy: TrailingSlash) -> Self {
        self.rules.slash = Some(policy);
        self.settle_endpoints();
        self
    }

    /// Bounds the bodies of requests to this router, whether its routes are added before or after: in place of the
    /// server's [`max_body_bytes`](crate::server::Builder::max_body_bytes), so to less or to more.
    ///
    /// What is nested or merged, and a [`Route`], may say otherwise: what is further in counts. The limit holds before
    /// anything of the body is read. A body whose length was told is answered 413 then, within what is around the
    /// route, and is not asked for by `100 Continue`; one in chunks fails when it goes beyond. Of a compressed body
    /// it bounds what travels. A [`BodyLimit`](crate::middleware::BodyLimit) lowers it further.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{BodyError, Request, Route, Router, StatusCode};
    ///
    /// fn count(request: &mut Request) -> Result<String, BodyError> {
    ///     Ok(format!("{} bytes", request.read_body()?.len()))
    /// }
    ///
    /// let router = Router::new()
    ///     .max_body_bytes(1024)
    ///     .post("/notes", count)
    ///     .at("/pictures", Route::new().max_body_bytes(50 * 1024 * 1024).post(count));
    /// let post = |path| router.answer(&mut Request::for_test("POST", path).with_body(vec![b'x'; 4096]));
    /// assert_eq!(post("/notes").status(), StatusCode::PAYLOAD_TOO_LARGE);
    /// assert_eq!(post("/pictures").into_text().unwrap(), "4096 bytes");
    /// ```
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.rules.body = Some(bytes);
        self.settle_endpoints();
        self
    }

    /// Cuts the waits of this router's handlers after a time, and answers 503, whether its routes are added before or after.
    ///
    /// What is nested or merged, and a [`Route`], may say otherwise, also with more: what is further in counts. It is the
    /// handler's time, extractors included, and not that of what is around it: for that there is
    /// [`Timeout`](crate::middleware::Timeout), which also says what becomes of what is cut. There is none by default.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use maniple_server::{Request, Route, Router, StatusCode};
    ///
    /// let slow = |_: &mut Request| maniple::sleep(Duration::from_millis(100));
    /// let router = Router::new()
    ///     .timeout(Duration::from_millis(10))
    ///     .get("/page", slow)
    ///     .at("/report", Route::new().timeout(Duration::from_secs(60)).get(slow));
    /// maniple::run(move || {
    ///     let get = |path| router.answer(&mut Request::for_test("GET", path)).status();
    ///     assert_eq!(get("/page"), StatusCode::SERVICE_UNAVAILABLE);
    ///     assert_eq!(get("/report"), StatusCode::OK);
    /// });
    /// ```
    pub fn timeout(mut self, after: Duration) -> Self {
        self.rules.time = Some(after);
        self.settle_endpoints();
        self
    }

    /// Gives all handlers of this router a value to share, whether they are added before or after: as an argument of
    /// type [`State<T>`](crate::extract::State), or by [`Request::state`]; middleware too. There is one of each type.
    ///
    /// A router that is nested or merged keeps its own, and has this router's of other types. A server does not start
    /// while a [`State`](crate::extract::State) is not set.
    ///
    /// # Examples
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    /// use maniple_server::{Request, Router, extract::State};
    ///
    /// fn count(State(hits): State<Arc<AtomicU64>>) -> String {
    ///     format!("{} before you", hits.fetch_add(1, Ordering::Relaxed))
    /// }
    ///
    /// let router = Router::new().get("/", count).state(Arc::new(AtomicU64::new(7)));
    /// let answer = router.answer(&mut Request::for_test("GET", "/"));
    /// assert_eq!(answer.into_text().unwrap(), "7 before you");
    /// ```
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        Arc::make_mut(&mut self.states).set(value);
        self.settle_endpoints();
        self
    }

    /// Gives answers that tell what is wrong another form than a line of text: the router's 404, 405 and 501, those of
    /// extractors, of [`BodyError`](crate::BodyError) and of any [`Problem`] that a handler or middleware returns, and
    /// statuses of 4xx and 5xx without a body. Of a [server](crate::Server)'s router it also forms what the server
    /// answers in a handler's place: 500 for a panic, and 400, 408, 413, 414, 431 and the like for a request that comes to
    /// no handler; of those there is no [`Request`].
    ///
    /// A problem has its form before the next middleware further out sees the answer. Its status is used where `form`
    /// returns one of 200, and fields that the answer has, such as `Allow`, are kept. A panic in `form` is answered with
    /// 500 and a line of text. A router that is nested or merged forms what is answered below it, if it has a form.
    ///
    /// # Examples
    /// `application/problem+json` for all:
    /// ```
    /// use maniple_server::{Problem, Request, Router};
    /// let router = Router::new().on_error(|problem: &Problem, _: Option<&Request>| problem.to_json());
    /// let answer = router.answer(&mut Request::for_test("GET", "/nowhere"));
    /// assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    /// let text = answer.into_text().unwrap();
    /// assert_eq!(text, r#"{"title":"Not Found","status":404,"detail":"not found"}"#);
    /// ```
    pub fn on_error<R: IntoResponse>(
        mut self,
        form: impl Fn(&Problem, Option<&Request>) -> R + Send + Sync + 'static,
    ) -> Self {
        self.form = Some(Arc::new(move |problem: &Problem, request| {
            form(problem, request).into_response()
        }));
        self.settle_endpoints();
        self
    }

    /// Answers what no route matches, in place of 404.
    pub fn fallback<K>(mut self, handler: impl IntoHandler<K>) -> Self {
        self.fallback = Some(Arc::new(handler.into_handler()));
        self
    }

    /// Adds the handler for `CONNECT`, which names a host and a port in place of a path: [`Request::path`] has them.
    /// Without one the answer is 501. An answer that makes no tunnel ends the connection: what comes behind may have been sent
    /// for the tunnel.
    ///
    /// It answers with [`Response::tunnel`], or with a refusal. Any other answer that is a success would have the client
    /// take it for a tunnel, so it is logged and sent as 500.
    pub fn connect<K>(mut self, handler: impl IntoHandler<K>) -> Self {
        let handler = handler.into_handler();
        self.connect = Some(Arc::new(move |request: &mut Request| {
            let response = handler.call(request);
            match response.status.is_success() && !response.is_takeover() {
                true => not_a_tunnel(response.status),
                false => response,
            }
        }));
        self
    }

    fn setting(&self) -> Setting<'_> {
        Setting {
            states: &self.states,
            rules: self.rules,
            is_bare: self.around.is_empty() && self.form.is_none(),
        }
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

/// Any success says to the client of a `CONNECT` that what follows the head is the tunnel's (RFC 9110, 9.3.6).
#[cold]
fn not_a_tunnel(status: StatusCode) -> Response {
    static RATE: LogLimit = LogLimit::new(1);
    log_within!(
        RATE,
        error,
        "a handler answered CONNECT with {status} and no tunnel"
    );
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal server error").into_response()
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self
            .entries
            .iter()
            .map(|entry| (&entry.path, entry.allowed()));
        let hosts = self.hosts.iter().flat_map(|hosts| hosts.iter());
        let hosts = hosts.map(|host| (&host.written, &host.routes));
        f.debug_map().entries(routes).entries(hosts).finish()
    }
}
