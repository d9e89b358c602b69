//! The way of a request through a router: its handler, within what is around that, or what answers where there is none.

use std::sync::Arc;

use http::Method;
use maniple::{inspect::depth_label, panics};

use super::{
    Router,
    entry::{Endpoint, Entry},
    handler::Handler,
    rules::{Rules, TooLong},
    slash::{self, Moved, TrailingSlash},
    states::States,
    subtree::Subtree,
};
use crate::{
    middleware::{End, Link, Next, Refused, give_form},
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
    server::buffers::Scratch,
};

impl Router {
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
        let table = match &self.hosts {
            None => self,
            Some(_) => self.enter_host(request),
        };
        let endpoint = table.find(request.exchange.scratch_mut());
        if endpoint.is_bare {
            return endpoint.handler.call(request);
        }
        self.answer_within(table, endpoint, request)
    }

    /// The routes for the host that is asked: this router's, if that has none of its own. Its parameter is noted.
    #[cold]
    fn enter_host(&self, request: &mut Request) -> &Router {
        let (table, parameter) = self.table_for(request);
        if let Some((name, value)) = parameter {
            request.exchange.scratch_mut().params.set(name, &value);
        }
        table
    }

    #[cold]
    fn table_for(&self, request: &Request) -> (&Router, Option<(&str, String)>) {
        let hosts = self.hosts.as_ref();
        let host = request
            .host()
            .filter(|_| *request.method() != Method::CONNECT);
        let of_host = host.and_then(|host| hosts?.find(host));
        of_host.unwrap_or((self, None))
    }

    /// Finds what answers the request in hand, and notes its route and parameters.
    #[inline(always)]
    fn find(&self, scratch: &mut Scratch) -> &Endpoint {
        let Scratch {
            input,
            head,
            params,
            ..
        } = &mut *scratch;
        let path = head.path_in(&input.bytes[input.start..]);
        let base = path.as_ptr().addr();
        let entry = self.paths.find(path, |name, value| {
            let at = head.path.start + (value.as_ptr().addr() - base);
            params.push(name, value, at);
        });
        let endpoint = match entry {
            Some(entry) => self.entries[entry].find(&head.method),
            None => &self.nowhere,
        };
        scratch.route = endpoint.template;
        endpoint
    }

    /// How long the body of a request may be, if its route or a router says so.
    #[cold]
    pub(crate) fn max_body_bytes_of(&self, request: &Request) -> Option<u64> {
        let (table, path) = (self.table_for(request).0, request.path());
        let entry = table.paths.find(path.as_bytes(), |_, _| {});
        let entry = entry.map(|entry| &table.entries[entry]);
        let rules = match entry.or_else(|| table.with_other_slash(path)) {
            Some(entry) => entry.find(request.method()).rules,
            None => self.rules_without_route(table, &table.subtrees_of(path)),
        };
        rules.body
    }

    /// The route that answers a path with a `/` more or less, if it is one that does.
    fn with_other_slash(&self, path: &str) -> Option<&Entry> {
        let other = slash::other(path)?;
        let entry = self.paths.find(other.as_bytes(), |_, _| {})?;
        let entry = &self.entries[entry];
        (entry.refusal.rules.slash == Some(TrailingSlash::Ignore)).then_some(entry)
    }

    /// Answers a request whose body is longer than it may be, within what is around its handler.
    #[cold]
    pub(crate) fn answer_too_long(&self, request: &mut Request, limit: u64) -> Response {
        let endpoint = self
            .enter_host(request)
            .find(request.exchange.scratch_mut());
        let states = match endpoint.template {
            Some(_) => endpoint.states.clone(),
            None => self.all_states(),
        };
        let (inner, handler, none) = (&endpoint.around, &TooLong { limit }, Rules::default());
        self.run(states, inner, handler, &none, request)
    }

    #[inline(never)]
    fn answer_within(
        &self,
        table: &Router,
        endpoint: &Endpoint,
        request: &mut Request,
    ) -> Response {
        if endpoint.template.is_none() {
            return self.answer_without_route(table, request);
        }
        self.answer_by(endpoint, request)
    }

    fn answer_by(&self, endpoint: &Endpoint, request: &mut Request) -> Response {
        let states = endpoint.states.clone();
        let (inner, handler) = (&endpoint.around, &*endpoint.handler);
        self.run(states, inner, handler, &endpoint.rules, request)
    }

    /// Answers by the route that the path would have with a `/` more or less at its end, if there is one that takes that.
    #[cold]
    fn answer_with_other_slash(&self, table: &Router, request: &mut Request) -> Option<Response> {
        let (path, at) = (request.path(), request.exchange.head().path.start);
        let other = slash::other(path)?;
        let mut params = Vec::new();
        let entry = table.paths.find(other.as_bytes(), |name, value| {
            let from = value.as_ptr().addr() - other.as_ptr().addr();
            params.push((name.to_owned(), from..from + value.len()));
        })?;
        let entry = &table.entries[entry];
        let endpoint = entry.find(request.method());
        let moved = match entry.refusal.rules.slash? {
            TrailingSlash::Strict => return None,
            // What that path does not have it need not be asked for.
            TrailingSlash::Redirect if !std::ptr::eq(endpoint, &entry.refusal) => {
                Some(Moved::new(&other, request.query()))
            }
            TrailingSlash::Redirect | TrailingSlash::Ignore => None,
        };
        // Parts of the path as it was sent.
        let path = path.to_owned();
        if params.iter().any(|(_, part)| part.end > path.len()) {
            return None;
        }
        let scratch = request.exchange.scratch_mut();
        for (name, part) in params {
            scratch
                .params
                .push(&name, &path[part.clone()], at + part.start);
        }
        scratch.route = endpoint.template;
        let Some(moved) = moved else {
            return Some(self.answer_by(endpoint, request));
        };
        let (states, inner) = (endpoint.states.clone(), &endpoint.around);
        Some(self.run(states, inner, &moved, &Rules::default(), request))
    }

    #[cold]
    fn answer_without_route(&self, table: &Router, request: &mut Request) -> Response {
        if let Some(answer) = self.answer_with_other_slash(table, request) {
            return answer;
        }
        depth_label("no route");
        if *request.method() == Method::CONNECT {
            let handler = self.connect.as_deref().unwrap_or(&*self.nowhere.handler);
            return self.run(self.all_states(), &[], handler, &self.rules, request);
        }
        let path = request.path();
        let subtrees = table.subtrees_of(path);
        let rules = self.rules_without_route(table, &subtrees);
        let fallbacks = subtrees.iter().map(|subtree| &subtree.fallback);
        let fallback = match path {
            "*" => None,
            _ => fallbacks.chain([&table.fallback]).find_map(Option::as_ref),
        };
        let inner = subtrees.first().map_or(&[][..], |deepest| &deepest.around);
        let handler = fallback.map_or(&*self.nowhere.handler, |fallback| &**fallback);
        let states = match subtrees.iter().find(|subtree| subtree.fallback.is_some()) {
            Some(subtree) => States::below(subtree.own_states.as_ref(), &self.states),
            None => self.all_states(),
        };
        self.run(states, inner, handler, &rules, request)
    }

    /// Those that have the path, the deepest first.
    fn subtrees_of(&self, path: &str) -> Vec<&Subtree> {
        let subtrees = self.subtrees.iter().filter(|subtree| subtree.has(path));
        let mut subtrees: Vec<_> = subtrees.collect();
        subtrees.sort_by_key(|subtree| std::cmp::Reverse(subtree.depth()));
        subtrees
    }

    /// Those of the fallback that answers.
    fn rules_without_route(&self, table: &Router, subtrees: &[&Subtree]) -> Rules {
        let mut with_fallback = subtrees.iter().filter(|subtree| subtree.fallback.is_some());
        let own = match with_fallback.next() {
            Some(subtree) => subtree.own_rules,
            None => table.fallback_rules,
        };
        own.within(self.rules)
    }

    fn all_states(&self) -> Option<Arc<States>> {
        States::below(None, &self.states)
    }

    fn run(
        &self,
        states: Option<Arc<States>>,
        inner: &[Link],
        handler: &dyn Handler,
        rules: &Rules,
        request: &mut Request,
    ) -> Response {
        if states.is_some() {
            request.exchange.scratch_mut().set_states(states);
        }
        let too_long = rules.body.and_then(|limit| {
            let allowed = request.exchange.allow_body(limit);
            allowed.err().map(|_| TooLong { limit })
        });
        let handler = match &too_long {
            None => handler,
            Some(too_long) => too_long,
        };
        let end = End::by(handler).with_form(self.form.as_deref());
        let end = end.in_time(rules.time.as_ref());
        Next::new(&self.around, inner, &end).run(request)
    }

    /// Tells what is around everything of what came to no handler.
    #[cold]
    pub(crate) fn hear_of(&self, refused: &Refused<'_>) {
        for middleware in &self.around {
            panics::catch(|| middleware.refused(refused));
        }
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
}
