//! The backtrace of another thread, as far as it can be had without harm.
//!
//! A thread that sleeps in a system call is not disturbed: a receive with a time limit, for one, is never taken up
//! again after a signal. The kernel tells its stack pointer, though no other register, so that the trace may end
//! early. One that runs is asked by the signal `SIGURG`, whose default is to be ignored, so one that comes late
//! does no harm; Go's runtime preempts by it for the same reason. So is one that waits in futex(2), whose callers
//! expect to be woken for nothing.
//!
//! The one that is asked notes its registers and copies its stack ([`exchange`]). Who asked sees whether it is still
//! at the turn that was asked about, for then it was at that turn when it answered, and walks the copy. Signals that
//! are no query of ours go to the handler that was there before.

use std::{
    fs, io,
    ops::{ControlFlow, Range},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    exchange::{self, Answer},
    handler, own_memory,
    unwind::{self, Registers},
};

/// What is asked of a thread.
pub(crate) struct Query<'a> {
    pub(crate) thread: i32,
    /// The stack that it is thought to be on.
    pub(crate) stack: Range<usize>,
    /// Counts its turns, and is changed by the thread alone.
    pub(crate) turn: &'a AtomicU64,
    /// The turn that it is thought to be at.
    pub(crate) number: u64,
}

/// Where a thread was found.
pub(crate) struct StackCopy(Answer);

impl StackCopy {
    /// The return addresses of its frames, innermost first, up to so many and as far as the copy reaches.
    pub(crate) fn addresses(&self, most: usize) -> Vec<usize> {
        let mut addresses = Vec::new();
        unwind::walk(self.0.registers, self.0.start, &self.0.stack, |address| {
            addresses.push(address);
            match addresses.len() < most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        addresses
    }
}

/// What the kernel says of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It runs or could, waits for a page, or for another thread in futex(2): a signal does it no harm.
    Runs,
    Sleeps {
        at: usize,
        stack_pointer: usize,
    },
    /// There is no such thread, or no `/proc`.
    Unknown,
}

pub(crate) fn doing(thread: i32) -> Doing {
    match fs::read_to_string(format!("/proc/self/task/{thread}/syscall")) {
        Ok(told) => parse(&told),
        Err(_) => Doing::Unknown,
    }
}

/// `running`, or the call's number, its arguments, the stack pointer and the place.
fn parse(told: &str) -> Doing {
    let words: Vec<_> = told.split_whitespace().collect();
    let number = |word: &str| usize::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    match words[..] {
        ["running"] | ["-1", ..] => Doing::Runs,
        [call, ..] if call.parse() == Ok(libc::SYS_futex) => Doing::Runs,
        [_, .., stack_pointer, at] => match (number(stack_pointer), number(at)) {
            (Some(stack_pointer), Some(at)) => Doing::Sleeps { at, stack_pointer },
            _ => Doing::Unknown,
        },
        _ => Doing::Unknown,
    }
}

/// Copies the stack of a thread that sleeps; `None` if it is on another stack than this, or that is gone.
pub(crate) fn of_sleeping(
    at: usize,
    stack_pointer: usize,
    stack: &Range<usize>,
) -> Option<StackCopy> {
    let copied = exchange::part(stack_pointer, stack)?;
    let mut bytes = vec![0; copied.len()];
    own_memory::open().ok()?;
    own_memory::read(copied.start, &mut bytes).ok()?;
    Some(StackCopy(Answer {
        registers: Registers::of(at, stack_pointer),
        start: copied.start,
        stack: exchange::words(&bytes),
    }))
}

/// Has a thread that runs answer where it is; `None` if it is not on that stack or at that turn any more, or does
/// not answer within a second: on a machine with much to do it may take long until it runs.
///
/// # Errors
/// If the handler cannot be installed, memory not be read, or there is no such thread.
pub(crate) fn of_running(query: &Query<'_>) -> io::Result<Option<StackCopy>> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    own_memory::open()?;
    handler::install_for_queries()?;
    exchange::ask(query.thread, &query.stack);
    if let Err(error) = handler::send_query(query.thread) {
        exchange::withdraw(query.thread);
        return Err(error);
    }
    // It answers within microseconds if a processor is free for it. The sooner that is seen, the less likely has it
    // gone on to its next turn.
    for tries in 0..1_100 {
        match exchange::is_answered() {
            true => break,
            false if tries < 100 => std::thread::yield_now(),
            false => sleep_a_millisecond(),
        }
    }
    if exchange::withdraw(query.thread) {
        return Ok(None);
    }
    // It has taken the query up, and copying takes microseconds.
    while !exchange::is_answered() {
        std::thread::yield_now();
    }
    // Turns go up. Its answer is in view, and so is every turn that it had begun before.
    let is_at_turn = query.turn.load(Ordering::Relaxed) == query.number;
    let answer = exchange::read().filter(|_| is_at_turn);
    Ok(answer.map(StackCopy))
}

#[allow(
    clippy::disallowed_methods,
    reason = "only a watchdog's own thread comes here, or one that dumps"
)]
fn sleep_a_millisecond() {
    std::thread::sleep(Duration::from_millis(1));
}

