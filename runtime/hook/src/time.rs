//! Sleeping. No cancellation ends it early: those who sleep take it for granted that they wake in time, and std ends
//! the coroutine with a panic if it is otherwise.

use std::{ffi::c_int, time::Duration};

use libc::{c_uint, clockid_t, timespec, useconds_t};
use maniple::hook;

use crate::{
    caller::{is_plain, may_wait},
    raw::{self, told},
    readiness::from_timespec,
};

/// nanosleep(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
    // SAFETY: passed on to the caller.
    told(unsafe { sleep_by(libc::CLOCK_REALTIME, 0, time, left) }) as c_int
}

/// clock_nanosleep(2), which returns its error.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> c_int {
    // SAFETY: passed on to the caller.
    -unsafe { sleep_by(clock, flags, time, left) } as c_int
}

/// # Safety
/// As for clock_nanosleep(2).
unsafe fn sleep_by(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> raw::Result {
    let is_absolute = flags & libc::TIMER_ABSTIME != 0;
    let known = [
        libc::CLOCK_REALTIME,
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_BOOTTIME,
    ];
    if is_plain() || time.is_null() || !known.contains(&clock) || !may_wait() {
        // SAFETY: passed on to the caller.
        return unsafe { raw::clock_nanosleep(clock, flags, time, left) };
    }
    // SAFETY: passed on to the caller.
    let Some(asked) = from_timespec(unsafe { *time }) else {
        return -(libc::EINVAL as raw::Result);
    };
    if !is_absolute {
        sleep_for(asked);
        return 0;
    }
    // The clock may be set meanwhile.
    loop {
        match asked.checked_sub(reading(clock)) {
            None | Some(Duration::ZERO) => return 0,
            Some(left) => sleep_for(left.min(LONGEST_UNLOOKED)),
        }
    }
}

/// For so long the clock of who sleeps until a time of day may go unlooked at.
const LONGEST_UNLOOKED: Duration = Duration::from_secs(10);

fn reading(clock: clockid_t) -> Duration {
    let mut now = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for the time.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    from_timespec(now).unwrap_or_default()
}

fn sleep_for(time: Duration) {
    // One too long to express never ends: no more does a century.
    let now = hook::now();
    let end = now.checked_add(time).or_else(|| now.checked_add(CENTURY));
    if let Some(end) = end {
        hook::sleep_until(end);
    }
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// usleep(3).
///
/// # Safety
/// It has no pointers, and is always safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usleep(micros: useconds_t) -> c_int {
    let time = timespec {
        tv_sec: (micros / 1_000_000) as _,
        tv_nsec: (micros % 1_000_000 * 1000) as _,
    };
    // SAFETY: a time of ours, and no room for the rest.
    unsafe { nanosleep(&raw const time, std::ptr::null_mut()) }
}

/// sleep(3).
///
/// # Safety
/// It has no pointers, and is always safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sleep(seconds: c_uint) -> c_uint {
    let mut time = timespec {
        tv_sec: seconds as _,
        tv_nsec: 0,
    };
    let time = &raw mut time;
    // SAFETY: a time of ours, in whose place the rest may go.
    match unsafe { nanosleep(time, time) } {
        0 => 0,
        // SAFETY: ours.
        _ => unsafe { (*time).tv_sec as c_uint },
    }
}
