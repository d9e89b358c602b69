//! Which handler answers which path and method.

mod entry;
pub(crate) mod handler;
pub(crate) mod params;
pub(crate) mod states;
mod subtree;
pub(crate) mod template;

use std::{fmt, panic::Location, sync::Arc};

use http::{Method, StatusCode};
use maniple::{inspect::depth_label, log_limit::LogLimit, log_within, panics};

pub use self::entry::Route;
use self::{
    entry::{Endpoint, Entry, is_standard, not_implemented},
    handler::{Handler, IntoHandler},
    states::{Needs, States},
    subtree::Subtree,
};
use crate::{
    files::Files,
    http1::head::ascii,
    middleware::{Form, Link, Middleware, Next, give_form},
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
    server::buffers::Scratch,
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
pub struct Router {
    paths: matchit::Router<usize>,
    /// Those of the paths that are written out in full, by their length. What they match, they match before any
    /// other, so that they need not be looked for among all.
    literal: Vec<Vec<(Box<[u8]>, usize)>>,
    entries: Vec<Entry>,
    /// Around everything.
    around: Vec<Link>,
    fallback: Option<Arc<dyn Handler>>,
    connect: Option<Arc<dyn Handler>>,
    subtrees: Vec<Subtree>,
    form: Option<Arc<Form>>,
    states: Arc<States>,
    /// Stands for the fallbacks where no path matches.
    nowhere: Endpoint,
}

/// Why a route was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{route}: {reason}")]
pub struct RouteError {
    /// Its method and path.
    route: String,
    reason: String,
}

impl Router {
    /// A router without routes.
    pub fn new() -> Self {
        Self {
            paths: matchit::Router::new(),
            literal: Vec::new(),
            entries: Vec::new(),
            around: Vec::new(),
            fallback: None,
            connect: None,
            subtrees: Vec::new(),
            form: None,
            states: Arc::default(),
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
            let endpoint = Endpoint::new(handler, &route.around, Location::caller());
            self.add(method, path, &[], endpoint)?;
        }
        Ok(())
    }

    /// Adds all that another router has, below a prefix.
    ///
    /// Its `/` is the prefix itself. What is around its routes ([`Router::with`]) stays around them, inside of what is
    /// around this router's, and is around the answers 404 and 405 below the prefix too. Its
    /// [`fallback`](Router::fallback), if it has one, answers what no route below the prefix matches. The prefix may
    /// have parameters.
    ///
    /// # Panics
    /// If a route is one that [`Router::get`] refuses, the prefix does not begin with `/` or ends with it, or both have a
    /// handler for [`CONNECT`](Router::connect). [`Router::merge`] needs no prefix.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Request, Router};
    /// let users = Router::new()
    ///     .get("/", |_: &mut Request| "all")
    ///     .get("/{id}", |request: &mut Request| request.param("id").unwrap_or("?").to_owned())
    ///     .fallback(|_: &mut Request| "no such thing of a user");
    /// let router = Router::new().nest("/users", users);
    /// let get = |path| router.answer(&mut Request::for_test("GET", path)).into_text().unwrap();
    /// assert_eq!(get("/users"), "all");
    /// assert_eq!(get("/users/7"), "7");
    /// assert_eq!(get("/users/7/shoes"), "no such thing of a user");
    /// ```
    #[track_caller]
    pub fn nest(mut self, prefix: &str, router: Router) -> Self {
        or_panic(self.try_nest(prefix, router));
        self
    }

    /// Adds all that another router has below a prefix, or says why not.
    ///
    /// # Errors
    /// Where [`Router::nest`] panics; routes before the one that is at fault have been added.
    pub fn try_nest(&mut self, prefix: &str, router: Router) -> Result<(), RouteError> {
        if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains("{*") {
            return Err(RouteError {
                route: format!("nest {prefix}"),
                reason: "a prefix begins with / and ends before one, without a {*rest}".to_owned(),
            });
        }
        self.take_in(prefix, router)
    }

    /// Adds all that another router has. What is around its routes stays around them, and around no others.
    ///
    /// # Panics
    /// If a route is one that [`Router::get`] refuses, or both have a [`fallback`](Router::fallback), or a handler for
    /// [`CONNECT`](Router::connect).
    #[track_caller]
    pub fn merge(mut self, router: Router) -> Self {
        or_panic(self.try_merge(router));
        self
    }

    /// Adds all that another router has, or says why not.
    ///
    /// # Errors
    /// Where [`Router::merge`] panics; routes before the one that is at fault have been added.
    pub fn try_merge(&mut self, router: Router) -> Result<(), RouteError> {
        self.take_in("", router)
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
        let is_bare = self.is_bare();
        let endpoints = self.entries.iter_mut().flat_map(Entry::endpoints_mut);
        endpoints.for_each(|endpoint| endpoint.settle(&self.states, is_bare));
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

    /// Which handlers need states that are not set, a line each.
    pub(crate) fn unmet_needs(&self) -> Vec<String> {
        let mut unmet = Vec::new();
        let mut look = |what: &str, handler: &dyn Handler, states: Option<&Arc<States>>| {
            let mut needs = Needs::of(states.unwrap_or(&self.states));
            handler.needs(&mut needs);
            let missing = needs.missing().iter();
            unmet.extend(
                missing.map(|of| format!("{what} needs a State<{of}>: call Router::state")),
            );
        };
        for entry in &self.entries {
            let methods = entry.methods.iter();
            let methods = methods.map(|(method, endpoint)| (method.as_str(), endpoint));
            let any = entry.any.iter().map(|endpoint| ("(any method)", endpoint));
            for (method, endpoint) in methods.chain(any) {
                let what = format!("route {method} {}", entry.path);
                look(&what, &*endpoint.handler, endpoint.states.as_ref());
            }
        }
        for subtree in &self.subtrees {
            if let Some(fallback) = &subtree.fallback {
                let states = States::below(subtree.own_states.as_ref(), &self.states);
                look(
                    &format!("the fallback of {}", subtree.prefix),
                    &**fallback,
                    states.as_ref(),
                );
            }
        }
        if let Some(fallback) = &self.fallback {
            look("the fallback", &**fallback, None);
        }
        if let Some(connect) = &self.connect {
            look("the handler for CONNECT", &**connect, None);
        }
        unmet
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

    /// A problem that comes to no handler, in the form that it has here.
    #[cold]
    pub(crate) fn tell(&self, problem: Problem, request: Option<&Request>) -> Response {
        let plain = problem.clone().into_response();
        let Some(form) = &self.form else {
            return plain;
        };
        let formed = panics::catch(|| give_form(&**form, problem.into_response(), request));
        formed.unwrap_or(plain)
    }

    /// Answers what no route matches, in place of 404.
    pub fn fallback<K>(mut self, handler: impl IntoHandler<K>) -> Self {
        self.fallback = Some(Arc::new(handler.into_handler()));
        self
    }

    /// Adds the handler for `CONNECT`, which names a host and a port in place of a path: [`Request::path`] has them.
    /// Without one the answer is 501.
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

    /// Answers a request: calls the handler for its path and method, or else says that there is none.
    ///
    /// The server calls this for each request, and a test may, with [`Request::for_test`]. What the server adds to an
    /// answer, and leaves out of it for `HEAD`, is not there yet.
    ///
    /// # Panics
    /// If the handler panics, or a middleware.
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
        let scratch = request.exchange.scratch_mut();
        let endpoint = {
            let Scratch {
                input,
                head,
                params,
                ..
            } = &mut *scratch;
            let path = head.path_in(&input.bytes[input.start..]);
            let base = path.as_ptr().addr();
            self.find(&head.method, path, |name, value| {
                let at = head.path.start + (value.as_ptr().addr() - base);
                params.push(name, value, at);
            })
        };
        scratch.route = endpoint.template;
        if endpoint.is_bare {
            return endpoint.handler.call(request);
        }
        self.answer_within(endpoint, request)
    }

    #[inline(never)]
    fn answer_within(&self, endpoint: &Endpoint, request: &mut Request) -> Response {
        if endpoint.template.is_none() {
            return self.answer_without_route(request);
        }
        let states = endpoint.states.clone();
        self.run(states, &endpoint.around, &*endpoint.handler, request)
    }

    #[cold]
    fn answer_without_route(&self, request: &mut Request) -> Response {
        depth_label("no route");
        if *request.method() == Method::CONNECT {
            let handler = self.connect.as_deref().unwrap_or(&*self.nowhere.handler);
            return self.run(self.all_states(), &[], handler, request);
        }
        let path = request.path();
        let subtrees = self.subtrees.iter().filter(|subtree| subtree.has(path));
        let mut subtrees: Vec<_> = subtrees.collect();
        subtrees.sort_by_key(|subtree| std::cmp::Reverse(subtree.depth()));
        let fallbacks = subtrees.iter().map(|subtree| &subtree.fallback);
        let fallback = match path {
            "*" => None,
            _ => fallbacks.chain([&self.fallback]).find_map(Option::as_ref),
        };
        let inner = subtrees.first().map_or(&[][..], |deepest| &deepest.around);
        let handler = fallback.map_or(&*self.nowhere.handler, |fallback| &**fallback);
        let states = match subtrees.iter().find(|subtree| subtree.fallback.is_some()) {
            Some(subtree) => States::below(subtree.own_states.as_ref(), &self.states),
            None => self.all_states(),
        };
        self.run(states, inner, handler, request)
    }

    fn all_states(&self) -> Option<Arc<States>> {
        States::below(None, &self.states)
    }

    fn run(
        &self,
        states: Option<Arc<States>>,
        inner: &[Link],
        handler: &dyn Handler,
        request: &mut Request,
    ) -> Response {
        if states.is_some() {
            request.exchange.scratch_mut().set_states(states);
        }
        let next = Next::new(&self.around, inner, handler);
        next.with_form(self.form.as_deref()).run(request)
    }

    /// Finds what answers a path, which is ASCII; `param` is called with each path parameter's name and value.
    #[inline]
    fn find(&self, method: &Method, path: &[u8], param: impl FnMut(&str, &str)) -> &Endpoint {
        let same_length = self.literal.get(path.len());
        match same_length.and_then(|paths| paths.iter().find(|(literal, _)| **literal == *path)) {
            Some((_, entry)) => self.entries[*entry].find(method),
            None => self.find_among_all(method, ascii(path), param),
        }
    }

    fn find_among_all(
        &self,
        method: &Method,
        path: &str,
        mut param: impl FnMut(&str, &str),
    ) -> &Endpoint {
        let Ok(matched) = self.paths.at(path) else {
            return &self.nowhere;
        };
        for (name, value) in matched.params.iter() {
            param(name, value);
        }
        self.entries[*matched.value].find(method)
    }

    /// Whether nothing is around all of its routes.
    fn is_bare(&self) -> bool {
        self.around.is_empty() && self.form.is_none()
    }

    /// Adds what answers a method of a path, or any; `around` is what is around the answers to methods that it has not.
    fn add(
        &mut self,
        method: Option<Method>,
        path: &str,
        around: &[Link],
        mut endpoint: Endpoint,
    ) -> Result<(), RouteError> {
        let name = method.as_ref().map_or("(any method)", Method::as_str);
        let failed = |reason: String| RouteError {
            route: format!("route {name} {path}"),
            reason,
        };
        if !path.starts_with('/') {
            return Err(failed("path must begin with /".to_owned()));
        }
        if let Some(reason) = path.split('/').find_map(misspelt) {
            return Err(failed(reason));
        }
        let template = template::keep(path);
        let index = match self.entries.iter().position(|entry| entry.path == path) {
            Some(index) => index,
            None => {
                self.paths
                    .insert(path, self.entries.len())
                    .map_err(|error| failed(error.to_string()))?;
                if !path.contains(['{', '}']) {
                    let least = path.len() + 1;
                    self.literal
                        .resize_with(self.literal.len().max(least), Vec::new);
                    self.literal[path.len()].push((path.as_bytes().into(), self.entries.len()));
                }
                let mut refusal = Endpoint::new(Box::new(nothing), around, endpoint.added);
                refusal.template = Some(template);
                refusal.own_states.clone_from(&endpoint.own_states);
                refusal.settle(&self.states, self.is_bare());
                self.entries.push(Entry::new(path, refusal));
                self.entries.len() - 1
            }
        };
        let is_bare = self.is_bare();
        let entry = &mut self.entries[index];
        if let Some(place) = entry.taken(method.as_ref()) {
            return Err(failed(format!("it has a handler already, of {place}")));
        }
        endpoint.template = Some(template);
        endpoint.settle(&self.states, is_bare);
        entry.add(method, endpoint);
        Ok(())
    }

    /// Adds all that another router has, below a prefix or none.
    fn take_in(&mut self, prefix: &str, mut router: Router) -> Result<(), RouteError> {
        if let Some(form) = router.form.take() {
            let around =
                move |request: &mut Request, next: Next<'_>| next.run_in_form(&*form, request);
            router.around.insert(0, Arc::new(around));
        }
        let join = |inner: Box<[Link]>| -> Box<[Link]> {
            router.around.iter().cloned().chain(inner).collect()
        };
        for entry in router.entries {
            let path = match (prefix, &*entry.path) {
                ("", path) => path.to_owned(),
                (prefix, "/") => prefix.to_owned(),
                (prefix, path) => format!("{prefix}{path}"),
            };
            let around = join(entry.refusal.around);
            let methods = entry.methods.into_iter();
            let methods = methods.map(|(method, endpoint)| (Some(method), endpoint));
            for (method, endpoint) in methods.chain(entry.any.map(|endpoint| (None, endpoint))) {
                let endpoint = Endpoint {
                    around: join(endpoint.around),
                    own_states: endpoint.states.clone(),
                    ..endpoint
                };
                self.add(method, &path, &around, endpoint)?;
            }
        }
        for subtree in router.subtrees {
            self.subtrees.push(Subtree {
                prefix: format!("{prefix}{}", subtree.prefix),
                around: join(subtree.around),
                fallback: subtree.fallback,
                own_states: States::below(subtree.own_states.as_ref(), &router.states),
            });
        }
        // Only what is its own goes around it.
        let alone = |handler: Arc<dyn Handler>| -> Arc<dyn Handler> {
            let (around, states) = (join(Box::default()), States::below(None, &router.states));
            Arc::new(move |request: &mut Request| {
                if states.is_some() {
                    request.exchange.scratch_mut().set_states(states.clone());
                }
                Next::new(&around, &[], &*handler).run(request)
            })
        };
        let both_have = |what: &str| RouteError {
            route: format!("all routes of another router below \"{prefix}\""),
            reason: format!("both have {what}"),
        };
        if let Some(connect) = router.connect.map(alone)
            && self.connect.replace(connect).is_some()
        {
            return Err(both_have("a handler for CONNECT"));
        }
        if !prefix.is_empty() {
            self.subtrees.push(Subtree {
                prefix: prefix.to_owned(),
                around: join(Box::default()),
                fallback: router.fallback,
                own_states: States::below(None, &router.states),
            });
        } else if let Some(fallback) = router.fallback.map(alone)
            && self.fallback.replace(fallback).is_some()
        {
            return Err(both_have("a fallback"));
        }
        Ok(())
    }
}

impl Route {
    /// Puts a middleware around these handlers, whether they are added before or after. The first that was added is the
    /// outermost.
    pub fn with(mut self, middleware: impl Middleware) -> Self {
        self.around.push(Arc::new(middleware));
        self
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

#[track_caller]
fn or_panic(added: Result<(), RouteError>) {
    if let Err(error) = added {
        panic!("{error}");
    }
}

/// Answers where there is no route.
fn nothing(request: &mut Request) -> Response {
    match request.path() {
        _ if *request.method() == Method::CONNECT => not_implemented(),
        "*" => Response::new(StatusCode::NO_CONTENT),
        _ if !is_standard(request.method()) => not_implemented(),
        _ => Problem::new(StatusCode::NOT_FOUND, "not found").into_response(),
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
        let mut request = Request::for_test(method.as_str(), path);
        router().answer(&mut request).status().as_u16()
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
        let answer = router.answer(&mut Request::for_test("PUT", "/"));
        assert_eq!(answer.header("allow"), Some("GET, POST, HEAD, OPTIONS"));
    }

    #[test]
    fn parameters_are_given_by_name() {
        let router = router();
        let mut values = Vec::new();
        let found = router.find(&Method::GET, b"/a/1/2/3", |name, value| {
            values.push((name.to_owned(), value.to_owned()));
        });
        assert!(found.template.is_some());
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
        let twice = twice.unwrap_err().to_string();
        let place = "route GET /: it has a handler already, of server/http/src/router/mod.rs:";
        assert!(twice.starts_with(place), "{twice}");
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
            assert_eq!(found.template.is_some(), is_found, "{path}");
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
            assert_eq!(direct, among_all, "{path}");
            assert_eq!(found.template, expected.template, "{path}");
        }
    }
}
