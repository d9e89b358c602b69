//! The templates of routes, each kept once for the life of the process: a request that is told its route then needs
//! neither a copy nor a count, and metrics have a label that they may keep.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// A template, as one word.
pub(crate) type Template = &'static &'static str;

/// The same text, kept. As many are as a program has routes.
pub(super) fn keep(template: &str) -> Template {
    static KEPT: Mutex<BTreeMap<&'static str, Template>> = Mutex::new(BTreeMap::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(same) = kept.get(template) {
        return same;
    }
    let text: &'static str = Box::leak(template.into());
    kept.entry(text).or_insert(Box::leak(Box::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_template_is_kept_once() {
        let first = keep(&String::from("/of/{one}/test"));
        let second = keep(&String::from("/of/{one}/test"));
        assert_eq!(*first, "/of/{one}/test");
        assert!(std::ptr::eq(first, second));
    }
}
