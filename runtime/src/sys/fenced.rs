//! A fence around users' code where no panic may get out: destructors, wakers and loggers that the runtime calls.
//!
//! A panic that is caught leaves its payload, a value of the user's whose destructor may panic in its turn, and
//! the payload of that one, and so on. So a payload is dropped behind the fence too, and what that throws is
//! forgotten: a leak of a few bytes in a program that has gone wrong thrice.

use std::{
    any::Any,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use crate::error::Unwind;

/// Logs as the macro of the `log` crate named first does; a logger that panics is not heard.
macro_rules! tell {
    ($level:ident, $($message:tt)+) => {
        $crate::sys::fenced::call(|| log::$level!($($message)+)).unwrap_or_default()
    };
}
pub(crate) use tell;

/// Calls `f`; `None` if it panicked, of which nothing more is heard.
pub(crate) fn call<R>(f: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(f)).map_err(discard).ok()
}

/// Calls `f`, and logs what panicked if it does. That a wait of its was cut short is not logged.
pub(crate) fn call_or_tell<R>(what: impl FnOnce() -> String, f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Some(value),
        Err(payload) => {
            if !payload.is::<Unwind>() {
                tell!(error, "{} panicked", what());
            }
            discard(payload);
            None
        }
    }
}

/// Drops a value of the user's.
#[inline]
pub(crate) fn drop_value<V>(value: V, what: &str) {
    if std::mem::needs_drop::<V>() {
        call_or_tell(|| format!("dropping {what}"), || drop(value));
    }
}

/// Drops values of the user's, all of them. A panic goes on once the last is dropped; what further ones throw is
/// forgotten, and while the thread unwinds already, so is the first: a second unwinding would abort.
pub(crate) fn drop_all<V>(values: impl IntoIterator<Item = V>) {
    if !std::mem::needs_drop::<V>() {
        return;
    }
    let mut thrown = None;
    for value in values {
        match catch_unwind(AssertUnwindSafe(|| drop(value))) {
            Ok(()) => {}
            Err(payload) if thrown.is_none() => thrown = Some(payload),
            Err(payload) => discard(payload),
        }
    }
    match thrown {
        None => {}
        Some(payload) if std::thread::panicking() => discard(payload),
        Some(payload) => resume_unwind(payload),
    }
}

/// Drops the payload of a panic.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        let _forgotten = ManuallyDrop::new(next);
    }
}

/// Ends the process, with one line that says why, unless `f` returns: for what must not be left by unwinding.
pub(crate) fn or_abort<R>(what: &str, f: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => value,
        Err(_) => abort(&format!("a panic came out of {what}")),
    }
}

/// Ends the process, with one line that says why.
#[cold]
pub(crate) fn abort(why: &str) -> ! {
    let line = format!("maniple: {why}; the process is aborted\n");
    // Past the lock of `eprintln!`, whose holder may be suspended, or may be what went wrong.
    let _told = rustix::io::write(std::io::stderr(), line.as_bytes());
    std::process::abort();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Panics when it is dropped, with another that does.
    struct Bomb(u32);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 > 0 {
                std::panic::panic_any(Bomb(self.0 - 1));
            }
        }
    }

    #[test]
    fn a_destructor_that_panics_with_what_panics_does_not_get_out() {
        for depth in 0..5 {
            drop_value(Bomb(depth), "a bomb");
            discard(Box::new(Bomb(depth)));
            assert_eq!(call(|| std::panic::panic_any(Bomb(depth))), None::<()>);
        }
    }

    #[test]
    fn all_values_are_dropped_and_the_first_panic_goes_on() {
        struct Counts<'a>(&'a std::cell::Cell<u32>);
        impl Drop for Counts<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
                std::panic::panic_any(self.0.get());
            }
        }
        let dropped = std::cell::Cell::new(0);
        let thrown = catch_unwind(AssertUnwindSafe(|| {
            drop_all((0..3).map(|_| Counts(&dropped)));
        }));
        assert_eq!(thrown.unwrap_err().downcast_ref(), Some(&1_u32));
        assert_eq!(dropped.get(), 3);

        struct InDestructor<'a>(&'a std::cell::Cell<u32>);
        impl Drop for InDestructor<'_> {
            fn drop(&mut self) {
                drop_all((0..2).map(|_| Counts(self.0)));
            }
        }
        let thrown = catch_unwind(AssertUnwindSafe(|| {
            let _unwound = InDestructor(&dropped);
            std::panic::panic_any("first");
        }));
        assert_eq!(thrown.unwrap_err().downcast_ref(), Some(&"first"));
        assert_eq!(dropped.get(), 5);
    }

    #[test]
    fn what_does_not_panic_gives_its_value() {
        assert_eq!(call(|| 1), Some(1));
        assert_eq!(call_or_tell(|| unreachable!(), || 2), Some(2));
        assert_eq!(or_abort("a test", || 3), 3);
    }
}