/// The calling thread's number in the system.
pub(crate) fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_pid()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{
        super::{memory::own_stack, trace::Trace},
        *,
    };
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicUsize},
    };

    #[derive(Default)]
    struct Shared {
        thread: AtomicI32,
        stack: Mutex<Range<usize>>,
        turn: AtomicU64,
        free: AtomicBool,
    }

    #[inline(never)]
    fn busy_in_here(free: &AtomicBool) {
        while !free.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        std::hint::black_box(());
    }

    #[inline(never)]
    fn asleep_in_here(free: &AtomicBool) {
        while !free.load(Ordering::Acquire) {
            let (mut none, wait) = ([], 100);
            // SAFETY: there are no descriptors to wait for.
            let waited = unsafe { libc::poll(none.as_mut_ptr(), 0, wait) };
            assert_eq!(waited, 0, "nothing disturbed it");
            std::hint::black_box(&mut none);
        }
    }

    /// Shows `look` a thread that is in `body` until it is free.
    fn beside(body: fn(&AtomicBool), look: impl FnOnce(&Shared)) {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::spawn(move || {
            *theirs.stack.lock().unwrap() = own_stack();
            theirs.thread.store(thread_id(), Ordering::Release);
            body(&theirs.free);
        });
        while shared.thread.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        look(&shared);
        shared.free.store(true, Ordering::Release);
        thread.thread().unpark();
        thread.join().unwrap();
    }

    fn ask_it(shared: &Shared, stack: Range<usize>, number: u64) -> Option<StackCopy> {
        let query = Query {
            thread: shared.thread.load(Ordering::Acquire),
            stack,
            turn: &shared.turn,
            number,
        };
        of_running(&query).unwrap()
    }

    fn is_found(sighting: &StackCopy, function: &str) -> bool {
        let frames = Trace::of(sighting.addresses(128).into_iter()).frames();
        frames.iter().any(|frame| frame.function.contains(function))
    }

    #[test]
    fn a_busy_thread_says_where_it_is() {
        beside(busy_in_here, |shared| {
            let stack = shared.stack.lock().unwrap().clone();
            let begun = std::time::Instant::now();
            // It may not have come there yet.
            while !ask_it(shared, stack.clone(), 0).is_some_and(|it| is_found(&it, "busy_in_here"))
            {
                assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "never seen there"
                );
            }
        });
    }

    #[test]
    fn a_thread_on_another_stack_or_at_another_turn_says_nothing() {
        beside(busy_in_here, |shared| {
            let stack = shared.stack.lock().unwrap().clone();
            for elsewhere in [0..0, 0..stack.start, stack.end..usize::MAX] {
                assert!(ask_it(shared, elsewhere, 0).is_none());
            }
            assert!(ask_it(shared, stack.clone(), 1).is_none());
            let page = rustix::param::page_size();
            assert!(of_sleeping(page, page, &(page..2 * page)).is_none(), "gone");
            assert!(ask_it(shared, stack, 0).is_some());
        });
    }

    #[test]
    fn a_sleeping_thread_is_seen_without_being_woken() {
        beside(asleep_in_here, |shared| {
            let stack = shared.stack.lock().unwrap().clone();
            let thread = shared.thread.load(Ordering::Acquire);
            let begun = std::time::Instant::now();
            loop {
                assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "never seen there"
                );
                let Doing::Sleeps { at, stack_pointer } = doing(thread) else {
                    continue;
                };
                let seen = of_sleeping(at, stack_pointer, &stack);
                if seen.is_some_and(|seen| is_found(&seen, "asleep_in_here")) {
                    break;
                }
            }
        });
    }

    #[test]
    fn a_thread_that_is_gone_is_an_error() {
        let gone = std::thread::spawn(thread_id).join().unwrap();
        let turn = AtomicU64::new(0);
        let query = Query {
            thread: gone,
            stack: 0..0,
            turn: &turn,
            number: 0,
        };
        assert!(of_running(&query).is_err());
        assert_eq!(doing(gone), Doing::Unknown);
    }

    #[test]
    fn what_the_kernel_says_of_a_thread_is_understood() {
        let sleeps = Doing::Sleeps {
            at: 0xabc,
            stack_pointer: 0x7ff0,
        };
        for (told, doing) in [
            ("running\n", Doing::Runs),
            ("-1 0x7ff0 0xabc\n", Doing::Runs),
            ("45 0x1 0x0 0x0 0x0 0x0 0x0 0x7ff0 0xabc\n", sleeps),
            ("", Doing::Unknown),
            ("45\n", Doing::Unknown),
            ("45 0x1 nothing\n", Doing::Unknown),
        ] {
            assert_eq!(parse(told), doing, "{told}");
        }
        let waits = format!("{} 0x1 0x0 0x0 0x0 0x0 0x0 0x7ff0 0xabc\n", libc::SYS_futex);
        assert_eq!(parse(&waits), Doing::Runs);
    }

    static OTHERS: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn others(_: libc::c_int) {
        OTHERS.fetch_add(1, Ordering::Relaxed);
    }

    /// In a process of its own, as the handler is the process's.
    #[test]
    fn signals_that_are_no_query_go_to_the_handler_before() {
        let test = "signals_that_are_no_query_go_to_the_handler_before";
        let ended = crate::stack::child::run(module_path!(), test, || {
            // SAFETY: all zeroes is a valid action, and the handler counts only.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = others as extern "C" fn(libc::c_int) as usize;
                libc::sigaction(libc::SIGURG, &action, std::ptr::null_mut());
            }
            beside(busy_in_here, |shared| {
                let stack = shared.stack.lock().unwrap().clone();
                assert!(ask_it(shared, stack, 0).is_some());
            });
            assert_eq!(OTHERS.load(Ordering::Relaxed), 0);
            // SAFETY: sends a signal to this thread.
            assert_eq!(unsafe { libc::raise(libc::SIGURG) }, 0);
            assert_eq!(OTHERS.load(Ordering::Relaxed), 1);
        });
        ended.by_exit(0);
    }
}
