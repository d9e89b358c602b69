//! How many further attempts all calls to a service may make together.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use maniple::time::coarse_now;

use crate::enlisted::Enlisted;

/// What retries cost, for all calls that share it: clones are the same budget. Each call earns a part of a retry, each retry
/// takes a whole one, and where nothing is left, none is made.
///
/// So a service that fails gets a fifth more load, say, and not three times as much, which is what three attempts are without
/// a budget. As in Finagle's `RetryBudget`, a few retries a second may be made in any case: where there are few calls, what
/// they earn is nothing.
#[derive(Clone)]
pub struct RetryBudget {
    shared: Arc<Shared>,
}

struct Shared {
    /// In thousandths of a retry.
    for_call: u64,
    for_second: u64,
    most: u64,
    account: Mutex<Account>,
    name: OnceLock<String>,
}

/// Those that have a name.
static NAMED: Enlisted<Shared> = Enlisted::new("retry budgets", tell);

fn tell() -> String {
    let line = |(name, stats): (String, BudgetStats)| {
        let BudgetStats {
            calls,
            retries,
            refused,
            left,
        } = stats;
        let name = name.escape_debug();
        format!("  {name}: {left} left; {retries} made for {calls} calls, {refused} refused\n")
    };
    RetryBudget::all().into_iter().map(line).collect()
}

#[derive(Debug)]
struct Account {
    balance: u64,
    /// Up to when the seconds have been paid for.
    paid_until: Instant,
    stats: BudgetStats,
}

/// What a [`RetryBudget`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetStats {
    /// Calls, each counted once.
    pub calls: u64,
    /// Retries that were made.
    pub retries: u64,
    /// Retries that were not made for want of budget.
    pub refused: u64,
    /// Retries that may be made at once, without what the seconds since the last one have earned.
    pub left: u64,
}

const WHOLE: u64 = 1000;

impl RetryBudget {
    /// So many retries for a hundred calls, 10 a second in any case, and 100 that may be saved up.
    pub fn new(percent: u32) -> Self {
        Self::with(percent, 10, 100)
    }

    /// So many retries for a hundred calls, so many a second in any case, and so many that may be saved up for a bad moment.
    /// It begins with those of one second.
    pub fn with(percent: u32, per_second: u32, most: u32) -> Self {
        let for_second = u64::from(per_second) * WHOLE;
        let most = u64::from(most) * WHOLE;
        Self {
            shared: Arc::new(Shared {
                for_call: u64::from(percent) * WHOLE / 100,
                for_second,
                most,
                account: Mutex::new(Account {
                    balance: for_second.min(most),
                    paid_until: coarse_now(),
                    stats: BudgetStats::default(),
                }),
                name: OnceLock::new(),
            }),
        }
    }

    /// Has [`all`](Self::all) tell of it, by this name: its clones have it too, and the first name stays. `Metrics` of the crate
    /// `maniple-server` tells of all that have one.
    pub fn name(self, name: impl Into<String>) -> Self {
        if self.shared.name.set(name.into()).is_ok() {
            NAMED.add(&self.shared);
        }
        self
    }

    /// Those of the process that have a name, in the order in which they were named.
    pub fn all() -> Vec<(String, BudgetStats)> {
        let all = NAMED.all();
        all.into_iter()
            .map(|shared| {
                let name = shared.name.get().cloned().unwrap_or_default();
                (name, Self { shared }.stats())
            })
            .collect()
    }

    /// What it has seen so far.
    pub fn stats(&self) -> BudgetStats {
        self.with_account(|account| BudgetStats {
            left: account.balance / WHOLE,
            ..account.stats
        })
    }

    pub(super) fn earn(&self) {
        let Shared { for_call, most, .. } = *self.shared;
        self.with_account(|account| {
            account.balance = (account.balance + for_call).min(most);
            account.stats.calls += 1;
        });
    }

    /// Whether a retry may be made; it is paid for.
    pub(super) fn spend(&self, now: Instant) -> bool {
        let Shared {
            for_second, most, ..
        } = *self.shared;
        self.with_account(|account| {
            let passed = now.saturating_duration_since(account.paid_until);
            let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
            let earned = passed.saturating_mul(for_second) / 1000;
            if earned > 0 {
                account.balance = account.balance.saturating_add(earned).min(most);
                account.paid_until = now;
            }
            match account.balance.checked_sub(WHOLE) {
                Some(left) => {
                    account.balance = left;
                    account.stats.retries += 1;
                    true
                }
                None => {
                    account.stats.refused += 1;
                    false
                }
            }
        })
    }

    /// Nothing waits while it is held.
    fn with_account<T>(&self, f: impl FnOnce(&mut Account) -> T) -> T {
        let account = self.shared.account.lock();
        f(&mut account.unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget")
            .field("name", &self.shared.name.get())
            .field("stats", &self.stats())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn calls_earn_retries_and_no_more_than_may_be_saved_up() {
        let budget = RetryBudget::with(20, 0, 3);
        let now = coarse_now();
        assert!(!budget.spend(now), "it begins with nothing");
        for _ in 0..4 {
            budget.earn();
        }
        assert!(!budget.spend(now));
        budget.earn();
        assert!(budget.spend(now));
        assert!(!budget.spend(now));
        for _ in 0..1000 {
            budget.earn();
        }
        let made = (0..10).filter(|_| budget.spend(now)).count();
        assert_eq!(made, 3);
        let stats = budget.stats();
        assert_eq!((stats.calls, stats.retries, stats.refused), (1005, 4, 10));
    }

    #[test]
    fn seconds_earn_retries_however_often_it_is_asked() {
        let budget = RetryBudget::with(0, 10, 100);
        let began = coarse_now();
        let spent = |from: u64, to: u64, step: usize| {
            let times = (from..to).step_by(step);
            let times = times.map(|millis| began + Duration::from_millis(millis));
            times.filter(|&at| budget.spend(at)).count()
        };
        assert_eq!(spent(0, 1, 1), 1);
        // Those of the first second, and those of three more.
        assert_eq!(spent(1, 3001, 1), 9 + 30);
        // Asked every 90 ms, of which each earns nine tenths.
        assert!((29..=30).contains(&spent(3001, 6001, 90)));
        // A long silence saves up what may be saved up, and time that runs back nothing.
        assert_eq!(spent(3_600_000, 3_600_001, 1), 1);
        let made = (0..1000).filter(|_| budget.spend(began)).count();
        assert_eq!(made, 99);
    }
}
