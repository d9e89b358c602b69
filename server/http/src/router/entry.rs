//! One path of a router: what answers it, by method, and what is around that.

use std::{fmt, panic::Location, sync::Arc, time::Duration};

use http::{Method, StatusCode, header::ALLOW};
use maniple::inspect::depth_label;

use super::{
    handler::{Handler, IntoHandler},
    rules::Rules,
    states::States,
    template::Template,
};
use crate::{
    middleware::{Link, Middleware},
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
};

/// What answers one path by its methods, with what is around it: for [`Router::at`](crate::Router::at).
///
/// # Examples
/// ```
/// use maniple_server::{Request, Response, Route, Router, StatusCode, middleware::Next};
///
/// fn only_with_a_key(request: &mut Request, next: Next<'_>) -> Result<Response, StatusCode> {
///     match request.header("x-key") {
///         Some(_) => Ok(next.run(request)),
///         None => Err(StatusCode::FORBIDDEN),
///     }
/// }
///
/// let router = Router::new()
///     .get("/notes", |_: &mut Request| "for all to read")
///     .at("/notes", Route::new().with(only_with_a_key).post(|_: &mut Request| "noted"));
/// let answer = router.answer(&mut Request::for_test("POST", "/notes"));
/// assert_eq!(answer.status(), StatusCode::FORBIDDEN);
/// ```
#[derive(Default)]
#[must_use = "a route is added to a router by `Router::at`"]
pub struct Route {
    /// For a method, or any.
    pub(super) handlers: Vec<(Option<Method>, Box<dyn Handler>)>,
    pub(super) around: Vec<Link>,
    pub(super) rules: Rules,
}

/// What answers a method of a path, or all that no route has.
pub(super) struct Endpoint {
    /// `None` where there is no route.
    pub(super) template: Option<Template>,
    /// Whether nothing is around the handler, nor around the whole router.
    pub(super) is_bare: bool,
    /// Below what is around the whole router.
    pub(super) around: Box<[Link]>,
    pub(super) handler: Box<dyn Handler>,
    /// Of the router that it was added to, if it was taken in with that.
    pub(super) own_states: Option<Arc<States>>,
    /// These, and those of the router that it is in now.
    pub(super) states: Option<Arc<States>>,
    /// Of the route, or the router that it was added to.
    pub(super) own_rules: Rules,
    /// These, within those of the router that it is in now.
    pub(super) rules: Rules,
    pub(super) added: &'static Location<'static>,
}

/// What all endpoints of a router have.
pub(super) struct Setting<'a> {
    pub(super) states: &'a Arc<States>,
    pub(super) rules: Rules,
    /// Whether nothing is around them.
    pub(super) is_bare: bool,
}

/// A path of a router.
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) methods: Vec<(Method, Endpoint)>,
    pub(super) any: Option<Endpoint>,
    /// Answers methods that the path does not have.
    pub(super) refusal: Endpoint,
}

struct Refusal {
    allow: String,
}

impl Entry {
    pub(super) fn new(path: &str, refusal: Endpoint) -> Self {
        Self {
            path: path.to_owned(),
            methods: Vec::new(),
            any: None,
            refusal,
        }
    }

    pub(super) fn endpoints_mut(&mut self) -> impl Iterator<Item = &mut Endpoint> {
        let methods = self.methods.iter_mut().map(|(_, endpoint)| endpoint);
        methods.chain(&mut self.any).chain([&mut self.refusal])
    }

    /// Where the method got its handler, if it has one.
    pub(super) fn taken(&self, method: Option<&Method>) -> Option<&'static Location<'static>> {
        let endpoint = match method {
            None => self.any.as_ref(),
            Some(method) => {
                let mut methods = self.methods.iter();
                methods.find(|(other, _)| other == method).map(|of| &of.1)
            }
        };
        endpoint.map(|endpoint| endpoint.added)
    }

    /// Adds what answers a method, or any that has no answer of its own.
    pub(super) fn add(&mut self, method: Option<Method>, endpoint: Endpoint) {
        match method {
            Some(method) => self.methods.push((method, endpoint)),
            None => self.any = Some(endpoint),
        }
        let allow = self.allowed();
        self.refusal.handler = Box::new(Refusal { allow });
    }

