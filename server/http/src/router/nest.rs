//! Routers that are taken in by another: below a prefix, or beside its own routes.

use std::{panic::Location, sync::Arc};

use super::{
    Router,
    entry::Endpoint,
    error::{RouteError, or_panic},
    handler::Handler,
    hosts::{Host, Hosts, parameter},
    states::States,
    subtree::Subtree,
};
use crate::{
    middleware::{End, Link, Next},
    request::Request,
};

impl Router {
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
        self.take_in(prefix, router, true)
    }

    /// Adds routes for a host alone: what is asked of it is answered by that router, as if it were
    /// [nested](Router::nest) below no prefix, and by none of the routes for any host, not even where it has no route.
    ///
    /// A host is a name (`api.example.com`), an address (`[::1]` in brackets), or `*.example.com` for all that end so, also
    /// `a.b.example.com`, but not `example.com` itself. `{tenant}.example.com` is for all that have one part more, which
    /// [`Request::param`] gives in lower case; it comes before the path's parameters. Ports do not count, nor does the case of
    /// letters. A name goes before endings, and of these the longest. Names with other letters are written as they are sent
    /// (`xn--…`).
    ///
    /// Which host is asked is what [`Request::host`] says. Other hosts, and requests that name none, have this router's
    /// own routes, [`fallback`](Router::fallback) and 404. [`CONNECT`](Router::connect) has no host.
    ///
    /// # Panics
    /// If the host is malformed, has routes already, or a parameter that a route there has too, or the router has routes for
    /// hosts itself; and as [`Router::merge`].
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Request, Router, StatusCode};
    ///
    /// let router = Router::new()
    ///     .host("api.example.com", Router::new().get("/", |_: &mut Request| "the api"))
    ///     .host("{tenant}.example.com", Router::new().get("/", |request: &mut Request| {
    ///         format!("of {}", request.param("tenant").unwrap_or("?"))
    ///     }))
    ///     // 404 as long as nothing else is said. To clients over HTTP/1.1 it makes no difference.
    ///     .fallback(|_: &mut Request| StatusCode::MISDIRECTED_REQUEST);
    /// let get = |host| router.answer(&mut Request::for_test("GET", "/").with_header("host", host));
    /// assert_eq!(get("API.example.com:8080").into_text().unwrap(), "the api");
    /// assert_eq!(get("Ann.example.com").into_text().unwrap(), "of ann");
    /// assert_eq!(get("example.org").status(), StatusCode::MISDIRECTED_REQUEST);
    /// ```
    #[track_caller]
    pub fn host(mut self, host: &str, router: Router) -> Self {
        or_panic(self.try_host(host, router));
        self
    }

    /// Adds routes for a host alone, or says why not.
    ///
    /// # Errors
    /// Where [`Router::host`] panics. The error names both hosts, and where the first was added.
    #[track_caller]
    pub fn try_host(&mut self, host: &str, router: Router) -> Result<(), RouteError> {
        self.add_host(host, router, Location::caller())
    }

    fn add_host(
        &mut self,
        host: &str,
        router: Router,
        added: &'static Location<'static>,
    ) -> Result<(), RouteError> {
        let failed = |reason: String| RouteError {
            route: format!("host {host}"),
            reason,
        };
        if router.hosts.is_some() {
            let reason = "its router has routes for hosts itself: add these beside it";
            return Err(failed(reason.to_owned()));
        }
        let mut alone = Router::new();
        alone.take_in("", router, true)?;
        if let Some(parameter) = parameter(host) {
            let has_it = |path: &str| {
                path.contains(&format!("{{{parameter}}}"))
                    || path.contains(&format!("{{*{parameter}}}"))
            };
            if let Some(entry) = alone.entries.iter().find(|entry| has_it(&entry.path)) {
                let path = &entry.path;
                return Err(failed(format!(
                    "its route {path} has a {{{parameter}}}, too"
                )));
            }
        }
        let connect = alone.connect.take();
        if connect.is_some() && self.connect.is_some() {
            return Err(failed("both have a handler for CONNECT".to_owned()));
        }
        let mut hosts = self.hosts.take().unwrap_or_default();
        let tried = hosts.add(host, alone, added);
        self.hosts = Some(hosts).filter(|hosts| !hosts.is_empty());
        tried.map_err(failed)?;
        self.connect = self.connect.take().or(connect);
        self.settle_endpoints();
        Ok(())
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
        self.take_in("", router, false)
    }

    /// Adds all that another router has, below a prefix or none; and what it answers where it has no route, if it is alone
    /// there.
    fn take_in(
        &mut self,
        prefix: &str,
        mut router: Router,
        is_alone: bool,
    ) -> Result<(), RouteError> {
        if let Some(hosts) = router.hosts.take() {
            self.take_in_hosts(prefix, *hosts, &router)?;
        }
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
                    own_rules: endpoint.rules,
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
                own_rules: subtree.own_rules.within(router.rules),
            });
        }
        // Only what is its own goes around it.
        let alone = |handler: Arc<dyn Handler>| -> Arc<dyn Handler> {
            let (around, states) = (join(Box::default()), States::below(None, &router.states));
            Arc::new(move |request: &mut Request| {
                if states.is_some() {
                    request.exchange.scratch_mut().set_states(states.clone());
                }
                Next::new(&around, &[], &End::by(&*handler)).run(request)
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
        if is_alone {
            self.subtrees.push(Subtree {
                prefix: prefix.to_owned(),
                around: join(Box::default()),
                fallback: router.fallback,
                own_states: States::below(None, &router.states),
                own_rules: router.fallback_rules.within(router.rules),
            });
        } else if let Some(fallback) = router.fallback.map(alone) {
            if self.fallback.replace(fallback).is_some() {
                return Err(both_have("a fallback"));
            }
            self.fallback_rules = router.fallback_rules.within(router.rules);
        }
        Ok(())
    }

    /// Adds the hosts of a router that is merged, each with what that router had around it.
    fn take_in_hosts(
        &mut self,
        prefix: &str,
        hosts: Hosts<Router>,
        of: &Router,
    ) -> Result<(), RouteError> {
        if !prefix.is_empty() {
            return Err(RouteError {
                route: format!("nest {prefix}"),
                reason: "its router has routes for hosts, which no prefix can have".to_owned(),
            });
        }
        for host in hosts.into_all() {
            let Host {
                written,
                added,
                routes: mut router,
                ..
            } = host;
            router.around.clone_from(&of.around);
            router.form.clone_from(&of.form);
            router.states.clone_from(&of.states);
            router.rules = of.rules;
            router.settle_endpoints();
            self.add_host(&written, router, added)?;
        }
        Ok(())
    }
}
