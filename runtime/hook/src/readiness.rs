//! `poll`, `select`, `epoll_wait`: the kernel is asked without waiting, and the coroutine waits for all of the
//! descriptors at once.

use std::{
    ffi::c_int,
    iter,
    os::fd::BorrowedFd,
    ptr, slice,
    time::{Duration, Instant},
};

use libc::{epoll_event, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};
use maniple::hook::{self, Ended};

use crate::{
    caller::{self, is_plain, may_wait},
    guess,
    patience::{Pause, end_connection, wakes_its_own},
    raw::{self, MASK_LENGTH, MaskAndLength, told},
};

/// poll(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    let duration = u64::try_from(timeout).ok().map(Duration::from_millis);
    let mut time = duration.map(to_timespec);
    let time = time.as_mut().map_or(ptr::null_mut(), |time| &raw mut *time);
    if is_plain() || timeout == 0 || !may_wait() {
        // SAFETY: passed on to the caller; the time is ours.
        return told(unsafe { raw::ppoll(fds, count as usize, time, ptr::null(), MASK_LENGTH) })
            as c_int;
    }
    // SAFETY: passed on to the caller.
    told(unsafe { poll_waiting(fds, count as usize, until(duration)) }) as c_int
}

/// ppoll(2). With a mask of signals it blocks.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: passed on to the caller.
    let mut time = unsafe { timeout.as_ref() }.copied();
    let duration = time.map(from_timespec);
    if is_plain() || !mask.is_null() || !is_to_wait(duration) || !may_wait() {
        let time = time.as_mut().map_or(ptr::null_mut(), |time| &raw mut *time);
        // SAFETY: passed on to the caller; the time is ours.
        return told(unsafe { raw::ppoll(fds, count as usize, time, mask, MASK_LENGTH) }) as c_int;
    }
    // SAFETY: passed on to the caller.
    told(unsafe { poll_waiting(fds, count as usize, until(duration.flatten())) }) as c_int
}

/// # Safety
/// As for poll(2).
unsafe fn poll_waiting(fds: *mut pollfd, count: usize, until: Option<Instant>) -> raw::Result {
    let ask = || {
        let mut now = to_timespec(Duration::ZERO);
        // SAFETY: passed on to the caller; the time is ours.
        unsafe { raw::ppoll(fds, count, &raw mut now, ptr::null(), MASK_LENGTH) }
    };
    let all = || {
        let all: &[pollfd] = match count {
            0 => &[],
            // SAFETY: passed on to the caller.
            _ => unsafe { slice::from_raw_parts(fds, count) },
        };
        let open = all.iter().filter(|of| of.fd >= 0);
        open.map(|of| (of.fd, of.events as u16 as u32))
    };
    // Of one, what has come is known by the event, and need not be asked for.
    let told = |came: u32| {
        if count != 1 {
            return None;
        }
        // SAFETY: passed on to the caller.
        let of = unsafe { &mut *fds };
        let wanted = of.events | libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
        let came = came as u16 as libc::c_short & wanted;
        (came != 0).then(|| {
            of.revents = came;
            1
        })
    };
    ask_until(ask, all, told, until)
}

