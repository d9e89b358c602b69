//! Panics of code that you call and did not write: caught, read, and dropped without harm.
//!
//! For code that calls handlers, jobs, codecs, loggers or destructors of others where a panic must not get out: a
//! server's loop, a pool's worker, a library like those on this runtime. A panic of a *coroutine* needs none of it: it
//! is the result of its handle, see [`JoinError`](crate::JoinError).
//!
//! A payload is a value of the one who panicked. Its destructor may panic in its turn, with a payload that does the
//! same. [`discard`] and [`catch`] drop payloads so that nothing of it gets out.
//!
//! # Examples
//! ```
//! use maniple::panics;
//!
//! assert_eq!(panics::catch(|| 7), Some(7));
//! assert_eq!(panics::catch(|| -> u8 { panic!("intended") }), None);
//!
//! let payload = std::panic::catch_unwind(|| panic!("no {}", "way")).unwrap_err();
//! assert_eq!(panics::message(&*payload), Some("no way"));
//! panics::discard(payload);
//! ```

use std::any::Any;

use crate::sys::fenced;

/// Calls `f`; `None` if it panicked.
///
/// The panic hook has heard of the panic by then; nothing else does. Caught as well is a wait in `f` that cannot
/// return an error and was [cut short](crate::cancel): the next wait of the caller is cut, too.
///
/// Whatever `f` has left half done stays so: `f` should own what it changes, or change nothing.
pub fn catch<R>(f: impl FnOnce() -> R) -> Option<R> {
    fenced::call(f)
}

/// Drops the payload of a panic. A panic of its destructor is caught, and the payload of that one is leaked.
#[cold]
pub fn discard(payload: Box<dyn Any + Send>) {
    fenced::discard(payload);
}

/// What a panic said: its message if it was one of `panic!`, a failed assertion, an `unwrap` or the like.
pub fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// What a panic carries, out of reach but for its text, so that an error with it may be shared.
pub(crate) struct Payload(Box<dyn Any + Send>);

// SAFETY: a shared reference gives no access to the payload but to look whether it is a string, which threads may
// share.
unsafe impl Sync for Payload {}

impl Payload {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        Self(payload)
    }

    pub(crate) fn into_inner(self) -> Box<dyn Any + Send> {
        self.0
    }

    pub(crate) fn message(&self) -> &str {
        message_or_none(&*self.0)
    }
}

/// What a panic said, or that it said nothing.
pub(crate) fn message_or_none(payload: &(dyn Any + Send)) -> &str {
    message(payload).unwrap_or("a value that is no string")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// Panics when it is dropped, with another that does.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any(Bomb);
        }
    }

    #[test]
    fn payloads_that_panic_as_they_are_dropped_stay_behind_the_fence() {
        assert_eq!(catch(|| 7), Some(7));
        assert_eq!(catch(|| panic_any(Bomb)), None::<()>);
        assert_eq!(catch(|| drop(Bomb)), None);
        discard(Box::new(Bomb));
    }

    #[test]
    fn a_payload_that_is_no_text_has_no_message() {
        assert_eq!(message(&7), None);
        assert_eq!(message(&"slice"), Some("slice"));
        assert_eq!(message(&String::from("string")), Some("string"));
    }
}
