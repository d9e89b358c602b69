//! What the servers of `compare skew` do beside saying hello: `/cpu?us=N` uses up so much CPU time before it says it,
//! `/where` names the thread on which it is answered.

use std::{borrow::Cow, hint::black_box, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use super::BODY;

pub(super) const CPU: &str = "/cpu";
pub(super) const WHERE: &str = "/where";

/// The body of the answer to a `GET` of this path; `None` if there is no such thing.
pub(super) fn answer(path: &str, query: Option<&str>) -> Option<Cow<'static, str>> {
    match path {
        "/" => Some(BODY.into()),
        CPU => {
            burn(cpu_time_asked_for(query?)?);
            Some(BODY.into())
        }
        WHERE => {
            let thread = rustix::thread::gettid();
            Some(thread.as_raw_nonzero().to_string().into())
        }
        _ => None,
    }
}

/// The answer to a whole target, for servers that do not take it apart.
pub(super) fn answer_target(target: &str) -> Option<Cow<'static, str>> {
    match target.split_once('?') {
        Some((path, query)) => answer(path, Some(query)),
        None => answer(target, None),
    }
}

fn cpu_time_asked_for(query: &str) -> Option<Duration> {
    let micros = query.strip_prefix("us=")?.parse().ok()?;
    let asked = Duration::from_micros(micros);
    (asked <= LONGEST).then_some(asked)
}

/// Computes until the calling thread has used so much CPU time more. Wall time would count what others use of the
/// core meanwhile, so that a server whose threads are interrupted would have less to do.
fn burn(time: Duration) {
    let until = used() + time;
    while used() < until {
        black_box((0..200u64).fold(1, |hash: u64, step| {
            black_box(hash ^ step).wrapping_mul(0x0100_0000_01b3)
        }));
    }
}

/// CPU time of the calling thread.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// What a request may ask for; more is surely a mistake.
const LONGEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_burns_the_cpu_time_that_it_asks_for() {
        let before = used();
        assert_eq!(answer_target("/cpu?us=3000").unwrap(), BODY);
        let burnt = used() - before;
        assert!(burnt >= Duration::from_millis(3), "{burnt:?}");
    }

    #[test]
    fn where_names_the_thread() {
        let here = || answer_target("/where").unwrap();
        let there = std::thread::spawn(here).join().unwrap();
        assert_eq!(here(), here());
        assert_ne!(here(), there);
    }

    #[test]
    fn what_is_unknown_has_no_answer() {
        for target in [
            "/nowhere",
            "/cpu",
            "/cpu?us=x",
            "/cpu?ms=1",
            "/cpu?us=1000001",
        ] {
            assert_eq!(answer_target(target), None, "{target}");
        }
        assert_eq!(answer_target("/").unwrap(), BODY);
    }
}
