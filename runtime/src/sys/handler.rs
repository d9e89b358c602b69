//! The handlers of signals that the runtime has: how they are called, the stack that they run on, and what handled the
//! signal before them.
//!
//! There are two, and no way to add one but here, since a handler may interrupt anything, `malloc` with its lock held
//! included, and so may do almost nothing (signal-safety(7)). What each does, and that it keeps to that, stands where
//! it is: [`overflow`], [`exchange`].

use std::{
    io,
    marker::PhantomData,
    mem::{self, MaybeUninit},
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::process::{Signal, getpid, kill_process};

use super::{
    exchange,
    memory::{self, Mapping},
    overflow,
};

/// Guard pages answer with SIGSEGV; some kernels and emulators report faults on them as SIGBUS.
static FAULTS: [Handler; 2] = [
    Handler::of(Signal::SEGV, overflow::on_fault),
    Handler::of(Signal::BUS, overflow::on_fault),
];

static QUERIES: [Handler; 1] = [Handler::of(Signal::URG, exchange::answer)];

/// Installs the handler of overflows, once per process; later calls repeat the outcome of the first.
pub(crate) fn install_for_overflows() -> io::Result<()> {
    static OUTCOME: OnceLock<Result<(), i32>> = OnceLock::new();
    install_once(&OUTCOME, &FAULTS)
}

/// Installs the handler of queries, as for overflows.
pub(super) fn install_for_queries() -> io::Result<()> {
    static OUTCOME: OnceLock<Result<(), i32>> = OnceLock::new();
    install_once(&OUTCOME, &QUERIES)
}

fn install_once(
    outcome: &'static OnceLock<Result<(), i32>>,
    handlers: &'static [Handler],
) -> io::Result<()> {
    let outcome = outcome.get_or_init(|| {
        let outcome = handlers.iter().try_for_each(Handler::install);
        outcome.map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    });
    outcome.map_err(io::Error::from_raw_os_error)
}

/// Sends a query to a thread of this process.
///
/// # Errors
/// If there is no such thread.
pub(super) fn send_query(thread: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    match unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGURG) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A handler of one signal, in front of the one that was there before.
struct Handler {
    signal: Signal,
    body: Body,
    /// The action that the signal had when this was installed.
    former: OnceLock<libc::sigaction>,
    /// That was to be called once (`SA_RESETHAND`), and has been.
    spent: AtomicBool,
}

/// What a handler does with a signal's code (sigaction(2); that of a fault is positive), the address of a fault, and
/// what was interrupted. False if the signal is not its own.
type Body = fn(libc::c_int, usize, &libc::ucontext_t) -> bool;

/// As the kernel calls it, if asked to with `SA_SIGINFO`.
pub(crate) type Informed = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

impl Handler {
    const fn of(signal: Signal, body: Body) -> Self {
        Self {
            signal,
            body,
            former: OnceLock::new(),
            spent: AtomicBool::new(false),
        }
    }

    /// Has it called on the alternate stack, with the mask that the former handler asked for.
    fn install(&'static self) -> io::Result<()> {
        let number = self.signal.as_raw();
        let mut former = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: asks for the current action, which the kernel writes whole.
        let former = unsafe {
            match libc::sigaction(number, ptr::null(), former.as_mut_ptr()) {
                0 => former.assume_init(),
                _ => return Err(io::Error::last_os_error()),
            }
        };
        // What is harmless cuts no call short.
        let flags = match self.is_deadly() {
            true => libc::SA_SIGINFO | libc::SA_ONSTACK,
            false => libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART,
        };
        let action = libc::sigaction {
            sa_sigaction: on_signal as Informed as usize,
            sa_flags: flags | (former.sa_flags & libc::SA_NODEFER),
            ..former
        };
        // Kept before it can run, since a signal may follow at once.
        let _ = self.former.set(former);
        // SAFETY: `on_signal` has the signature that SA_SIGINFO asks for, and the bodies that it calls, which are those
        // above, keep to what a handler may do.
        match unsafe { libc::sigaction(number, &action, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether the signal ends the process where nobody handles it.
    fn is_deadly(&self) -> bool {
        self.signal != Signal::URG
    }

    /// Does what would have happened without it. The kernel has set the mask that the former handler asked for, and
    /// the stack is ours, which is the better one to have if it had not asked for the alternate.
    fn pass_on(&self, code: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        let Some(former) = self.former.get() else {
            return;
        };
        let was_sent = code <= 0;
        let is_spent = former.sa_flags & libc::SA_RESETHAND != 0
            && former.sa_sigaction > libc::SIG_IGN
            && self.spent.swap(true, Ordering::Relaxed);
        match former.sa_sigaction {
            // The kernel ignores a signal that was sent, but never a fault.
            libc::SIG_IGN if was_sent => {}
            libc::SIG_DFL | libc::SIG_IGN => self.fall_to_default(former, was_sent),
            _ if is_spent => self.fall_to_default(former, was_sent),
            informed if former.sa_flags & libc::SA_SIGINFO != 0 => {
                // SAFETY: so it was installed for the kernel to call; these are the arguments of ours.
                let informed = unsafe { mem::transmute::<usize, Informed>(informed) };
                informed(self.signal.as_raw(), info, context);
            }
            plain => {
                // SAFETY: as above, for one that takes the number alone.
                let plain = unsafe { mem::transmute::<usize, extern "C" fn(libc::c_int)>(plain) };
                plain(self.signal.as_raw());
            }
        }
    }

    /// Lets the signal meet its default action: a fault repeats itself when the handler returns, a signal that was sent
    /// has to be sent again.
    fn fall_to_default(&self, former: &libc::sigaction, was_sent: bool) {
        if !self.is_deadly() {
            return;
        }
        let default = libc::sigaction {
            sa_sigaction: libc::SIG_DFL,
            sa_flags: 0,
            ..*former
        };
        // SAFETY: nobody is called by the default action.
        unsafe { libc::sigaction(self.signal.as_raw(), &default, ptr::null_mut()) };
        if was_sent {
            let _ = kill_process(getpid(), self.signal);
        }
    }
}

/// The handler, as the kernel sees it.
extern "C" fn on_signal(
    number: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes both, valid until this returns; the second is a context by SA_SIGINFO.
    let (told, interrupted) = unsafe { (&*info, &*context.cast::<libc::ucontext_t>()) };
    // SAFETY: whatever there is in its place, it is plain bits.
    let address = unsafe { told.si_addr() }.addr();
    let mut handlers = FAULTS.iter().chain(&QUERIES);
    if let Some(handler) = handlers.find(|handler| handler.signal.as_raw() == number)
        && !(handler.body)(told.si_code, address, interrupted)
    {
        handler.pass_on(told.si_code, info, context);
    }
}

/// An alternate signal stack for the current thread, without which an overflow could not be
/// handled.
///
/// Dropping it restores the thread's former one.
#[derive(Debug)]
pub(crate) struct AltStack {
    /// Until it is dropped.
    mapping: Option<Mapping>,
    former: libc::stack_t,
    /// It belongs to the thread that installed it.
    _not_send: PhantomData<*mut ()>,
}

impl AltStack {
    /// Gives the current thread an alternate stack of 64 KiB (more where signal frames are large),
    /// with a guard page.
    pub(crate) fn install() -> io::Result<AltStack> {
        let page = memory::page_size();
        let size = (64 << 10)
            .max((32 << 10) + rustix::param::linux_minsigstksz())
            .next_multiple_of(page);
        let mapping = Mapping::reserve_guarded(page + size)?;
        let stack = libc::stack_t {
            ss_sp: ptr::with_exposed_provenance_mut(mapping.start().get() + page),
            ss_flags: 0,
            ss_size: size,
        };
        let mut former = MaybeUninit::uninit();
        // SAFETY: nothing lives in the mapping yet. From here on the kernel may run handlers on it, and it
        // is kept until `drop` has taken it away from the thread.
        let installed = unsafe {
            match libc::sigaltstack(&stack, former.as_mut_ptr()) {
                0 => Ok(former.assume_init()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        match installed {
            Ok(former) => Ok(AltStack {
                mapping: Some(mapping),
                former,
                _not_send: PhantomData,
            }),
            Err(error) => {
                let _ = mapping.unmap();
                Err(error)
            }
        }
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping.take() else {
            return;
        };
        let mut current = MaybeUninit::<libc::stack_t>::uninit();
        // SAFETY: asks for the thread's alternate stack, and replaces it only if it is ours.
        let detached = unsafe {
            libc::sigaltstack(ptr::null(), current.as_mut_ptr()) == 0 && {
                let ours = current.assume_init().ss_sp.addr()
                    == mapping.start().get() + memory::page_size();
                !ours || libc::sigaltstack(&self.former, ptr::null_mut()) == 0
            }
        };
        // It may be no thread's alternate stack any more, and this thread runs `drop` elsewhere.
        if detached {
            let _ = mapping.unmap();
        }
    }
}
