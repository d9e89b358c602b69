//! What other parts of a program have to tell in a dump.

use std::sync::{Mutex, PoisonError};

use crate::panics;

/// A heading, and what is told under it.
type Section = (&'static str, fn() -> String);

static SECTIONS: Mutex<Vec<Section>> = Mutex::new(Vec::new());

/// Has each [`dump`](super::dump()) of the process end with what `tell` says, under this heading, as long as it says
/// anything. A heading is there once: of two of the same name the later is not asked.
///
/// `tell` is called by who asks for the dump, or by a thread of the offload pool. It is to look, and not to wait.
/// Where it panics the section is left out.
///
/// # Examples
/// ```
/// maniple::inspect::add_section("caches", || "pages: 3 of 100\n".to_owned());
/// assert!(maniple::inspect::dump().ends_with("\ncaches\npages: 3 of 100\n"));
/// ```
pub fn add_section(heading: &'static str, tell: fn() -> String) {
    let mut sections = SECTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if sections.iter().all(|&(other, _)| other != heading) {
        sections.push((heading, tell));
    }
}

/// All of them, in the order in which they came.
pub(super) fn told() -> String {
    let sections = SECTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    // Not under the lock: who is asked may be the first to add another.
    let all = sections.clone();
    drop(sections);
    let mut out = String::new();
    for (heading, tell) in all {
        let text = panics::catch(tell).unwrap_or_default();
        let text = text.trim_end_matches('\n');
        if !text.is_empty() {
            out.extend(["\n", heading, "\n", text, "\n"]);
        }
    }
    out
}
