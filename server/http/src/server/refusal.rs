//! Connections that were accepted and whose coroutine could not begin: counted, and told to the log.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::{JoinHandle, panics, sync::Notify, time::coarse_now};

/// Those of a server. The worker that finds no stack must not block: it queues the handle here, and a coroutine of the
/// server's own joins and logs it, by [`Refusals::watch`].
#[derive(Debug)]
pub(crate) struct Refusals {
    count: AtomicU64,
    /// Never held while anything is waited for: it is taken where nothing can wait.
    ended: Mutex<VecDeque<JoinHandle<()>>>,
    more: Notify,
    log: maniple::sync::Mutex<Log>,
}

/// Coroutines that ended unbegun and that nobody has looked at yet. Further ones are taken to have ended as these.
const MOST_UNSEEN: usize = 1024;

/// At most one line in the log in so much time.
const EVERY: Duration = Duration::from_secs(10);

impl Refusals {
    /// Of the server at this address.
    pub(crate) fn new(server: String) -> Self {
        Self {
            count: AtomicU64::new(0),
            ended: Mutex::default(),
            more: Notify::new(),
            log: maniple::sync::Mutex::new(Log::new(server)),
        }
    }

    /// Connections refused so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// A connection's coroutine has ended without having begun, for want of a stack or because it was cancelled.
    #[cold]
    pub(crate) fn note(&self, coroutine: JoinHandle<()>) {
        let mut ended = self.ended();
        if ended.len() < MOST_UNSEEN {
            ended.push_back(coroutine);
            drop(ended);
            self.more.notify_one();
        } else {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ended(&self) -> MutexGuard<'_, VecDeque<JoinHandle<()>>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts refused connections and logs them, the first at once, until the caller is cancelled.
    pub(crate) fn watch(&self) {
        loop {
            match self.look() {
                Some(wait) => drop(self.more.notified_timeout(wait)),
                None => self.more.notified(),
            }
        }
    }

    /// Counts and logs what is left, to be called when nobody watches any more.
    pub(crate) fn finish(&self) {
        self.look();
        self.log.lock().tell_rest();
    }

    /// Looks at what has been noted; how long until there is something to tell, if there is anything.
    fn look(&self) -> Option<Duration> {
        let noted = std::mem::take(&mut *self.ended());
        let errors: Vec<_> = noted.into_iter().filter_map(refusal).collect();
        let new = errors.len() as u64;
        let seen = self.count.fetch_add(new, Ordering::Relaxed) + new;
        let mut log = self.log.lock();
        log.seen(seen, errors.into_iter().last());
        log.tell(coarse_now());
        log.wait(coarse_now())
    }
}

/// Why it could not begin, unless it was cancelled.
fn refusal(coroutine: JoinHandle<()>) -> Option<io::Error> {
    let error = coroutine.join().err()?;
    (!error.is_cancelled() && !error.is_elapsed()).then(|| error.into())
}

/// What the log has been told, and when.
#[derive(Debug)]
struct Log {
    server: String,
    seen: u64,
    /// Why the last one was refused.
    cause: String,
    told: u64,
    told_at: Option<Instant>,
}

impl Log {
    fn new(server: String) -> Self {
        Self {
            server,
            seen: 0,
            cause: String::new(),
            told: 0,
            told_at: None,
        }
    }

    fn seen(&mut self, count: u64, error: Option<io::Error>) {
        self.seen = count;
        if let Some(error) = error {
            self.cause = cause(&error);
        }
    }

    /// How long to wait with the next line; `None` if there is nothing to tell.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let due = self.told_at.map_or(now, |told| told + EVERY);
        (self.seen > self.told).then(|| due.saturating_duration_since(now))
    }

    fn tell(&mut self, now: Instant) {
        if self.wait(now).is_some_and(|wait| wait.is_zero()) {
            self.tell_rest();
            self.told_at = Some(now);
        }
    }

    fn tell_rest(&mut self) {
        if let Some(line) = self.line() {
            panics::catch(|| log::error!("{line}"));
        }
        self.told = self.seen;
    }

    fn line(&self) -> Option<String> {
        let (server, seen, cause) = (&self.server, self.seen, &self.cause);
        let connections = match seen - self.told {
            0 => return None,
            1 => "1 connection".to_owned(),
            new => format!("{new} connections"),
        };
        Some(format!(
            "{connections} to {server} closed unserved, {seen} so far; no stack for a coroutine: {cause}"
        ))
    }
}

/// The error with what the kernel said, if that was why.
fn cause(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(std::error::Error::source);
    match inner {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_at_once_and_then_now_and_then() {
        let start = Instant::now();
        let mut log = Log::new("127.0.0.1:80".to_owned());
        assert_eq!((log.wait(start), log.line()), (None, None));
        log.seen(1, Some(io::Error::other("limit of 4 stacks")));
        assert_eq!(log.wait(start), Some(Duration::ZERO));
        log.tell(start);
        assert_eq!(log.wait(start), None);
        log.seen(8, None);
        let soon = start + EVERY / 2;
        log.tell(soon);
        assert_eq!(log.wait(soon), Some(EVERY / 2));
        assert_eq!(
            log.line().unwrap(),
            "7 connections to 127.0.0.1:80 closed unserved, 8 so far; \
             no stack for a coroutine: limit of 4 stacks"
        );
        log.tell(start + EVERY);
        assert_eq!((log.wait(start + EVERY), log.line()), (None, None));
    }

    #[test]
    fn a_coroutine_that_was_cancelled_unbegun_is_no_refusal() {
        maniple::Runtime::builder()
            .workers(1)
            .build()
            .unwrap()
            .run(|| {
                let unbegun = maniple::spawn(|| ());
                unbegun.cancel();
                assert!(refusal(unbegun).is_none());
                assert!(refusal(maniple::spawn(|| ())).is_none());
            });
    }
}
