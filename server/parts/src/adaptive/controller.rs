//! How many requests at a time are good: found out by how long they take. Times in, a limit out; it reads no clock.
//!
//! # How it works
//!
//! What is asked for less than it can do answers in the same time whether it is asked for one thing or for ten. Beyond its
//! capacity things queue up in it, and all take longer by as much. So the limit follows the quotient of two times: how
//! long requests take where there is no queue (the *baseline*), and how long they take now.
//!
//! ```text
//!   limit ← limit × min(1, tolerance × baseline ÷ now) + √limit        for each window of samples
//! ```
//!
//! The root lets it grow while nothing speaks against it and more than half of it is used, and settles it at 1.5 times the
//! capacity and a few: enough that a short burst finds work to do. At the third of that there is no queue, which is where
//! the baseline comes from:
//!
//! - where no more than a third of the limit is in use, from all windows;
//! - else from a *probe*, a window at a third of the limit. A baseline that is not measured without a queue takes the queue
//!   for its own after a while, and the limit then grows without end. After a probe that tells something new the next
//!   one is soon, else later and later. A fall of the limit that was no help brings one about: what is served has become slow
//!   by itself, and less of it at a time would not make it faster.
//!
//! A window is a cohort: the requests that begin in it, until there are enough, are waited for, all of them. Those that
//! end first are the quick ones, and a mean of these would say that all is well. So a window takes as long as its requests,
//! and what was begun under the limit before is in none. One that takes more than eight times as long as usual counts as
//! if it took that, and is not waited for any longer: a minute among a hundred milliseconds changes little.
//!
//! Errors are fast, and look like an idle service. One counts only if it took longer than an answer may take: then it
//! is a sign of too much, such as a time that ran out, and lowers the limit.

use std::time::Duration;

/// Between which ends a limit is, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Never fewer at a time, but while it looks how long calls take without a queue.
    pub least: usize,
    /// Never more.
    pub most: usize,
    /// How many to begin with.
    pub initial: usize,
}

impl Default for Bounds {
    /// From 4 to 1000, and 20 to begin with.
    fn default() -> Self {
        Self {
            least: 4,
            most: 1000,
            initial: 20,
        }
    }
}

/// What has become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It has its answer.
    Answered,
    /// By the fault of the service, or because somebody would not wait any longer.
    Failed,
    /// By the fault of the client.
    Refused,
}

/// A call that is looked at, until its end is told to the controller that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    window: u64,
    began: Duration,
}

/// Decides how many calls at a time are good, by how long they take. It reads no clock: instants are told, counted from any one
/// beginning.
///
/// # Examples
/// ```
/// use maniple_parts::adaptive::{Bounds, Controller, Outcome};
/// use std::time::Duration;
///
/// let mut controller = Controller::new(Bounds::default());
/// let begun = controller.begin(Duration::ZERO, 1);
/// if let Some(sample) = begun {
///     controller.end(sample, Duration::from_millis(7), Outcome::Answered);
/// }
/// assert_eq!(controller.limit(), 20);
/// ```
#[derive(Debug)]
pub struct Controller {
    bounds: Bounds,
    limit: f64,
    /// How long a request takes without a queue, in seconds.
    baseline: Option<f64>,
    window: Window,
    is_probing: bool,
    probe: Probe,
}

/// When to look for the baseline again.
#[derive(Debug)]
struct Probe {
    /// Not before.
    due: Duration,
    interval: Duration,
    /// Windows since the last one.
    windows: u32,
    /// The limit at the last one.
    limit: f64,
}

/// What has been seen since a change.
#[derive(Debug, Default)]
struct Window {
    number: u64,
    since: Duration,
    /// When there were enough.
    full: Option<Duration>,
    /// Those who have not ended.
    pending: u32,
    answered: u32,
    /// How long these took, in seconds.
    sum: f64,
    overdue: u32,
    /// Requests at a time, looked at or not.
    most: usize,
}

/// How much longer than the baseline is still no queue.
const TOLERANCE: f64 = 1.5;
/// The part of the limit up to which there is no queue.
const UNQUEUED: f64 = 1.0 / 3.0;
/// What takes more than so many times as long as usual counts as if it took that.
const MOST: f64 = 8.0;
/// So many requests make a window once it lasts so long, and so many before.
const FEW: u32 = 20;
/// What a probe finds counts for long.
const FEW_IN_PROBE: u32 = 50;
const MANY: u32 = 200;
const WINDOW: Duration = Duration::from_millis(100);
/// By how much of what it sees the baseline moves where there is no probe.
const SMOOTHING: f64 = 0.1;
/// Windows between two probes at least, and between a fall and a probe that asks whether it helps.
const APART: u32 = 4;
const SOON: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(30);
/// A baseline that has changed by so much is news; what is less may be chance.
const NEWS: f64 = 1.5;

impl Window {
    /// How long what was answered took.
    fn mean(&self) -> Option<f64> {
        match self.answered {
            0 => None,
            count => Some(self.sum / f64::from(count)),
        }
    }
}

impl Controller {
    /// One that has seen nothing. What it begins with is moved into its bounds, and no bound is less than one.
    pub fn new(bounds: Bounds) -> Self {
        let least = bounds.least.max(1);
        let most = bounds.most.max(least);
        let initial = bounds.initial.clamp(least, most);
        let bounds = Bounds {
            least,
            most,
            initial,
        };
        let limit = initial as f64;
        Self {
            bounds,
            limit,
            baseline: None,
            window: Window::default(),
            is_probing: false,
            probe: Probe {
                due: SOON,
                interval: SOON,
                windows: 0,
                limit,
            },
        }
    }

