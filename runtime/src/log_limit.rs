//! Lines in the log that may repeat without end: so many in ten seconds, then how many were left out.
//!
//! What a peer can bring about at will, it can bring about a million times: a log line of it fills a disk, or holds
//! the worker in the logger. [`log_within!`](crate::log_within) writes the first of them.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::time::coarse_now;

/// How many lines of one kind there may be in ten seconds. A `static` for each kind, as a rule.
///
/// # Examples
/// ```
/// use maniple::log_limit::LogLimit;
///
/// fn refuse(peer: std::net::SocketAddr) {
///     static REFUSED: LogLimit = LogLimit::new(20);
///     maniple::log_within!(REFUSED, warn, "refused {peer}");
/// }
/// # refuse(([127, 0, 0, 1], 80).into());
/// ```
#[derive(Debug)]
pub struct LogLimit {
    most: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Option<Instant>,
    told: u32,
    left_out: u64,
}

/// Within so much time there are at most so many lines.
const EVERY: Duration = Duration::from_secs(10);

impl LogLimit {
    /// At most so many lines in ten seconds; with 0, none.
    pub const fn new(most: u32) -> Self {
        Self {
            most,
            window: Mutex::new(Window {
                began: None,
                told: 0,
                left_out: 0,
            }),
        }
    }

    /// Whether there may be a line now, and what to put at its end; `None` if it is to be left out.
    ///
    /// Never waits: it holds a lock of std's for some instructions.
    pub fn admit(&self) -> Option<LeftOut> {
        self.admit_at(coarse_now())
    }

    fn admit_at(&self, now: Instant) -> Option<LeftOut> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= EVERY)
        {
            window.began = Some(now);
            window.told = 0;
        }
        if window.told == self.most {
            window.left_out += 1;
            return None;
        }
        window.told += 1;
        Some(LeftOut(std::mem::take(&mut window.left_out)))
    }
}

/// How many lines were left out before this one, as ` (and 3 more like it before)`; nothing where none were.
#[derive(Clone, Copy, Debug)]
pub struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(" (and 1 more like it before)"),
            count => write!(f, " (and {count} more like it before)"),
        }
    }
}

/// Logs a line unless there have been too many like it: `log_within!(LIMIT, warn, "no place for {peer}")`.
///
/// The first argument is a [`LogLimit`](crate::log_limit::LogLimit), the second the level as the `log` crate's macros
/// are named; the rest is a format string with its arguments. The caller's crate depends on `log`. A logger that
/// panics, or an argument that does when it is formatted, costs that line and nothing else.
#[macro_export]
macro_rules! log_within {
    ($limit:expr, $level:ident, $($line:tt)+) => {
        if let Some(left_out) = $limit.admit() {
            // Nobody hears of a logger's panic, but for the panic hook.
            let _told = $crate::panics::catch(|| log::$level!("{}{left_out}", format_args!($($line)+)));
        }
    };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted_in_the_next_line() {
        let limit = LogLimit::new(2);
        let start = Instant::now();
        let line = |after| limit.admit_at(start + after).map(|left| left.to_string());
        assert_eq!(line(Duration::ZERO).as_deref(), Some(""));
        assert_eq!(line(EVERY / 2).as_deref(), Some(""));
        for _ in 0..3 {
            assert_eq!(line(EVERY - Duration::from_nanos(1)), None);
        }
        let next = line(EVERY);
        assert_eq!(next.as_deref(), Some(" (and 3 more like it before)"));
        assert_eq!(line(EVERY).as_deref(), Some(""));
        assert_eq!(line(EVERY), None);
    }

    #[test]
    fn a_limit_of_none_lets_nothing_through() {
        let limit = LogLimit::new(0);
        assert!((0..3).all(|_| limit.admit().is_none()));
    }

    #[test]
    fn what_cannot_be_formatted_costs_its_line_alone() {
        struct Bad;
        impl fmt::Display for Bad {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("intended")
            }
        }
        let limit = LogLimit::new(1);
        crate::log_within!(limit, error, "{}", Bad);
        assert!(limit.admit().is_none());
    }
}
