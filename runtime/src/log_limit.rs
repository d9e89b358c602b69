//! Lines in the log that may repeat without end: so many in a while, then how many were left out.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lines of one kind.
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

/// Logs a line of that kind and level, unless it is to be left out. A logger that panics ends nothing else.
#[macro_export]
macro_rules! log_within {
    ($limit:expr, $level:ident, $($line:tt)+) => {
        if let Some(left_out) = $limit.admit() {
            $crate::panics::catch(|| log::$level!("{}{left_out}", format_args!($($line)+)));
        }
    };
}

/// Within so much time there are at most so many lines.
const EVERY: Duration = Duration::from_secs(10);

impl LogLimit {
    /// At most so many lines in ten seconds.
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

    /// Whether there may be a line now, and what to add to it; `None` if it is to be left out.
    pub fn admit(&self) -> Option<LeftOut> {
        self.admit_at(crate::time::coarse_now())
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

/// How many lines were left out before this one; nothing where none were.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted_in_the_next_line() {
        let rate = LogLimit::new(2);
        let start = Instant::now();
        let line = |after| rate.admit_at(start + after).map(|left| left.to_string());
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
}