    /// How many at a time now.
    pub fn limit(&self) -> usize {
        match self.is_probing {
            true => (self.limit as usize / 3).max(1),
            false => self.limit as usize,
        }
    }

    /// How many at a time when there is no probe.
    #[cfg(test)]
    pub(super) fn goal(&self) -> usize {
        self.limit as usize
    }

    /// How long requests take without a queue, as far as is known.
    pub fn baseline(&self) -> Option<Duration> {
        self.baseline.map(Duration::from_secs_f64)
    }

    /// A request begins, as one of so many at a time, itself included. If it is looked at, its end is to be told.
    pub fn begin(&mut self, now: Duration, at_a_time: usize) -> Option<Sample> {
        self.consider(now);
        let window = &mut self.window;
        window.most = window.most.max(at_a_time);
        if window.full.is_some() {
            return None;
        }
        window.pending += 1;
        let looked_at = window.pending + window.answered + window.overdue;
        let lasts = now.saturating_sub(window.since);
        let few = if self.is_probing { FEW_IN_PROBE } else { FEW };
        if looked_at >= MANY || looked_at >= few && lasts >= WINDOW {
            window.full = Some(now);
        }
        Some(Sample {
            window: window.number,
            began: now,
        })
    }

    /// One that is looked at has ended.
    pub fn end(&mut self, member: Sample, now: Duration, outcome: Outcome) {
        let window = &mut self.window;
        if member.window != window.number {
            return;
        }
        window.pending -= 1;
        let took = now.saturating_sub(member.began).as_secs_f64();
        match (outcome, self.baseline) {
            (Outcome::Answered, usual) => {
                let most = usual.map_or(f64::MAX, |usual| MOST * usual);
                window.sum += took.clamp(1e-9, most);
                window.answered += 1;
            }
            (Outcome::Failed, Some(usual)) if took > TOLERANCE * usual => window.overdue += 1,
            (Outcome::Failed | Outcome::Refused, _) => {}
        }
        self.consider(now);
    }

    /// Draws a conclusion if the window is at its end.
    fn consider(&mut self, now: Duration) {
        let Some(full) = self.window.full else {
            return;
        };
        if now.saturating_sub(self.window.since) < WINDOW {
            return;
        }
        if self.window.pending > 0 {
            let Some(usual) = self.baseline.or(self.window.mean()) else {
                return;
            };
            if now.saturating_sub(full).as_secs_f64() < MOST * usual {
                return;
            }
            self.window.sum += f64::from(self.window.pending) * MOST * usual;
            self.window.answered += self.window.pending;
        }
        let next = Window {
            number: self.window.number + 1,
            since: now,
            ..Window::default()
        };
        let window = std::mem::replace(&mut self.window, next);
        // Unless too many of them failed at once.
        if window.answered + window.overdue >= FEW / 2 {
            self.change(&window);
        }
    }

    /// Draws a conclusion from a window.
    #[cold]
    fn change(&mut self, window: &Window) {
        let now = self.window.since;
        let overdue = f64::from(window.overdue) / f64::from(window.answered + window.overdue);
        let mean = window.mean();
        if self.is_probing {
            self.is_probing = false;
            self.end_probe(mean, now);
            self.set(self.limit * (1.0 - overdue / 2.0));
            return;
        }
        self.probe.windows = self.probe.windows.saturating_add(1);
        let (Some(mean), 0) = (mean, window.overdue) else {
            self.set(self.limit * (1.0 - overdue / 2.0));
            self.consider_probe(now);
            return;
        };
        let baseline = *self.baseline.get_or_insert(mean);
        let used = window.most as f64 / self.limit;
        if used <= UNQUEUED || mean < baseline {
            self.baseline = Some(baseline + (mean - baseline) * SMOOTHING);
        }
        if used <= UNQUEUED {
            // As good as a probe.
            self.probe.windows = 0;
            self.probe.limit = self.limit;
            self.probe.due = now + self.probe.interval;
            return;
        }
        let gradient = (TOLERANCE * baseline / mean).clamp(0.5, 1.0);
        let more = if used > 0.5 { self.limit.sqrt() } else { 0.0 };
        self.set(self.limit * gradient + more);
        self.consider_probe(now);
    }

    fn set(&mut self, limit: f64) {
        let Bounds { least, most, .. } = self.bounds;
        self.limit = limit.clamp(least as f64, most as f64);
    }

    fn consider_probe(&mut self, now: Duration) {
        let was_no_help = self.limit < self.probe.limit / 2.0;
        let is_due = now >= self.probe.due || was_no_help;
        // Of a limit that is fixed, or of one, there is no half.
        let has_half = self.bounds.least < self.bounds.most && self.limit >= 2.0;
        self.is_probing = is_due && has_half && self.probe.windows >= APART;
    }

    fn end_probe(&mut self, mean: Option<f64>, now: Duration) {
        let is_news = match (mean, self.baseline) {
            (Some(mean), Some(before)) if mean <= before * NEWS && before <= mean * NEWS => {
                self.baseline = Some((mean + before) / 2.0);
                false
            }
            (mean, before) => {
                self.baseline = mean.or(before);
                true
            }
        };
        let longer = (self.probe.interval * 2).min(SELDOM);
        let interval = if is_news { SOON } else { longer };
        self.probe = Probe {
            due: now + interval,
            interval,
            windows: 0,
            limit: self.limit,
        };
    }
}
