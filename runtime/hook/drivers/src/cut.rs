//! How a test ends a call from outside: by a deadline, or by a cancellation.

use std::time::Duration;

use maniple::{cancel::CancelToken, sleep, spawn, timeout};

/// What ends a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its deadline.
    Deadline,
    /// A cancellation by another coroutine.
    Cancellation,
}

impl Cut {
    /// Each.
    pub const ALL: [Self; 2] = [Self::Deadline, Self::Cancellation];

    /// Runs `call` and cuts it after that time.
    ///
    /// # Panics
    /// If the call has ended before, without an error.
    pub fn after<T: std::fmt::Debug, E: std::fmt::Debug>(
        self,
        time: Duration,
        call: impl FnOnce() -> Result<T, E>,
    ) {
        match self {
            Self::Deadline => {
                let told = timeout(time, call);
                assert!(!matches!(told, Ok(Ok(_))), "{self:?}: {told:?}");
            }
            Self::Cancellation => {
                let token = CancelToken::new();
                let theirs = token.clone();
                let other = spawn(move || {
                    sleep(time);
                    theirs.cancel();
                });
                let told = token.run(call);
                assert!(!matches!(told, Ok(Ok(_))), "{self:?}: {told:?}");
                other.join().unwrap();
            }
        }
    }
}
