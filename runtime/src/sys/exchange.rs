//! A question to a thread that runs, and its answer: where it is. One at a time is open.
//!
//! # What the handler does
//!
//! It may have interrupted anything: a switch of stacks, a library's code on a stack of its own, another handler.
//! So it walks nothing. It sees whether the interrupted stack pointer lies in the stack that is asked about; then it
//! notes the registers and copies that stack above the pointer, within fixed room, by way of the kernel: a stack that
//! is gone is an error then, and no fault. It allocates nothing, waits for no lock and calls nothing but gettid(2) and
//! pread(2).

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering},
    },
};

use super::{
    own_memory,
    unwind::{REGISTERS, Registers},
};

/// Where a thread was found.
pub(super) struct Answer {
    pub(super) registers: Registers,
    /// From where on its stack was copied.
    pub(super) start: usize,
    pub(super) stack: Vec<usize>,
}

/// The one query that is open at a time, and its answer.
struct Exchange {
    /// The thread that is asked; 0 for none. The side that sets it to 0 has the rest until the answer is there.
    asked: AtomicI32,
    lowest: AtomicUsize,
    highest: AtomicUsize,
    at: AtomicUsize,
    registers: [AtomicUsize; REGISTERS],
    start: AtomicUsize,
    /// How many words were copied; 0 for a refusal.
    words: AtomicUsize,
    /// Whose turn it is says `asked`; so the lock is always free, and the handler does not wait for it.
    room: Mutex<[u8; MOST_BYTES]>,
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
    room: Mutex::new([0; MOST_BYTES]),
    answered: AtomicBool::new(false),
};

impl Exchange {
    /// What was answered.
    fn read(&self) -> Option<Answer> {
        let count = self.words.load(Ordering::Relaxed);
        if count == 0 {
            return None;
        }
        let room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let value = |register: &AtomicUsize| Some(register.load(Ordering::Relaxed));
        Some(Answer {
            registers: Registers {
                at: self.at.load(Ordering::Relaxed),
                values: self.registers.each_ref().map(value),
            },
            start: self.start.load(Ordering::Relaxed),
            stack: words(&room[..count * WORD]),
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
        let Ok(mut room) = self.room.try_lock() else {
            return 0;
        };
        match own_memory::read(copied.start, &mut room[..copied.len()]) {
            Ok(()) => copied.len() / WORD,
            Err(_) => 0,
        }
    }
}

pub(super) fn words(bytes: &[u8]) -> Vec<usize> {
    let (words, _) = bytes.as_chunks::<WORD>();
    words
        .iter()
        .map(|word| usize::from_ne_bytes(*word))
        .collect()
}

/// The part of a stack from the pointer on, whole words, as far as there is room; `None` if it is elsewhere.
pub(super) fn part(stack_pointer: usize, stack: &Range<usize>) -> Option<Range<usize>> {
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
    values[super::unwind::STACK_POINTER] = Some(saved.sp as usize);
    Registers {
        at: saved.pc as usize,
        values,
    }
}

/// Asks the thread about that stack. It is still to be sent the signal.
pub(super) fn ask(thread: i32, stack: &Range<usize>) {
    EXCHANGE.lowest.store(stack.start, Ordering::Relaxed);
    EXCHANGE.highest.store(stack.end, Ordering::Relaxed);
    EXCHANGE.answered.store(false, Ordering::Relaxed);
    EXCHANGE.asked.store(thread, Ordering::Release);
}

pub(super) fn is_answered() -> bool {
    EXCHANGE.answered.load(Ordering::Acquire)
}

/// Takes the question back; false if the thread has taken it up, and answers.
pub(super) fn withdraw(thread: i32) -> bool {
    EXCHANGE.asked.swap(0, Ordering::AcqRel) == thread
}

/// The answer, once it is there; `None` if the thread was not on that stack.
pub(super) fn read() -> Option<Answer> {
    EXCHANGE.read()
}

/// What the handler does; false if the signal is none of ours. Keeps to what a handler may do: see above.
pub(super) fn answer(code: libc::c_int, _address: usize, context: &libc::ucontext_t) -> bool {
    /// `asm-generic/siginfo.h`: by tgkill(2).
    const SI_TKILL: libc::c_int = -6;
    let take = |own| {
        let asked = &EXCHANGE.asked;
        asked.compare_exchange(own, 0, Ordering::Acquire, Ordering::Relaxed)
    };
    let own = rustix::thread::gettid().as_raw_pid();
    if code != SI_TKILL || take(own).is_err() {
        return false;
    }
    let words = EXCHANGE.write(context);
    EXCHANGE.words.store(words, Ordering::Relaxed);
    EXCHANGE.answered.store(true, Ordering::Release);
    true
}
