//! What handlers need of a router and it does not have.

use std::sync::Arc;

use super::{
    Router,
    handler::Handler,
    states::{Needs, States},
};

impl Router {
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
        let hosts = self.hosts.iter().flat_map(|hosts| hosts.iter());
        let hosts = hosts.map(|host| (&*host.written, &host.routes));
        let tables: Vec<_> = [("", self)].into_iter().chain(hosts).collect();
        let entries = tables.iter().flat_map(|(host, table)| {
            let entries = table.entries.iter();
            entries.map(move |entry| (host, entry))
        });
        for (host, entry) in entries {
            let methods = entry.methods.iter();
            let methods = methods.map(|(method, endpoint)| (method.as_str(), endpoint));
            let any = entry.any.iter().map(|endpoint| ("(any method)", endpoint));
            for (method, endpoint) in methods.chain(any) {
                let what = format!("route {method} {host}{}", entry.path);
                look(&what, &*endpoint.handler, endpoint.states.as_ref());
            }
        }
        let subtrees = tables.iter().flat_map(|(host, table)| {
            let subtrees = table.subtrees.iter();
            subtrees.map(move |subtree| (host, subtree))
        });
        for (host, subtree) in subtrees {
            if let Some(fallback) = &subtree.fallback {
                let states = States::below(subtree.own_states.as_ref(), &self.states);
                look(
                    &format!("the fallback of {host}{}", subtree.prefix),
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
}
