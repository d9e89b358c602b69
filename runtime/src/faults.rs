//! A scenario with a cancellation at each suspension that it has, one after the other. For tests; there with the
//! feature `fault-injection`.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use crate::{runtime::Runtime, sys::fenced};

/// Runs `scenario` with 0, 1, 2… until it says `false`, and returns how often it said `true`: on a runtime of its own
/// with one worker, whose coroutines have all ended by then.
///
/// The scenario hands the number to [`cancel_at`](crate::cancel::cancel_at), looks whether all is well after the
/// cut, and says what that said: whether there was such a suspension. So what it does has been cut at every point at
/// which a cancellation can come. Needs the feature `fault-injection`.
///
/// A scenario that takes longer than a minute hangs: the process ends, with a line that names the calling thread,
/// which in a test is the test, and the number.
///
/// # Panics
/// With the panic of `scenario`. If coroutines are left that do not end when they are cancelled. If there is no end
/// after ten thousand suspensions. If the runtime cannot be started.
///
/// # Examples
/// ```
/// use maniple::{cancel::{at_every_suspension, cancel_at}, sync::Mutex, yield_now};
/// use std::time::Duration;
///
/// /// Books a sum from one account to another.
/// fn transfer(accounts: &Mutex<[i64; 2]>, sum: i64) {
///     maniple::sleep(Duration::from_micros(1));
///     let mut accounts = accounts.lock();
///     // A wait between the two would leave money on the way:
///     accounts[0] -= sum;
///     accounts[1] += sum;
/// }
///
/// let suspensions = at_every_suspension(|number| {
///     let accounts = Mutex::new([100, 0]);
///     let (_cut_or_done, was_cut) = cancel_at(number, || transfer(&accounts, 30));
///     assert_eq!(accounts.lock().iter().sum::<i64>(), 100);
///     was_cut
/// });
/// assert_eq!(suspensions, 1);
/// ```
pub fn at_every_suspension(mut scenario: impl FnMut(u32) -> bool + Send) -> usize {
    let name = thread::current().name().unwrap_or("a scenario").to_owned();
    let (begun, runs) = mpsc::channel();
    thread::spawn(move || {
        let mut last = 0;
        loop {
            match runs.recv_timeout(LONGEST) {
                Ok(number) => last = number,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    fenced::abort(&format!("{name} hangs with a cut at suspension {last}"))
                }
            }
        }
    });
    let runtime = match Runtime::builder().workers(1).build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("the runtime could not be started: {error}"),
    };
    let count = runtime.run(move || {
        let cut = |number: &u32| {
            assert!(*number < MOST, "{MOST} suspensions, and no end");
            let _watched = begun.send(*number);
            scenario(*number)
        };
        (0..).take_while(cut).count()
    });
    let report = runtime.shutdown();
    assert!(report.is_clean(), "coroutines are left: {report:?}");
    count
}

/// A scenario that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// So many suspensions are too many for a scenario.
const MOST: u32 = 10_000;
