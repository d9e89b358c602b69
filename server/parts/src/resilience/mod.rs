//! Calls that may fail: whether to try again, and when to leave a service alone.
//!
//! A failure is answered best by trying again, unless the service fails because it has too much to do: then each further
//! attempt makes it worse, and a service that was slow for a second stays down. So attempts have a [`RetryBudget`], shared
//! by all calls to one service, and a service that mostly fails has a [`CircuitBreaker`] in front, which answers in its
//! place for a while. [`SingleFlight`] makes one call of many for the same, and [`Stages`] divides a deadline. None of them
//! knows what a call is: HTTP, a database, a queue.
//!
//! # Examples
//! ```
//! use maniple_parts::resilience::{BreakerError, CircuitBreaker, Retry, RetryBudget};
//!
//! let budget = RetryBudget::new(20); // one retry for five calls, and 10 a second
//! let retry = Retry::new().attempts(3).budget(&budget);
//! let breaker = CircuitBreaker::new();
//!
//! let mut left = 2; // fails twice, as a service that is being restarted
//! let mut price = || match left {
//!     0 => Ok(42),
//!     _ => {
//!         left -= 1;
//!         Err("connection refused")
//!     }
//! };
//! maniple::run(|| {
//!     let outcome = retry.run(
//!         |error| !matches!(error, BreakerError::Open { .. }), // it would only be refused again
//!         |_attempt| breaker.call(&mut price),
//!     );
//!     assert_eq!(outcome, Ok(42));
//!     assert_eq!(budget.stats().retries, 2);
//! });
//! ```

mod backoff;
mod breaker;
mod budget;
mod retry;
mod single_flight;
mod stages;
pub(crate) mod window;

pub use backoff::{Backoff, about};
pub use breaker::{BreakerError, BreakerState, BreakerStats, CircuitBreaker};
pub use budget::{BudgetStats, RetryBudget};
pub use retry::{Again, Retry};
pub use single_flight::{FlightStats, SingleFlight};
pub use stages::Stages;
