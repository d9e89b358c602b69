//! How a handler is added to a path, and what speaks against it.

use http::Method;

use super::{
    Router,
    entry::{Endpoint, Entry, nothing},
    error::RouteError,
    template,
};
use crate::middleware::Link;

impl Router {
    /// Adds what answers a method of a path, or any; `around` is what is around the answers to methods that it has not.
    pub(super) fn add(
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
        if let Some(name) = twice(path) {
            let reason =
                format!("{{{name}}} stands there twice; give each parameter a name of its own");
            return Err(failed(reason));
        }
        let template = template::keep(path);
        let index = match self.entries.iter().position(|entry| entry.path == path) {
            Some(index) => index,
            None => {
                self.paths.add(path, self.entries.len()).map_err(failed)?;
                let mut refusal = Endpoint::new(Box::new(nothing), around, endpoint.added);
                refusal.template = Some(template);
                refusal.own_states.clone_from(&endpoint.own_states);
                refusal.own_rules = endpoint.own_rules;
                refusal.settle(&self.setting());
                self.entries.push(Entry::new(path, refusal));
                self.entries.len() - 1
            }
        };
        endpoint.template = Some(template);
        endpoint.settle(&self.setting());
        let entry = &mut self.entries[index];
        if let Some(place) = entry.taken(method.as_ref()) {
            return Err(failed(format!("it has a handler already, of {place}")));
        }
        entry.add(method, endpoint);
        Ok(())
    }
}

/// The name of a parameter that a path has twice.
#[cold]
fn twice(path: &str) -> Option<&str> {
    let mut names: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        let Some((_, behind)) = segment.split_once('{') else {
            continue;
        };
        // What is doubled stands for itself.
        let Some((name, _)) = behind.split_once('}').filter(|_| !behind.starts_with('{')) else {
            continue;
        };
        let name = name.strip_prefix('*').unwrap_or(name);
        if names.contains(&name) {
            return Some(name);
        }
        names.push(name);
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;

    fn router() -> Router {
        Router::new()
            .get("/", |_: &mut Request| "root")
            .post("/", |_: &mut Request| "posted")
            .get("/a/{x}/{*rest}", |_: &mut Request| "deep")
    }

    #[test]
    fn bad_routes_say_what_is_wrong() {
        let mut router = router();
        let twice = router.try_route(Method::GET, "/", |_: &mut Request| "");
        let twice = twice.unwrap_err().to_string();
        let place = "route GET /: it has a handler already, of server/http/src/router/add.rs:";
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
    fn a_parameter_that_a_path_has_twice_is_named() {
        let added = |path: &str| {
            let added = Router::new().try_route(Method::GET, path, |_: &mut Request| "");
            added.map_err(|error| error.to_string())
        };
        for path in ["/{id}/x/{id}", "/{id}/{*id}", "/a{id}/{id}.json"] {
            let expected = "{id} stands there twice; give each parameter a name of its own";
            assert_eq!(added(path), Err(format!("route GET {path}: {expected}")));
        }
        for path in ["/{id}/{id2}", "/{{id}}/{{id}}/{id}", "/id/{id}"] {
            assert_eq!(added(path), Ok(()), "{path}");
        }
        let inner = Router::new().get("/{id}", |_: &mut Request| "");
        let nested = Router::new().try_nest("/of/{id}", inner).unwrap_err();
        assert!(
            nested
                .to_string()
                .starts_with("route GET /of/{id}/{id}: {id} stands there twice")
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
}
