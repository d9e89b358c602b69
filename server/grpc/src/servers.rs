//! Services that several servers provide: which there are, how they are called, and the connections to them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use maniple::{cancel, sync::Semaphore};
use maniple_parts::{
    endpoints::{Endpoint, Endpoints, Listening, PickError, Picked, Want},
    resilience::{Retry, RetryBudget},
};
use maniple_server::http2::Link;

use crate::status::{Code, Status};

/// Servers that provide a service together, and how they are called: see [`Channel::over`](crate::Channel::over).
///
/// Clones are the same servers, with the same budget.
#[derive(Clone)]
pub struct Servers {
    endpoints: Endpoints,
    pub(crate) retry: Retry,
    fails: fn(Code) -> bool,
}

impl Servers {
    /// Those of the set, whose addresses have a port. A call is tried three times, with pauses of 1 to 100 ms and a budget of 20
    /// retries for 100 calls.
    pub fn new(endpoints: Endpoints) -> Self {
        let pauses = Duration::from_millis(1)..=Duration::from_millis(100);
        Self {
            endpoints,
            retry: Retry::new().backoff(pauses).budget(&RetryBudget::new(20)),
            fails: |code| {
                matches!(
                    code,
                    Code::Unknown
                        | Code::DeadlineExceeded
                        | Code::Internal
                        | Code::Unavailable
                        | Code::DataLoss
                )
            },
        }
    }

    /// How often a call is tried, with which pauses and from which budget. `Retry::new().attempts(1)` never tries again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Which codes speak against a server, so that it may be left out. Default: `UNKNOWN`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`, and
    /// `DEADLINE_EXCEEDED` before the answer has begun.
    pub fn failures(mut self, fails: fn(Code) -> bool) -> Self {
        self.fails = fails;
        self
    }

    /// Gives a call to one of the servers.
    pub(crate) fn pick(&self, want: &Want) -> Result<Attempt, Status> {
        let picked = self.endpoints.pick_as(want);
        let picked = picked.map_err(|error| match error {
            PickError::TimedOut => Status::new(Code::DeadlineExceeded, "waiting for a server"),
            PickError::Cancelled => Status::new(Code::Cancelled, "waiting for a server"),
            error => Status::new(Code::Unavailable, error.to_string()),
        })?;
        let fails = self.fails;
        Ok(Attempt { picked, fails })
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("endpoints", &self.endpoints)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// A call that was given to a server: under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Attempt {
    picked: Picked,
    fails: fn(Code) -> bool,
}

impl Attempt {
    pub(crate) fn address(&self) -> &str {
        self.picked.address()
    }

    /// The answer has begun.
    pub(crate) fn answered(&mut self) {
        self.picked.answered(true);
    }

    /// The answer was whole.
    pub(crate) fn end(&mut self) {
        self.picked.end();
    }

    /// It has come to that. What the caller has given up says nothing of the server.
    pub(crate) fn failed(&mut self, status: &Status) {
        if status.code() != Code::Cancelled || cancel::check().is_ok() {
            self.picked.answered(!(self.fails)(status.code()));
        }
    }
}

/// A server that a channel leads to, and the connection to it, if there is one.
pub(crate) struct Line {
    /// Had over the making of a connection, by one at a time. No lock: who waits for a turn may be cut short.
    pub(crate) connecting: Semaphore,
    current: Mutex<Option<Link>>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            connecting: Semaphore::new(1),
            current: Mutex::default(),
        }
    }
}

impl Line {
    /// A connection that takes requests, as far as is known.
    pub(crate) fn open_one(&self) -> Option<Link> {
        let mut current = locked(&self.current);
        if current.as_ref().is_some_and(|link| !link.is_open()) {
            *current = None;
        }
        current.clone()
    }

    pub(crate) fn set(&self, link: Option<Link>) {
        *locked(&self.current) = link;
    }
}

/// Those to the servers of a set, as long as they are in it.
pub(crate) struct Lines {
    lines: Arc<Mutex<HashMap<String, Arc<Line>>>>,
    _listening: Listening,
}

impl Lines {
    pub(crate) fn new(servers: &Servers) -> Self {
        let lines: Arc<Mutex<HashMap<String, Arc<Line>>>> = Arc::default();
        let theirs = lines.clone();
        let forget = move |endpoint: &Endpoint| {
            let line = locked(&theirs).remove(endpoint.address());
            drop(line);
        };
        Self {
            lines,
            _listening: servers.endpoints.on_leave(forget),
        }
    }

    pub(crate) fn to(&self, attempt: &Attempt) -> Arc<Line> {
        let mut lines = locked(&self.lines);
        if let Some(line) = lines.get(attempt.address()) {
            return line.clone();
        }
        let line = Arc::new(Line::default());
        if !attempt.picked.has_left() {
            lines.insert(attempt.address().to_owned(), line.clone());
        }
        line
    }
}

/// Never held over a wait.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
