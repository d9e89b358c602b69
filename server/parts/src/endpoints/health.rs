//! Whether a server is fit to be called, by what its calls came to: without a clock.

use std::time::Duration;

use crate::resilience::window::Window;

/// When a server is left out, and for how long; see [`Builder::ejection`](super::Builder::ejection).
///
/// As outlier detection in Envoy, and brpc's breaker of one server.
#[derive(Clone, Debug)]
pub struct Ejection {
    pub(super) in_a_row: u32,
    pub(super) percent: u32,
    pub(super) least_calls: u32,
    pub(super) window: Duration,
    pub(super) pause: (Duration, Duration),
    pub(super) at_most: u32,
    pub(super) ramp: Duration,
}

impl Ejection {
    /// After 5 failures in a row, or half of at least 20 calls in 10 s; for 1 s, then longer and longer up to 30 s. At most
    /// half of the servers, and never the last one. Who comes back has its full share of calls after 5 s.
    pub fn new() -> Self {
        Self {
            in_a_row: 5,
            percent: 50,
            least_calls: 20,
            window: Duration::from_secs(10),
            pause: (Duration::from_secs(1), Duration::from_secs(30)),
            at_most: 50,
            ramp: Duration::from_secs(5),
        }
    }

    /// After so many failures in a row. Default: 5. With 0, whatever their number.
    pub fn in_a_row(mut self, failures: u32) -> Self {
        self.in_a_row = failures;
        self
    }

    /// By which share of the calls in a time, in hundredths, if there were enough of them. Default: 50 % of at least 20 in 10 s.
    pub fn share(mut self, percent: u32, least_calls: u32, window: Duration) -> Self {
        self.percent = percent;
        self.least_calls = least_calls.max(1);
        self.window = window;
        self
    }

    /// For how long at first, and at most: it doubles each time that the server fails when it is back. Default: 1 s and 30 s.
    pub fn pause(mut self, first: Duration, longest: Duration) -> Self {
        self.pause = (first, longest.max(first));
        self
    }

    /// Which share of the servers may be left out at a time, in hundredths, rounded up; the last one never is. Where more
    /// fail it is not the servers, most likely. Default: 50.
    pub fn at_most(mut self, percent: u32) -> Self {
        self.at_most = percent.min(100);
        self
    }

    /// How long it takes until a server that was left out, or is new in the list, has its full share of calls: from a tenth
    /// on, more and more. If it fails meanwhile it is left out again, at once. Default: 5 s. Zero gives it its share at once.
    pub fn ramp(mut self, time: Duration) -> Self {
        self.ramp = time;
        self
    }

    /// How many of so many may be left out.
    pub(super) fn most(&self, servers: usize) -> usize {
        let share = (servers * self.at_most as usize).div_ceil(100);
        share.min(servers.saturating_sub(1))
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self::new()
    }
}

/// What is known of one server's calls.
#[derive(Debug, Default)]
pub(super) struct Health {
    failed_in_a_row: u32,
    window: Window,
    /// How often it was left out since it last did well for as long as it takes to come back.
    relapses: u32,
}

impl Health {
    /// A call succeeded. `is_back` once the server has its full share of calls.
    pub(super) fn succeeded(&mut self, settings: &Ejection, now: Duration, is_back: bool) {
        self.failed_in_a_row = 0;
        self.window.note(settings.window, now, false);
        if is_back {
            self.relapses = 0;
        }
    }

    /// A call failed; whether that is enough.
    pub(super) fn failed(&mut self, settings: &Ejection, now: Duration, is_back: bool) -> bool {
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        self.window.note(settings.window, now, true);
        let late = self.window.outcomes(settings.window, now);
        let (calls, failures) = (u64::from(late.calls), u64::from(late.failures));
        let in_a_row = settings.in_a_row > 0 && self.failed_in_a_row >= settings.in_a_row;
        let share = calls >= u64::from(settings.least_calls)
            && failures * 100 >= calls * u64::from(settings.percent);
        in_a_row || share || !is_back
    }

    /// It is left out; for how long.
    pub(super) fn leave_out(&mut self, settings: &Ejection) -> Duration {
        let doubled = 1_u32.checked_shl(self.relapses).unwrap_or(u32::MAX);
        self.relapses = self.relapses.saturating_add(1);
        self.failed_in_a_row = 0;
        self.window.clear();
        let (first, longest) = settings.pause;
        first.saturating_mul(doubled).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn failures_in_a_row_or_a_share_of_many_are_enough() {
        let settings = Ejection::new();
        let mut health = Health::default();
        for _ in 0..4 {
            assert!(!health.failed(&settings, SECOND, true));
        }
        health.succeeded(&settings, SECOND, true);
        for _ in 0..4 {
            assert!(!health.failed(&settings, SECOND, true));
        }
        assert!(health.failed(&settings, SECOND, true), "the fifth in a row");

        let mut health = Health::default();
        let mut number = 0;
        // Two of three fail, never five in a row.
        let enough = loop {
            number += 1;
            match number % 3 {
                0 => health.succeeded(&settings, SECOND, true),
                _ if health.failed(&settings, SECOND, true) => break number,
                _ => {}
            }
        };
        assert_eq!(enough, 20);
    }

    #[test]
    fn one_failure_of_who_is_not_quite_back_is_enough_and_it_stays_away_longer() {
        let settings = Ejection::new().pause(SECOND, 4 * SECOND);
        let mut health = Health::default();
        let mut pauses = Vec::new();
        for _ in 0..4 {
            assert!(health.failed(&settings, SECOND, false));
            pauses.push(health.leave_out(&settings).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 4]);
        health.succeeded(&settings, SECOND, false);
        assert_eq!(health.leave_out(&settings), 4 * SECOND, "not yet forgiven");
        health.succeeded(&settings, SECOND, true);
        assert_eq!(health.leave_out(&settings), SECOND);
        health.relapses = u32::MAX;
        assert_eq!(health.leave_out(&settings), 4 * SECOND);
    }

    #[test]
    fn never_all_of_them_are_left_out() {
        let most = |percent, servers| Ejection::new().at_most(percent).most(servers);
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(|servers| most(50, servers)),
            [0, 0, 1, 2, 2, 3]
        );
        assert_eq!([0, 1, 2, 3].map(|servers| most(100, servers)), [0, 0, 1, 2]);
        assert_eq!(most(0, 9), 0);
    }
}
