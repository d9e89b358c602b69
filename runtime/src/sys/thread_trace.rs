//! The backtrace of another thread, as far as it can be had without harm.
//!
//! A thread that sleeps in a system call is not disturbed: a receive with a time limit, for one, is never taken up
//! again after a signal. The kernel tells its stack pointer, though no other register, so that the trace may end
//! early. One that runs is asked by the signal `SIGURG`, whose default is to be ignored, so one that comes late
//! does no harm; Go's runtime preempts by it for the same reason. So is one that waits in futex(2), whose callers
//! expect to be woken for nothing.
//!
//! # What the handler does
//!
//! It may have interrupted anything: a switch of stacks, a library's code on a stack of its own, another handler.
//! So it walks nothing. It sees whether the interrupted stack pointer lies in the stack that is asked about; then it
//! notes the registers and copies that stack above the pointer, within fixed room, by way of the kernel: a stack that
//! is gone is an error then, and no fault. It allocates nothing, takes no lock and calls nothing but gettid(2) and
//! pread(2). Who asked sees whether the thread is still at the turn that was asked about, for then it was at that turn
//! when it answered, and walks the copy. Signals that are no query of ours go to the handler that was there before.

use std::{
    fs, io,
    ops::{ControlFlow, Range},
    ptr,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    former::Former,
    own_memory,
    trace::Trace,
    unwind::{self, REGISTERS, Registers},
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
pub(crate) struct StackCopy {
    registers: Registers,
    /// From where on its stack was copied.
    start: usize,
    stack: Vec<usize>,
}

impl StackCopy {
    /// Its frames, up to so many and as far as the copy reaches.
    pub(crate) fn trace(&self, most: usize) -> Trace {
        let mut addresses = Vec::new();
        unwind::walk(self.registers, self.start, &self.stack, |address| {
            addresses.push(address);
            match addresses.len() < most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        Trace::of(addresses.into_iter())
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
    let copied = part(stack_pointer, stack)?;
    let mut bytes = vec![0; copied.len()];
    own_memory::open().ok()?;
    own_memory::read(copied.start, &mut bytes).ok()?;
    Some(StackCopy {
        registers: Registers::of(at, stack_pointer),
        start: copied.start,
        stack: words(&bytes).collect(),
    })
}

/// Has a thread that runs answer where it is; `None` if it is not on that stack or at that turn any more, or does
/// not answer within 100 ms.
///
/// # Errors
/// If the handler cannot be installed, memory not be read, or there is no such thread.
pub(crate) fn of_running(query: &Query<'_>) -> io::Result<Option<StackCopy>> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    own_memory::open()?;
    install()?;
    let thread = query.thread;
    EXCHANGE.lowest.store(query.stack.start, Ordering::Relaxed);
    EXCHANGE.highest.store(query.stack.end, Ordering::Relaxed);
    EXCHANGE.answered.store(false, Ordering::Relaxed);
    EXCHANGE.asked.store(thread, Ordering::Release);
    // SAFETY: takes numbers only.
    if unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGURG) } != 0 {
        let error = io::Error::last_os_error();
        EXCHANGE.asked.store(0, Ordering::Relaxed);
        return Err(error);
    }
    // It answers within microseconds if a processor is free for it. The sooner that is seen, the less likely has it
    // gone on to its next turn.
    for tries in 0..200 {
        match EXCHANGE.answered.load(Ordering::Acquire) {
            true => break,
            false if tries < 100 => std::thread::yield_now(),
            false => sleep_a_millisecond(),
        }
    }
    if EXCHANGE.asked.swap(0, Ordering::AcqRel) == thread {
        return Ok(None);
    }
    // It has taken the query up, and copying takes microseconds.
    while !EXCHANGE.answered.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    // Turns go up. Its answer is in view, and so is every turn that it had begun before.
    let is_at_turn = query.turn.load(Ordering::Relaxed) == query.number;
    Ok(EXCHANGE.read().filter(|_| is_at_turn))
}

/// The calling thread's number in the system.
pub(crate) fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_pid()
}

/// The addresses of the calling thread's own stack; empty if they cannot be known.
pub(crate) fn own_stack() -> Range<usize> {
    let (mut start, mut length) = (ptr::null_mut(), 0);
    // SAFETY: the attributes are written whole before they are read, and given back.
    let known = unsafe {
        let mut attributes = std::mem::zeroed();
        libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) == 0 && {
            let got = libc::pthread_attr_getstack(&attributes, &mut start, &mut length);
            libc::pthread_attr_destroy(&mut attributes);
            got == 0
        }
    };
    match known {
        true => start.addr()..start.addr() + length,
        false => 0..0,
    }
}

/// The one query that is open at a time, and its answer.
struct Exchange {
    /// The thread that is asked; 0 for none. Whoever sets it to 0 has the rest until the answer is there.
    asked: AtomicI32,
    lowest: AtomicUsize,
    highest: AtomicUsize,
    at: AtomicUsize,
    registers: [AtomicUsize; REGISTERS],
    start: AtomicUsize,
    /// How many words were copied; 0 for a refusal.
    words: AtomicUsize,
    room: [AtomicUsize; MOST_BYTES / WORD],
    answered: AtomicBool,
}

const WORD: usize = size_of::<usize>();

/// As much of a stack is copied, the innermost frames first. Memory backs it once it is used.
const MOST_BYTES: usize = 256 << 10;

