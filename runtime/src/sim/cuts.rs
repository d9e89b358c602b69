//! Calls that a simulated world cuts short somewhere.

use std::panic::Location;

use super::sweep;
use crate::{
    cancel::{CancelToken, Cancelled},
    driver::sim,
};

/// Runs `f`, which a simulated world cancels at a drawn moment, or not; outside of a world just runs it.
///
/// For a handler, a client's call, anything that somebody may give up at any time: what it leaves behind is then to
/// be as if it had not begun, or had ended. In a world `f` runs under a [`CancelToken`], which one call of eight has
/// never cancelled. The others have it cancelled before a turn of anybody's, up to some hundreds from where they
/// began: the first, the second or third, one of the next four, of the next eight and so on are as likely, so that
/// short calls are cut short as well as long ones. So `f` meets it in a wait, or where it had given way. When it comes
/// is drawn apart from all else: up to then the world is the same as without it. It is in the trace, and in the
/// record and the picture.
///
/// The search for a smaller world leaves out each cut that the failure does not take. In
/// [every order](super::check_orders) a call is cut short before each turn while it is under way, and in others not at
/// all; so the number of orders is multiplied by that of turns in it.
///
/// If `f` returns a value it is kept, cancelled or not. Outside of a world the cost is one look at a static.
///
/// # Errors
/// [`Cancelled`] if a wait in `f` that cannot return an error was cut short by the world.
///
/// # Panics
/// With the panic of `f`, if it panics.
///
/// # Examples
/// ```
/// use maniple::{sim, sync::Mutex};
/// use std::time::Duration;
///
/// /// Does a job. Who is cut short in the middle is to leave it for others.
/// fn work(jobs: &Mutex<Vec<u32>>, done: &Mutex<Vec<u32>>) {
///     let job = *jobs.lock().last().unwrap();
///     maniple::sleep(Duration::from_millis(1));
///     done.lock().push(job);
///     jobs.lock().pop(); // Before the sleep, this would lose the job.
/// }
///
/// assert_eq!(sim::cut(|| "outside of a world"), Ok("outside of a world"));
/// sim::check(0..50, |_| {
///     let (jobs, done) = (Mutex::new(vec![1]), Mutex::new(Vec::new()));
///     let ended = sim::cut(|| work(&jobs, &done));
///     sim::sometimes!(ended.is_err());
///     sim::always!(jobs.lock().is_empty() == (*done.lock() == [1]));
/// });
/// ```
#[inline]
#[track_caller]
pub fn cut<T>(f: impl FnOnce() -> T) -> Result<T, Cancelled> {
    match sim::current() {
        None => Ok(f()),
        Some(world) => cut_in(&world, Location::caller(), f),
    }
}

#[cold]
fn cut_in<T>(
    world: &sim::World,
    at: &'static Location<'static>,
    f: impl FnOnce() -> T,
) -> Result<T, Cancelled> {
    let is_left_out = || {
        let what = || "a call that is cut short".to_owned();
        sweep::course().is_some_and(|course| course.setting.leaves_out(at, what))
    };
    // Drawn, be it left out or not, so that others are cut short when they were.
    let Some(due) = world.draw_cut().filter(|_| !is_left_out()) else {
        return Ok(f());
    };
    let token = CancelToken::new();
    let theirs = token.clone();
    let _open = world.open_cut(due, at, Box::new(move || theirs.cancel()));
    token.run(f)
}
