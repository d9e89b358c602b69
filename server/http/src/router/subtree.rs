//! What answers below a prefix where no route does.

use std::sync::Arc;

use super::{handler::Handler, rules::Rules, states::States};
use crate::middleware::Link;

/// A router that was nested: what is left of it beside its routes.
pub(super) struct Subtree {
    /// With parameters as in routes.
    pub(super) prefix: String,
    pub(super) around: Box<[Link]>,
    pub(super) fallback: Option<Arc<dyn Handler>>,
    pub(super) own_states: Option<Arc<States>>,
    pub(super) own_rules: Rules,
}

impl Subtree {
    /// Whether a path is the prefix, or below it.
    pub(super) fn has(&self, path: &str) -> bool {
        let mut segments = path.split('/');
        self.prefix
            .split('/')
            .all(|wanted| segments.next().is_some_and(|segment| fits(wanted, segment)))
    }

    /// How deep it is: of those that have a path, the deepest answers.
    pub(super) fn depth(&self) -> usize {
        self.prefix.matches('/').count()
    }
}

/// Whether a segment is what a prefix has at that place.
fn fits(wanted: &str, segment: &str) -> bool {
    let (Some(begin), Some(end)) = (wanted.find('{'), wanted.rfind('}')) else {
        return wanted == segment;
    };
    let (before, after) = (&wanted[..begin], &wanted[end + 1..]);
    segment.len() > before.len() + after.len()
        && segment.starts_with(before)
        && segment.ends_with(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_what_is_below_it_by_whole_segments() {
        let subtree = |prefix: &str| Subtree {
            prefix: prefix.to_owned(),
            around: Box::default(),
            fallback: None,
            own_states: None,
            own_rules: Rules::default(),
        };
        for (prefix, path, expected) in [
            ("/api", "/api", true),
            ("/api", "/api/", true),
            ("/api", "/api/users", true),
            ("/api", "/apis", false),
            ("/api", "/", false),
            ("/of/{who}", "/of/ann/x", true),
            ("/of/{who}", "/of//x", false),
            ("/of/{who}", "/of", false),
            ("/v{n}", "/v2", true),
            ("/v{n}", "/v", false),
        ] {
            assert_eq!(subtree(prefix).has(path), expected, "{prefix} {path}");
        }
    }
}