/// Asks, which does not wait, until there is an answer, or the time is over. `told` makes an answer of what has come
/// for the only descriptor, if it can.
fn ask_until<I: Iterator<Item = (c_int, u32)> + Clone>(
    mut ask: impl FnMut() -> raw::Result,
    all: impl Fn() -> I,
    mut told: impl FnMut(u32) -> Option<raw::Result>,
    until: Option<Instant>,
) -> raw::Result {
    // Who waits for connections waits for answers by them: of one, as libpq does, or of several.
    let cut = |interrupt| {
        let mut of = all().map(|(fd, _)| fd);
        let alone = of.next().filter(|first| of.all(|fd| fd == *first));
        match alone {
            Some(fd) => end_connection(fd),
            None => {
                let connections = all().filter(|(fd, _)| !wakes_its_own(*fd));
                connections.for_each(|(fd, _)| end_connection(fd));
            }
        }
        caller::cut(interrupt)
    };
    if let Err(interrupt) = hook::check() {
        return cut(interrupt);
    }
    let mut pause = Pause::default();
    let read = read_alone(all());
    if !read.is_some_and(guess::is_in_vain) {
        let first = ask();
        if let Some(fd) = read {
            guess::tried(fd, first != 0);
        }
        if first != 0 {
            hook::spend();
            return first;
        }
    }
    loop {
        // SAFETY: the caller's, who has them open for as long as the call lasts; the kernel refuses others.
        let borrow = |(fd, events)| (unsafe { BorrowedFd::borrow_raw(fd) }, events);
        let waited = hook::wait_for(all().map(borrow), until);
        match pause.unless_watched(waited, until) {
            Ended::Cut(interrupt) => return cut(interrupt),
            Ended::TimedOut => return ask(),
            Ended::Came(came) => {
                if let Some(found) = told(came) {
                    return found;
                }
            }
            _ => {}
        }
        let found = ask();
        if found != 0 {
            return found;
        }
    }
}

/// The descriptor, if it is one alone, and waited for to be read.
fn read_alone(mut all: impl Iterator<Item = (c_int, u32)>) -> Option<c_int> {
    const ALWAYS_TOLD: u32 = (libc::POLLERR | libc::POLLHUP) as u32;
    match (all.next(), all.next()) {
        (Some((fd, events)), None) if events & !ALWAYS_TOLD == libc::POLLIN as u32 => Some(fd),
        _ => None,
    }
}

/// `poll` as C code calls it that was compiled with `_FORTIFY_SOURCE`.
///
/// # Safety
/// As for poll(2); `size` is that of the array, in bytes.
#[cfg(target_env = "gnu")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: c_int,
    size: usize,
) -> c_int {
    hold_to(count, size);
    // SAFETY: passed on to the caller.
    unsafe { poll(fds, count, timeout) }
}

/// `ppoll` as C code calls it that was compiled with `_FORTIFY_SOURCE`.
///
/// # Safety
/// As for ppoll(2); `size` is that of the array, in bytes.
#[cfg(target_env = "gnu")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __ppoll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    size: usize,
) -> c_int {
    hold_to(count, size);
    // SAFETY: passed on to the caller.
    unsafe { ppoll(fds, count, timeout, mask) }
}

#[cfg(target_env = "gnu")]
fn hold_to(count: nfds_t, size: usize) {
    if size / size_of::<pollfd>() < count as usize {
        // SAFETY: ends the process, as the C library does.
        unsafe { libc::abort() };
    }
}

/// select(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: passed on to the caller.
    let given = unsafe { timeout.as_ref() }.copied();
    let duration = given.map(|given| {
        let seconds = u64::try_from(given.tv_sec).ok()?;
        let micros = u64::try_from(given.tv_usec).ok()?;
        Duration::from_secs(seconds).checked_add(Duration::from_micros(micros))
    });
    if duration == Some(None) {
        return raw::fail(libc::EINVAL) as c_int;
    }
    let began = hook::now();
    let sets = [read, write, except];
    // SAFETY: passed on to the caller.
    let found = unsafe { select_until(count, sets, duration, ptr::null()) };
    // Linux says what is left.
    if let Some(Some(duration)) = duration {
        let left = duration.saturating_sub(hook::now().saturating_duration_since(began));
        let left = timeval {
            tv_sec: left.as_secs() as _,
            tv_usec: left.subsec_micros() as _,
        };
        // SAFETY: passed on to the caller.
        unsafe { *timeout = left };
    }
    told(found) as c_int
}

/// pselect(2). With a mask of signals it blocks.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: passed on to the caller.
    let duration = unsafe { timeout.as_ref() }.copied().map(from_timespec);
    if duration == Some(None) {
        return raw::fail(libc::EINVAL) as c_int;
    }
    let sets = [read, write, except];
    // SAFETY: passed on to the caller.
    told(unsafe { select_until(count, sets, duration, mask) }) as c_int
}

/// Bits in a set of the C library's. There are larger ones, which programs make on their own.
const IN_SET: usize = 1024;

