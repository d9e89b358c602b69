//! Lines for the log from where no logger may be called: kept until a coroutine or a plain thread says them.
//!
//! A logger is anybody's code: it may lock, wait or spawn. Between two coroutines there is nobody to wait, while a
//! worker's stacks are in hand nobody may ask for one, and a coroutine whose wait has begun cannot begin another.

use std::sync::{
    LazyLock,
    atomic::{AtomicBool, Ordering},
};

use super::{fenced, spin::SpinLock};

/// Lines that are kept at most; what is beyond is not said.
const MOST_KEPT: usize = 64;

/// Made at its first use, since loom's locks are not made in constants.
static LINES: LazyLock<SpinLock<Vec<(log::Level, String)>>> =
    LazyLock::new(|| SpinLock::new(Vec::new()));

/// Whether there are lines that nobody has been found for.
static IS_WANTED: AtomicBool = AtomicBool::new(false);

/// Keeps a line to be said.
#[cold]
pub(crate) fn say(level: log::Level, line: String) {
    {
        let mut lines = LINES.lock();
        if lines.len() >= MOST_KEPT {
            return;
        }
        lines.push((level, line));
    }
    IS_WANTED.store(true, Ordering::Release);
}

/// Whether somebody is to be found who calls [`say_all`].
#[inline]
pub(crate) fn is_wanted() -> bool {
    IS_WANTED.load(Ordering::Relaxed)
}

/// Somebody will call [`say_all`]; false if another has said so first.
pub(crate) fn take_on() -> bool {
    IS_WANTED.swap(false, Ordering::AcqRel)
}

/// Says what is kept.
pub(crate) fn say_all() {
    let lines = std::mem::take(&mut *LINES.lock());
    for (level, line) in lines {
        _ = fenced::call(|| log::log!(level, "{line}"));
    }
}