static EXCHANGE: Exchange = Exchange {
    asked: AtomicI32::new(0),
    lowest: AtomicUsize::new(0),
    highest: AtomicUsize::new(0),
    at: AtomicUsize::new(0),
    registers: [const { AtomicUsize::new(0) }; REGISTERS],
    start: AtomicUsize::new(0),
    words: AtomicUsize::new(0),
    room: [const { AtomicUsize::new(0) }; MOST_BYTES / WORD],
    answered: AtomicBool::new(false),
};

impl Exchange {
    /// What was answered.
    fn read(&self) -> Option<StackCopy> {
        let words = self.words.load(Ordering::Relaxed);
        if words == 0 {
            return None;
        }
        let load = |word: &AtomicUsize| word.load(Ordering::Relaxed);
        let value = |register| Some(load(register));
        Some(StackCopy {
            registers: Registers {
                at: self.at.load(Ordering::Relaxed),
                values: self.registers.each_ref().map(value),
            },
            start: self.start.load(Ordering::Relaxed),
            stack: self.room[..words].iter().map(load).collect(),
        })
    }

    /// Copies what the thread was at; how many words of its stack. For the handler alone, once it has taken the query
    /// up.
    fn write(&self, context: &libc::ucontext_t) -> usize {
        let registers = read_registers(context);
        let stack = self.lowest.load(Ordering::Relaxed)..self.highest.load(Ordering::Relaxed);
        let Some(copied) = part(registers.stack_pointer(), &stack) else {
            return 0;
        };
        for (own, read) in self.registers.iter().zip(registers.values) {
            own.store(read.unwrap_or(0), Ordering::Relaxed);
        }
        self.at.store(registers.at, Ordering::Relaxed);
        self.start.store(copied.start, Ordering::Relaxed);
        let count = copied.len() / WORD;
        let mut bytes = [0; AT_A_TIME];
        for (start, room) in copied
            .step_by(AT_A_TIME)
            .zip(self.room[..count].chunks(AT_A_TIME / WORD))
        {
            let bytes = &mut bytes[..size_of_val(room)];
            if own_memory::read(start, bytes).is_err() {
                return 0;
            }
            for (room, word) in room.iter().zip(words(bytes)) {
                room.store(word, Ordering::Relaxed);
            }
        }
        count
    }
}

/// Bytes that the handler reads in one call, into the stack that it runs on.
const AT_A_TIME: usize = 4 << 10;

fn words(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let (words, _) = bytes.as_chunks::<WORD>();
    words.iter().map(|word| usize::from_ne_bytes(*word))
}

/// The part of a stack from the pointer on, whole words, as far as there is room; `None` if it is elsewhere.
fn part(stack_pointer: usize, stack: &Range<usize>) -> Option<Range<usize>> {
    let start = stack_pointer & !(WORD - 1);
    let is_in = start >= stack.start && start < stack.end;
    let end = stack.end & !(WORD - 1);
    is_in.then(|| start..end.min(start.saturating_add(MOST_BYTES)))
}

#[cfg(target_arch = "x86_64")]
fn read_registers(context: &libc::ucontext_t) -> Registers {
    /// In the order of their numbers in unwinding tables.
    const ORDER: [i32; REGISTERS] = [
        libc::REG_RAX,
        libc::REG_RDX,
        libc::REG_RCX,
        libc::REG_RBX,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_RBP,
        libc::REG_RSP,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
        libc::REG_RIP,
    ];
    let saved = &context.uc_mcontext.gregs;
    let values = ORDER.map(|index| Some(saved[index as usize] as usize));
    Registers {
        at: saved[libc::REG_RIP as usize] as usize,
        values,
    }
}

#[cfg(target_arch = "aarch64")]
fn read_registers(context: &libc::ucontext_t) -> Registers {
    let saved = &context.uc_mcontext;
    let mut values = [None; REGISTERS];
    for (value, register) in values.iter_mut().zip(saved.regs) {
        *value = Some(register as usize);
    }
    values[unwind::STACK_POINTER] = Some(saved.sp as usize);
    Registers {
        at: saved.pc as usize,
        values,
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "only a watchdog's own thread comes here, or one that dumps"
)]
fn sleep_a_millisecond() {
    std::thread::sleep(Duration::from_millis(1));
}

static FORMER: Former = Former::of(libc::SIGURG);

fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: `answer` keeps to what a handler may do.
        let replaced = unsafe { FORMER.replace(answer, libc::SA_RESTART) };
        replaced.map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    });
    installed.map_err(io::Error::from_raw_os_error)
}

/// The handler.
extern "C" fn answer(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    /// `asm-generic/siginfo.h`: by tgkill(2).
    const SI_TKILL: libc::c_int = -6;
    // SAFETY: the kernel passes a valid siginfo.
    let is_ours = unsafe { (*info).si_code } == SI_TKILL && {
        let (own, none) = (thread_id(), 0);
        let asked = &EXCHANGE.asked;
        asked
            .compare_exchange(own, none, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    };
    if !is_ours {
        // SAFETY: these are the arguments of this handler. Ignoring is the default.
        let _ = unsafe { FORMER.pass_on(info, context) };
        return;
    }
    // SAFETY: the kernel passes the context that it interrupted; this thread was asked, and has taken the query.
    let words = unsafe { EXCHANGE.write(&*context.cast::<libc::ucontext_t>()) };
    EXCHANGE.words.store(words, Ordering::Relaxed);
    EXCHANGE.answered.store(true, Ordering::Release);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

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
        let frames = sighting.trace(128).frames();
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
                libc::sigaction(libc::SIGURG, &action, ptr::null_mut());
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
