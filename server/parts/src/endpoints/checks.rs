//! Asking servers whether they are well, also those that nobody calls.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Weak},
    time::Duration,
};

use maniple::{JoinHandle, cancel, group, net::TcpStream, panics};

use super::{
    balance::Row,
    set::{Endpoints, Shared},
};

/// How servers are asked whether they are well.
#[derive(Clone, Debug)]
pub struct Checks {
    every: Duration,
    timeout: Duration,
    fall: u32,
    rise: u32,
}

/// So many servers are asked at a time.
const AT_A_TIME: usize = 32;

impl Checks {
    /// Every so often, give or take a tenth. Each may take 1 s; the second failure in a row takes a server out, the second
    /// success in a row brings it back.
    pub fn every(every: Duration) -> Self {
        Self {
            every,
            timeout: Duration::from_secs(1),
            fall: 2,
            rise: 2,
        }
    }

    /// How long a check may take. Default: 1 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many failures in a row take a server out. Default: 2.
    pub fn fall(mut self, failures: u32) -> Self {
        self.fall = failures.max(1);
        self
    }

    /// How many successes in a row bring it back. Default: 2.
    pub fn rise(mut self, successes: u32) -> Self {
        self.rise = successes.max(1);
        self
    }
}

/// Asks the servers of a set until it is dropped, or the set is; made by [`Endpoints::check`].
#[derive(Debug)]
#[must_use = "nobody is asked any more once this is dropped"]
pub struct Checking {
    checker: JoinHandle<()>,
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.checker.cancel();
    }
}

/// What the checks of a server have come to in a row, kept by its row's address.
type Rows = std::collections::BTreeMap<Arc<str>, (u32, u32)>;

impl Endpoints {
    /// Calls `check` with the address of each server, again and again; 32 at a time. A check that returns an error, takes too
    /// long or panics has failed, and a server that fails them gets no calls until it succeeds.
    ///
    /// It is meant for those that nobody calls: servers that were left out, and spare ones. What calls come to says more of
    /// the others. [`connects`] is the least that a check can do; an HTTP request to a path for it is better, since the
    /// kernel accepts connections for a process that stands still.
    ///
    /// # Errors
    /// If there is no stack for what asks.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_parts::endpoints::{Checks, Endpoints, connects};
    /// use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let prices = Endpoints::builder("prices").build(["10.0.0.7:80", "10.0.0.8:80"])?;
    /// let _checking = prices.check(Checks::every(Duration::from_secs(1)), connects)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn check<E: std::fmt::Display>(
        &self,
        checks: Checks,
        check: impl Fn(&str) -> Result<(), E> + Send + Sync + 'static,
    ) -> std::io::Result<Checking> {
        let shared = Arc::downgrade(&self.shared);
        let check = move |address: &str| check(address).map_err(|error| error.to_string());
        let builder = maniple::task::Builder::new().name("endpoints checks");
        let checker = builder
            .without_locals()
            .spawn(move || run(&shared, &checks, &check))?;
        Ok(Checking { checker })
    }
}

/// A check that connects to the address, and closes.
///
/// # Errors
/// If that fails.
pub fn connects(address: &str) -> std::io::Result<()> {
    TcpStream::connect(address).map(drop)
}

fn run(
    shared: &Weak<Shared>,
    checks: &Checks,
    check: &(impl Fn(&str) -> Result<(), String> + Sync),
) {
    let mut known = Rows::new();
    while let Some(now) = shared.upgrade() {
        round(&now, checks, check, &mut known);
        let pause = now.about(checks.every);
        drop(now);
        maniple::sleep(pause);
    }
}

fn round(
    shared: &Shared,
    checks: &Checks,
    check: &(impl Fn(&str) -> Result<(), String> + Sync),
    known: &mut Rows,
) {
    let table = shared.table();
    let mut after = Rows::new();
    let ask = |row: &Arc<Row>| asked(row.endpoint.address(), checks.timeout, check);
    group::map_as_completed(AT_A_TIME, &table.rows, ask, |index, answer| {
        let row = &table.rows[index];
        let address = row.endpoint.shared_address();
        let (succeeded, failed) = known.get(address).copied().unwrap_or_default();
        let in_a_row = match &answer {
            Ok(()) => (succeeded.saturating_add(1), 0),
            Err(_) => (0, failed.saturating_add(1)),
        };
        after.insert(address.clone(), in_a_row);
        match &answer {
            Ok(()) if in_a_row.0 >= checks.rise => shared.note_check(row, false, ""),
            Err(why) if in_a_row.1 >= checks.fall => shared.note_check(row, true, why),
            _ => {}
        }
    });
    *known = after;
}

fn asked(
    address: &str,
    timeout: Duration,
    check: &impl Fn(&str) -> Result<(), String>,
) -> Result<(), String> {
    let asked = catch_unwind(AssertUnwindSafe(|| {
        maniple::timeout(timeout, || check(address))
    }));
    match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(format!("no answer within {timeout:?}")),
        Err(payload) if cancel::is_cut_short(&*payload) => resume_unwind(payload),
        Err(payload) => {
            let why = crate::lines::panic_message(&*payload);
            panics::discard(payload);
            Err(format!("the check panicked: {why}"))
        }
    }
}
