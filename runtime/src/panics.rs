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

use std::{
    any::Any,
    sync::{Mutex, PoisonError},
};

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
#[allow(
    clippy::redundant_allocation,
    clippy::box_collection,
    reason = "in the box that it came in, and one word in an error"
)]
pub(crate) enum Payload {
    Slice(Box<&'static str>),
    String(Box<String>),
    /// Behind a lock, which nobody locks, since it may be no more than sent.
    Other(Box<Mutex<Box<dyn Any + Send>>>),
}

impl Payload {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let payload = match payload.downcast() {
            Ok(text) => return Self::Slice(text),
            Err(payload) => payload,
        };
        match payload.downcast() {
            Ok(text) => Self::String(text),
            Err(payload) => Self::Other(Box::new(Mutex::new(payload))),
        }
    }

    pub(crate) fn into_inner(self) -> Box<dyn Any + Send> {
        match self {
            Self::Slice(text) => text,
            Self::String(text) => text,
            Self::Other(payload) => payload.into_inner().unwrap_or_else(PoisonError::into_inner),
        }
    }

    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Slice(text) => text,
            Self::String(text) => text,
            Self::Other(_) => NO_TEXT,
        }
    }
}

/// What a panic said, or that it said nothing.
pub(crate) fn message_or_none(payload: &(dyn Any + Send)) -> &str {
    message(payload).unwrap_or(NO_TEXT)
}

const NO_TEXT: &str = "a value that is no string";

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
    fn a_payload_comes_out_as_it_went_in() {
        let text = || Payload::new(Box::new("slice"));
        assert_eq!(
            (text().message(), text().into_inner().downcast_ref()),
            ("slice", Some(&"slice"))
        );
        let text = || Payload::new(Box::new("string".to_owned()));
        assert_eq!(text().message(), "string");
        assert_eq!(
            text().into_inner().downcast_ref(),
            Some(&"string".to_owned())
        );
        let other = || Payload::new(Box::new(std::cell::Cell::new(7)));
        assert_eq!(other().message(), NO_TEXT);
        assert_eq!(
            other().into_inner().downcast_ref(),
            Some(&std::cell::Cell::new(7))
        );
    }

    #[test]
    fn a_payload_that_is_no_text_has_no_message() {
        assert_eq!(message(&7), None);
        assert_eq!(message(&"slice"), Some("slice"));
        assert_eq!(message(&String::from("string")), Some("string"));
    }
}
