//! A fence around users' code that answers must not depend on: destructors, error messages, loggers.

use std::{
    any::Any,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Calls `f`; `None` if it panicked, of which the panic hook alone has heard.
pub fn catch<R>(f: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(f)).map_err(discard).ok()
}

/// Drops the payload of a panic, whose destructor may panic in its turn.
#[cold]
pub fn discard(payload: Box<dyn Any + Send>) {
    if let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // And so on, as often as its author likes: that one is leaked.
        let _forgotten = ManuallyDrop::new(next);
    }
}

/// What a panic said, if it is a text.
pub fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
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
    }
}
