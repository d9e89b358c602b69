//! The servers that a service's calls may go to: which there are, which are fit, and which of them gets the next call.
//!
//! [`Endpoints`] is one value for it, shared by all who call the same service. A list, pushed or [followed](source), says
//! which servers there are. Each call [picks](Endpoints::pick) one by a [`Balance`], and tells what the call came to; so a
//! server that is slow gets fewer, one that [fails](Ejection) none for a while, one that is at its
//! [limit](Builder::limit) no more than that. [Checks](Endpoints::check) find out about those that nobody calls. None of it
//! knows what a call is: HTTP, a database, a queue.
//!
//! # Examples
//! ```
//! use maniple_parts::{endpoints::{Balance, CallError, Endpoints, Want}, resilience::Retry};
//!
//! maniple::run(|| {
//!     let prices = Endpoints::builder("prices").build(["10.0.0.7:80", "10.0.0.8:80"]).unwrap();
//!     let ask = |address: &str| match address {
//!         "10.0.0.7:80" => Err("connection refused"), // as while it is restarted
//!         _ => Ok(42),
//!     };
//!     // What fails is tried again at once, at another server.
//!     let want = Want::new();
//!     let again = |error: &CallError<&str>| matches!(error, CallError::Call(_));
//!     let attempt = |_| prices.call_as(&want, |picked| ask(picked.address()));
//!     let price = Retry::new().backoff(Default::default()..=Default::default()).run(again, attempt);
//!     assert_eq!(price, Ok(42));
//! });
//! ```

mod balance;
mod builder;
mod chance;
mod checks;
mod endpoint;
mod error;
mod health;
mod latency;
mod line;
mod listeners;
mod maglev;
mod member;
mod picked;
mod ring;
mod set;
pub mod source;
mod want;

pub use balance::Balance;
pub use builder::Builder;
pub(crate) use chance::Chance;
pub use checks::{Checking, Checks, connects};
pub use endpoint::{Endpoint, EndpointError, Part};
pub use error::{CallError, ListError, PickError};
pub use health::Ejection;
pub use listeners::Listening;
pub use member::{EndpointState, EndpointStats};
pub use picked::Picked;
pub use set::Endpoints;
pub use source::Following;
pub use want::Want;

impl Endpoints {
    /// Settings for a set of that name, which is for the log.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder::new(name.into())
    }

    /// Gives a call to a server, which has it until what is returned is dropped. Waits for a place if [`Builder::queue`] says so, and
    /// else never.
    ///
    /// Where no server is fit, one that was left out gets the call: that all are broken is less likely than that what
    /// judges them is. See [`Builder::recovery`] for another answer.
    ///
    /// # Errors
    /// If there is no server, or none that may have one more call.
    pub fn pick(&self) -> Result<Picked, PickError> {
        self.picked(None)
    }

    /// Gives a call to the server that it [wants](Want): that of its key, and none that it has tried, as long as there are
    /// others.
    ///
    /// # Errors
    /// Fails as [`pick`](Self::pick) does.
    pub fn pick_as(&self, want: &Want) -> Result<Picked, PickError> {
        self.picked(Some(want))
    }

    fn picked(&self, want: Option<&Want>) -> Result<Picked, PickError> {
        let (row, sample) = self.shared.pick(want)?;
        Ok(Picked::new(self.shared.clone(), row, sample))
    }

    /// Picks a server, calls `f` with it, and notes what it came to: any error is a failure of the server, unless the call was
    /// cancelled meanwhile.
    ///
    /// # Errors
    /// [`CallError::Pick`] if `f` was not called, else what it returned.
    ///
    /// # Panics
    /// If `f` does; that counts as cut short.
    pub fn call<T, E>(&self, f: impl FnOnce(&Picked) -> Result<T, E>) -> Result<T, CallError<E>> {
        noted(self.pick()?, |_| true, f)
    }

    /// Calls as [`call`](Self::call) does, at a server that is [wanted](Want).
    ///
    /// # Errors
    /// Fails as [`call`](Self::call) does.
    ///
    /// # Panics
    /// If `f` does; that counts as cut short.
    pub fn call_as<T, E>(
        &self,
        want: &Want,
        f: impl FnOnce(&Picked) -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        noted(self.pick_as(want)?, |_| true, f)
    }

    /// Calls as [`call_as`](Self::call_as) does. An error that is the caller's own fault, as `fails` says, is a success of
    /// the server: it works.
    ///
    /// # Errors
    /// Fails as [`call`](Self::call) does.
    ///
    /// # Panics
    /// If `f` or `fails` does; that counts as cut short.
    pub fn call_if<T, E>(
        &self,
        want: &Want,
        fails: impl FnOnce(&E) -> bool,
        f: impl FnOnce(&Picked) -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        noted(self.pick_as(want)?, fails, f)
    }

    /// Takes a new list; tells whether it differs. What is known of servers that are in both stays, calls under way go on,
    /// and those that are new get more and more calls, as [`Ejection::ramp`] says.
    ///
    /// # Errors
    /// If there are too many. Then the list is as it was.
    pub fn set<E: Into<Endpoint>>(
        &self,
        endpoints: impl IntoIterator<Item = E>,
    ) -> Result<bool, ListError> {
        self.shared
            .set(endpoints.into_iter().map(Into::into).collect())
    }

    /// Has `told` called with each server that leaves the list, right after it has left, in who [sets](Self::set) the list, until what is
    /// returned is dropped. What leads to the server, such as idle connections, is closed there. It is not to wait; what it panics
    /// with is dropped.
    pub fn on_leave(&self, told: impl Fn(&Endpoint) + Send + Sync + 'static) -> Listening {
        self.shared.listeners.add(told)
    }

    /// All sets of the process, in the order in which they were built: for pages and metrics, which tell of them by themselves.
    pub fn all() -> Vec<Self> {
        let all = set::all();
        all.into_iter().map(|shared| Self { shared }).collect()
    }

    /// How many calls wait for a place now.
    pub fn waiting(&self) -> usize {
        self.shared.line.waiting()
    }

    /// What the list says now.
    pub fn list(&self) -> Vec<Endpoint> {
        let table = self.shared.table();
        table.rows.iter().map(|row| row.endpoint.clone()).collect()
    }

    /// Each server as it is now, for metrics and pages.
    pub fn stats(&self) -> Vec<EndpointStats> {
        self.shared.stats()
    }

    /// The name that it was built with.
    pub fn name(&self) -> &str {
        &self.shared.settings.name
    }

    /// The weights of the servers that are fit, together.
    pub fn capacity(&self) -> u64 {
        self.shared.capacity()
    }
}

fn noted<T, E>(
    picked: Picked,
    fails: impl FnOnce(&E) -> bool,
    f: impl FnOnce(&Picked) -> Result<T, E>,
) -> Result<T, CallError<E>> {
    let outcome = f(&picked);
    let has_failed = match &outcome {
        Ok(_) => false,
        Err(error) => fails(error),
    };
    match has_failed {
        true => picked.failed(),
        false => picked.succeeded(),
    }
    outcome.map_err(CallError::Call)
}
