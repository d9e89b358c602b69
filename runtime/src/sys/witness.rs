//! Where another thread is: it is asked by a signal, and answers from the handler.
//!
//! The signal is `SIGURG`, whose default is to be ignored, so one that comes late does no harm; Go's runtime
//! preempts by it for the same reason. The handler walks the stack it interrupted into fixed memory and
//! allocates nothing. It runs on the thread's alternate stack.

use std::{
    io, mem, ptr,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::trace::{Trace, walk};

/// This file, by which its frames are known in a backtrace.
pub(crate) const FILE: &str = file!();

/// The one question that is open at a time, and its answer.
struct Slip {
    /// The thread that is asked; 0 for none.
    asked: AtomicI32,
    addresses: [AtomicUsize; MOST_FRAMES],
    count: AtomicUsize,
    answered: AtomicBool,
}

const MOST_FRAMES: usize = 128;

static SLIP: Slip = Slip {
    asked: AtomicI32::new(0),
    addresses: [const { AtomicUsize::new(0) }; MOST_FRAMES],
    count: AtomicUsize::new(0),
    answered: AtomicBool::new(false),
};

/// The calling thread's number in the system.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Has the thread answer where it is; `None` if it does not within 100 ms.
///
/// # Errors
/// If the handler cannot be installed, or there is no such thread.
pub(crate) fn whereabouts(thread: i32) -> io::Result<Option<Trace>> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    install()?;
    SLIP.answered.store(false, Ordering::Relaxed);
    SLIP.asked.store(thread, Ordering::Release);
    // SAFETY: takes numbers only.
    if unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGURG) } != 0 {
        SLIP.asked.store(0, Ordering::Relaxed);
        return Err(io::Error::last_os_error());
    }
    for _ in 0..100 {
        if SLIP.answered.load(Ordering::Acquire) {
            break;
        }
        sleep_a_millisecond();
    }
    if SLIP.asked.swap(0, Ordering::AcqRel) == thread {
        return Ok(None);
    }
    // It has taken the question up, and walking takes microseconds.
    while !SLIP.answered.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    let count = SLIP.count.load(Ordering::Relaxed);
    let addresses = SLIP.addresses[..count].iter();
    Ok(Some(Trace::of(
        addresses.map(|address| address.load(Ordering::Relaxed)),
    )))
}

#[allow(
    clippy::disallowed_methods,
    reason = "only a watchdog's own thread comes here"
)]
fn sleep_a_millisecond() {
    std::thread::sleep(Duration::from_millis(1));
}

fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        // What the first walk sets up is not for a handler.
        Trace::with_room(1).capture();
        // SAFETY: all zeroes is a valid action, and `answer` has the signature of a plain handler and keeps
        // to what a handler may do.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = answer as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
            match libc::sigaction(libc::SIGURG, &action, ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)),
            }
        }
    });
    installed.map_err(io::Error::from_raw_os_error)
}

/// The handler.
extern "C" fn answer(_: libc::c_int) {
    let asked = SLIP
        .asked
        .compare_exchange(thread_id(), 0, Ordering::Acquire, Ordering::Relaxed);
    if asked.is_err() {
        return;
    }
    // The code that was interrupted may be about to look at it.
    // SAFETY: the location is the thread's own.
    let errno = unsafe { *libc::__errno_location() };
    let mut count = 0;
    walk(|address| {
        SLIP.addresses[count].store(address, Ordering::Relaxed);
        count += 1;
        count < MOST_FRAMES
    });
    SLIP.count.store(count, Ordering::Relaxed);
    SLIP.answered.store(true, Ordering::Release);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[inline(never)]
    fn busy_in_here(tell: &AtomicI32, free: &AtomicBool) {
        tell.store(thread_id(), Ordering::Release);
        while !free.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_busy_thread_says_where_it_is() {
        let shared = Arc::new((AtomicI32::new(0), AtomicBool::new(false)));
        let theirs = shared.clone();
        let thread = std::thread::spawn(move || busy_in_here(&theirs.0, &theirs.1));
        while shared.0.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let trace = whereabouts(shared.0.load(Ordering::Acquire)).unwrap();
        shared.1.store(true, Ordering::Release);
        thread.join().unwrap();
        let frames = trace.expect("it answers").frames();
        assert!(
            frames
                .iter()
                .any(|frame| frame.function.contains("busy_in_here")),
            "{frames:?}"
        );
    }

    #[test]
    fn a_thread_that_is_gone_is_an_error() {
        let gone = std::thread::spawn(thread_id).join().unwrap();
        assert!(whereabouts(gone).is_err());
    }
}
