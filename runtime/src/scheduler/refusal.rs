//! Coroutines that got no stack: they drop what they own on one that is kept for that, and those that nobody joins are
//! counted, and told to the log at a rate.

use std::{
    fmt, io,
    sync::LazyLock,
    time::{Duration, Instant},
};

use super::{Worker, now, ready};
#[cfg(feature = "fault-injection")]
use crate::sys::planted::{Planted, is_planted};
use crate::{
    coroutine::{Failure, Unstarted},
    error::{Cause, Interrupt},
    sys::{fenced, spin::SpinLock},
};

/// At most one line in the log in so much time.
const EVERY: Duration = Duration::from_secs(10);

/// For so long a coroutine that got no stack may wait while it drops what it owns, before the next of these
/// takes a stack from those that can begin.
pub(super) const REFUSED_PATIENCE: Duration = Duration::from_millis(10);

/// Those of the process: the thread that drops a handle may belong to no runtime.
static REFUSALS: LazyLock<SpinLock<Refusals>> = LazyLock::new(|| SpinLock::new(Refusals::new()));

impl Worker {
    /// A task gets no stack. What its closure owns may lock and wait when it is dropped, which nothing may here:
    /// so it becomes a coroutine all the same, as soon as there is a stack for that.
    #[cold]
    pub(super) fn refuse(&self, task: Unstarted, error: io::Error) {
        self.scheduler.slabs.count_refused();
        task.cancel_group(&mut ready);
        let failure = match self.scheduler.is_stopping() {
            true => Failure::Interrupted(Interrupt::Cancelled),
            false => Failure::NoStack(error),
        };
        #[cfg(feature = "fault-injection")]
        if is_planted(Planted::DropsOnTheWorker) {
            _ = task.fail(failure, ready);
            return;
        }
        self.refused.borrow_mut().push_back(task.refuse(failure));
        self.has_refused.set(true);
        self.begin_refused();
    }

    /// Has those who got no stack drop what they own, one by one on the stack that is kept for that. If one of
    /// them waits so long that it may wait for another, they take their share of all stacks.
    #[cold]
    pub(super) fn begin_refused(&self) {
        while self.has_refused.get() {
            let reserve = self.stacks.borrow_mut().take_reserve();
            let stack = reserve.or_else(|| {
                let class = self.scheduler.default_class;
                let waited = self
                    .recent()
                    .saturating_duration_since(self.refused_at.get());
                let stack = (waited >= REFUSED_PATIENCE).then(|| self.acquire_stack(class));
                stack?.ok()
            });
            let Some(stack) = stack else { return };
            let task = {
                let mut refused = self.refused.borrow_mut();
                let first = refused.pop_front();
                self.has_refused.set(!refused.is_empty());
                first
            };
            let Some(task) = task else { return };
            self.refused_at.set(self.recent());
            if self.scheduler.is_stopping() {
                let scope = task.header().waiter.own_scope();
                scope.cancel(Cause::Shutdown, &mut ready);
            }
            self.resume(self.home.begin_refused(task, stack, note));
        }
    }
}

/// Counts a coroutine whose error nobody will ask for, and logs it, if nothing was logged lately.
///
/// Not for a worker's own loop: a logger may wait.
#[cold]
pub(crate) fn note(error: io::Error) {
    let now = now();
    let line = REFUSALS.lock().note(now);
    if let Some(line) = line {
        fenced::tell!(error, "{line}: {}", Told(&error));
    }
}

/// Logs how many there were since the last line, at the end of a runtime.
pub(super) fn tell_rest() {
    let line = REFUSALS.lock().line();
    if let Some(line) = line {
        fenced::tell!(error, "{line}");
    }
}

struct Refusals {
    seen: u64,
    told: u64,
    told_at: Option<Instant>,
}

impl Refusals {
    const fn new() -> Self {
        Self {
            seen: 0,
            told: 0,
            told_at: None,
        }
    }

    fn note(&mut self, now: Instant) -> Option<String> {
        self.seen += 1;
        let due = self
            .told_at
            .is_none_or(|told| now.saturating_duration_since(told) >= EVERY);
        if !due {
            return None;
        }
        self.told_at = Some(now);
        self.line()
    }

    fn line(&mut self) -> Option<String> {
        let new = self.seen - std::mem::replace(&mut self.told, self.seen);
        let coroutines = match new {
            0 => return None,
            1 => "1 coroutine".to_owned(),
            new => format!("{new} coroutines"),
        };
        Some(format!(
            "{coroutines} that nobody joins got no stack and did not run, {} so far",
            self.seen
        ))
    }
}

/// An error with what the kernel said, if that was why.
struct Told<'a>(&'a io::Error);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        match self.0.get_ref().and_then(std::error::Error::source) {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_now_and_then_and_at_the_end() {
        let start = now();
        let mut refusals = Refusals::new();
        assert_eq!(refusals.line(), None);
        let first = refusals.note(start).unwrap();
        assert!(first.starts_with("1 coroutine that") && first.ends_with("1 so far"));
        assert_eq!(refusals.note(start + EVERY / 2), None);
        let third = refusals.note(start + EVERY).unwrap();
        assert!(third.starts_with("2 coroutines that") && third.ends_with("3 so far"));
        assert_eq!(refusals.note(start + EVERY), None);
        assert!(refusals.line().unwrap().starts_with("1 coroutine that"));
        assert_eq!(refusals.line(), None);
    }
}
