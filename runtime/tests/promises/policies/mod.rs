//! Policies over groups: who is waited for, who is cancelled, and whose result counts. A file for each.

mod children;
mod hedge;
mod joiner;
mod map;
mod parallel;
mod partial;
mod quorum;
mod race;
mod supervise;
mod try_join;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{LONG, on};

/// One of the calls given to a policy.
type Call<'a, T> = Box<dyn FnOnce() -> T + Send + 'a>;

/// Counts those that are inside.
struct Inside<'a>(&'a AtomicUsize);

impl<'a> Inside<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Inside(count)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Never returns but by being cut.
fn never<T>(inside: &AtomicUsize) -> T {
    let _inside = Inside::enter(inside);
    maniple::sleep(LONG);
    panic!("nobody cut it");
}

fn yields(times: usize) {
    for _ in 0..times {
        maniple::yield_now();
    }
}

fn caught<T>(body: impl FnOnce() -> T) -> &'static str {
    let payload = catch_unwind(AssertUnwindSafe(body)).err().expect("a panic");
    payload.downcast_ref::<&str>().expect("a message")
}

/// Runs `policy`, with a count of who is inside of its calls, on a coroutine that is cancelled after ever more
/// turns, and then on two workers; holds that nobody is inside once it has returned or unwound.
fn cancelled_at_any_moment(policy: impl Fn(&AtomicUsize) + Sync) {
    for workers in [1, 2] {
        on(workers, || {
            let inside = AtomicUsize::new(0);
            let points = (0..60).take_while(|&after| {
                let left = maniple::group(|g| -> Result<bool, ()> {
                    let leader = g.spawn(|| policy(&inside));
                    yields(after);
                    let in_time = !leader.is_finished();
                    leader.cancel();
                    let _cut_or_done = leader.join();
                    assert_eq!(inside.load(Ordering::SeqCst), 0, "cancelled after {after}");
                    Ok(in_time)
                });
                left.unwrap() || workers > 1
            });
            assert!(points.count() > 3);
        });
    }
}
