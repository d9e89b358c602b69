//! How many calls of late failed: a window in ten parts, without a clock.

use std::time::Duration;

const PARTS: usize = 10;

/// Outcomes of the last so much time, to a tenth of it.
#[derive(Debug, Default)]
pub(crate) struct Window {
    parts: [Outcomes; PARTS],
    /// The number of the newest part.
    newest: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    pub(crate) calls: u32,
    pub(crate) failures: u32,
}

impl Window {
    /// Notes an outcome at that time, of a clock that began anywhere.
    pub(crate) fn note(&mut self, length: Duration, at: Duration, failed: bool) {
        self.move_to(length, at);
        let part = &mut self.parts[(self.newest % PARTS as u64) as usize];
        part.calls = part.calls.saturating_add(1);
        part.failures = part.failures.saturating_add(u32::from(failed));
    }

    pub(crate) fn outcomes(&mut self, length: Duration, at: Duration) -> Outcomes {
        self.move_to(length, at);
        let add = |sum: Outcomes, part: &Outcomes| Outcomes {
            calls: sum.calls.saturating_add(part.calls),
            failures: sum.failures.saturating_add(part.failures),
        };
        self.parts.iter().fold(Outcomes::default(), add)
    }

    pub(crate) fn clear(&mut self) {
        self.parts = Default::default();
    }

    /// Forgets what is too old. Time that runs back counts as none.
    fn move_to(&mut self, length: Duration, at: Duration) {
        let part = (length / PARTS as u32).as_nanos().max(1);
        let number = u64::try_from(at.as_nanos() / part).unwrap_or(u64::MAX);
        let steps = number.saturating_sub(self.newest).min(PARTS as u64);
        for step in 0..steps {
            self.parts[((number - step) % PARTS as u64) as usize] = Outcomes::default();
        }
        self.newest = self.newest.max(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_what_is_in_the_window_and_nothing_older() {
        let second = Duration::from_secs(1);
        let mut window = Window::default();
        for tenth in 0..30 {
            window.note(second, second * tenth / 10, tenth % 3 == 0);
            let outcomes = window.outcomes(second, second * tenth / 10);
            assert_eq!(outcomes.calls, (tenth + 1).min(10), "{tenth}");
            let first = tenth.saturating_sub(9);
            let failures = (first..=tenth).filter(|tenth| tenth % 3 == 0).count();
            assert_eq!(outcomes.failures, failures as u32, "{tenth}");
        }
        assert_eq!(window.outcomes(second, second * 29 / 10).calls, 10);
        // Back in time nothing is lost; a long time later nothing is left.
        assert_eq!(window.outcomes(second, second).calls, 10);
        assert_eq!(window.outcomes(second, Duration::MAX), Outcomes::default());
        window.note(Duration::ZERO, Duration::MAX, true);
        assert_eq!(window.outcomes(second, Duration::MAX).failures, 1);
    }
}
