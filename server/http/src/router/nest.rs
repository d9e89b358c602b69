//! Routers that are taken in by another: below a prefix, or beside its own routes.

use std::sync::Arc;

use super::{
    Router,
    entry::Endpoint,
    error::{RouteError, or_panic},
    handler::Handler,
    states::States,
    subtree::Subtree,
};
use crate::{
    middleware::{Link, Next},
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
}