    #[inline(always)]
    pub(super) fn find(&self, method: &Method) -> &Endpoint {
        depth_label(&self.path);
        let find = |wanted: &Method| {
            self.methods
                .iter()
                .find(|(method, _)| method == wanted)
                .map(|(_, endpoint)| endpoint)
        };
        find(method).unwrap_or_else(|| {
            (*method == Method::HEAD)
                .then(|| find(&Method::GET))
                .flatten()
                .or(self.any.as_ref())
                .unwrap_or(&self.refusal)
        })
    }

    pub(super) fn allowed(&self) -> String {
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

impl Endpoint {
    /// One that was not taken in from another router, and is in none yet.
    pub(super) fn new(
        handler: Box<dyn Handler>,
        around: &[Link],
        added: &'static Location<'static>,
    ) -> Self {
        Self {
            template: None,
            is_bare: false,
            around: around.into(),
            handler,
            own_states: None,
            states: None,
            own_rules: Rules::default(),
            rules: Rules::default(),
            added,
        }
    }

    /// Makes it one of a router.
    pub(super) fn settle(&mut self, router: &Setting<'_>) {
        self.states = States::below(self.own_states.as_ref(), router.states);
        self.rules = self.own_rules.within(router.rules);
        let has_none = self.states.is_none() && self.rules.bind_nobody();
        self.is_bare = router.is_bare && self.around.is_empty() && has_none;
    }
}

impl Handler for Refusal {
    fn call(&self, request: &mut Request) -> Response {
        let method = request.method();
        if !is_standard(method) {
            return not_implemented();
        }
        let response = if *method == Method::OPTIONS {
            Response::new(StatusCode::NO_CONTENT)
        } else {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed").into_response()
        };
        response.with_header(ALLOW.as_str(), &self.allow)
    }
}

impl Route {
    /// One that answers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds the bodies of requests to these handlers, in place of what the server and the routers around say, to less or
    /// to more: see [`Router::max_body_bytes`](crate::Router::max_body_bytes).
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.rules.body = Some(bytes);
        self
    }

    /// Cuts the waits of these handlers after a time, in place of what the routers around say: see
    /// [`Router::timeout`](crate::Router::timeout).
    pub fn timeout(mut self, after: Duration) -> Self {
        self.rules.time = Some(after);
        self
    }

    /// Has `handler` answer `GET`, and `HEAD`.
    pub fn get<K>(self, handler: impl IntoHandler<K>) -> Self {
        self.on(Method::GET, handler)
    }

    /// Has `handler` answer `POST`.
    pub fn post<K>(self, handler: impl IntoHandler<K>) -> Self {
        self.on(Method::POST, handler)
    }

    /// Has `handler` answer `PUT`.
    pub fn put<K>(self, handler: impl IntoHandler<K>) -> Self {
        self.on(Method::PUT, handler)
    }

    /// Has `handler` answer `PATCH`.
    pub fn patch<K>(self, handler: impl IntoHandler<K>) -> Self {
        self.on(Method::PATCH, handler)
    }

    /// Has `handler` answer `DELETE`.
    pub fn delete<K>(self, handler: impl IntoHandler<K>) -> Self {
        self.on(Method::DELETE, handler)
    }

    /// Has `handler` answer that method.
    pub fn on<K>(mut self, method: Method, handler: impl IntoHandler<K>) -> Self {
        self.handlers
            .push((Some(method), Box::new(handler.into_handler())));
        self
    }

    /// Has `handler` answer all methods that no other handler of the path answers.
    pub fn any<K>(mut self, handler: impl IntoHandler<K>) -> Self {
        self.handlers.push((None, Box::new(handler.into_handler())));
        self
    }

    /// Puts a middleware around these handlers, whether they are added before or after. The first that was added is the
    /// outermost.
    pub fn with(mut self, middleware: impl Middleware) -> Self {
        self.around.push(Arc::new(middleware));
        self
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = self.handlers.iter().map(|(method, _)| method);
        f.debug_list().entries(methods).finish()
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

/// Answers where there is no route.
pub(super) fn nothing(request: &mut Request) -> Response {
    match request.path() {
        _ if *request.method() == Method::CONNECT => not_implemented(),
        "*" => Response::new(StatusCode::NO_CONTENT),
        _ if !is_standard(request.method()) => not_implemented(),
        _ => Problem::new(StatusCode::NOT_FOUND, "not found").into_response(),
    }
}

fn not_implemented() -> Response {
    Problem::new(StatusCode::NOT_IMPLEMENTED, "method not implemented").into_response()
}