/// # Safety
/// As for pselect(2), of these three sets.
unsafe fn select_until(
    count: c_int,
    sets: [*mut fd_set; 3],
    duration: Option<Option<Duration>>,
    mask: *const sigset_t,
) -> raw::Result {
    let ask = |[read, write, except]: [*mut fd_set; 3], mut time: Option<timespec>| {
        let time = time.as_mut().map_or(ptr::null_mut(), |time| &raw mut *time);
        let mask_and_length = MaskAndLength(mask, MASK_LENGTH);
        // SAFETY: passed on to the caller; the rest is ours.
        unsafe { raw::pselect6(count, read, write, except, time, &raw const mask_and_length) }
    };
    let is_large = usize::try_from(count).is_ok_and(|count| count > IN_SET);
    let waits = mask.is_null() && !is_large && is_to_wait(duration);
    if is_plain() || !waits || !may_wait() {
        return ask(sets, duration.flatten().map(to_timespec));
    }
    // The kernel takes out of the sets what is not ready.
    type Words = [u64; IN_SET / 64];
    let asked = sets.map(|set| {
        let mut words: Words = [0; IN_SET / 64];
        if !set.is_null() {
            let bytes = (count.max(0) as usize).div_ceil(64) * 8;
            // SAFETY: passed on to the caller: it is as long as that, and no longer than ours.
            unsafe { ptr::copy_nonoverlapping(set.cast::<u8>(), words.as_mut_ptr().cast(), bytes) };
        }
        words
    });
    let mut found = asked;
    let all = || {
        let bit = |words: &Words, fd: usize| words[fd / 64] >> (fd % 64) & 1;
        (0..count.max(0) as usize).filter_map(move |fd| {
            let events = [libc::POLLIN, libc::POLLOUT, libc::POLLPRI];
            let wanted = asked
                .iter()
                .zip(events)
                .map(|(words, event)| bit(words, fd) as u32 * event as u32);
            let wanted = wanted.sum();
            (wanted != 0).then_some((fd as c_int, wanted))
        })
    };
    let again = || {
        found = asked;
        let own = [0, 1, 2].map(|at| match sets[at].is_null() {
            true => ptr::null_mut(),
            false => (&raw mut found[at]).cast(),
        });
        ask(own, Some(to_timespec(Duration::ZERO)))
    };
    let ready = ask_until(again, all, |_| None, until(duration.flatten()));
    if ready >= 0 {
        for (set, words) in sets.into_iter().zip(found) {
            if !set.is_null() {
                let bytes = (count.max(0) as usize).div_ceil(64) * 8;
                // SAFETY: as above.
                unsafe { ptr::copy_nonoverlapping(words.as_ptr().cast(), set.cast::<u8>(), bytes) };
            }
        }
    }
    ready
}

/// epoll_wait(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(
    set: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: c_int,
) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { epoll_pwait(set, events, most, timeout, ptr::null()) }
}

/// epoll_pwait(2). With a mask of signals it blocks.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait(
    set: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: passed on to the caller.
    let ask = |timeout| unsafe { raw::epoll_pwait(set, events, most, timeout, mask, MASK_LENGTH) };
    if is_plain() || timeout == 0 || !mask.is_null() || set < 0 || !may_wait() {
        return told(ask(timeout)) as c_int;
    }
    let duration = u64::try_from(timeout).ok().map(Duration::from_millis);
    let all = || iter::once((set, libc::POLLIN as u32));
    told(ask_until(|| ask(0), all, |_| None, until(duration))) as c_int
}

/// Whether the call may wait, and says for how long as it should.
fn is_to_wait(duration: Option<Option<Duration>>) -> bool {
    match duration {
        None => true,
        Some(None) => false,
        Some(Some(duration)) => !duration.is_zero(),
    }
}

/// When it is over; never, too, if that is past all time.
fn until(duration: Option<Duration>) -> Option<Instant> {
    duration.and_then(|duration| hook::now().checked_add(duration))
}

fn to_timespec(duration: Duration) -> timespec {
    timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// `None` if it is no duration.
pub(crate) fn from_timespec(time: timespec) -> Option<Duration> {
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}
