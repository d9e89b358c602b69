//! Tells a coroutine's stack overflow from other faults, and says who overflowed.
//!
//! A handler for SIGSEGV and SIGBUS runs on an alternate stack of the faulting thread (the
//! coroutine's own is used up) and asks one question: is the address in the guard page of one of
//! our slots? If so it writes a report and aborts. If not, it does what would have happened without
//! us: the fault goes to the handler that was there before.
//!
//! # What a signal handler may do
//!
//! It may have interrupted anything, `malloc` with its lock held included. So everything it touches
//! is reached without locks and allocates nothing: the regions are a linked list of leaked nodes,
//! the report is formatted into a buffer on the stack and leaves by `write(2)`.
//!
//! # The list of regions
//!
//! Nodes are appended under a mutex and never freed; a node whose region was unmapped is used
//! again. The handler reads each one under its sequence number, which is odd while the node
//! changes. A node that changes meanwhile can be passed over: the region of the faulting coroutine
//! was entered before its first stack was handed out, and leaves only after its last one came back.

use std::fmt::{self, Write as _};
use std::panic::Location;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::io::Errno;

use super::memory::{self, Mapping};

/// Whose stack overflowed.
#[derive(Clone, Copy)]
pub(crate) struct Culprit<'a> {
    /// The coroutine's id.
    pub(crate) id: u64,
    /// Its name, which neither allocates nor locks as it is written.
    pub(crate) name: Option<&'a dyn fmt::Display>,
    /// Where it was spawned.
    pub(crate) spawned_at: &'static Location<'static>,
}

/// Sets how the owner of an overflown stack is found: from the stack's limit, on the thread that
/// runs it.
///
/// `find` is called in a signal handler: it may neither allocate nor lock. The first call in a
/// process decides.
pub(crate) fn set_culprit(find: FindCulprit) {
    let _ = FIND_CULPRIT.set(find);
}

/// Hands on whose stack has that limit, if that is known.
type FindCulprit = fn(stack_limit: usize, report: &mut dyn FnMut(Option<Culprit<'_>>));

static FIND_CULPRIT: OnceLock<FindCulprit> = OnceLock::new();

/// A region of slots that the handler knows. Must be ended before the region is unmapped.
#[derive(Debug)]
pub(crate) struct Watch(&'static Node);

impl Watch {
    /// Lets the handler know that `region` is cut into slots of `slot` bytes, whose lowest pages
    /// are guards.
    pub(crate) fn begin(region: &Mapping, slot: usize) -> Watch {
        let mut spare = SPARE_NODES.lock().unwrap_or_else(PoisonError::into_inner);
        let node = spare.pop().unwrap_or_else(|| {
            let node: &'static Node = Box::leak(Box::default());
            let mut link = &FIRST_NODE;
            while let Err(_occupied) = link.set(node) {
                link = &link.get().expect("a link that cannot be set is set").next;
            }
            node
        });
        node.write(region.start().get(), region.length(), slot);
        Watch(node)
    }

    /// Makes the handler forget the region.
    pub(crate) fn end(self) {
        let mut spare = SPARE_NODES.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.write(0, 0, 1);
        spare.push(self.0);
    }
}

static FIRST_NODE: OnceLock<&'static Node> = OnceLock::new();

/// Nodes without a region. Its mutex also serialises the writers of the list.
static SPARE_NODES: Mutex<Vec<&'static Node>> = Mutex::new(Vec::new());

/// A region in the list. See the module's documentation for its protocol.
#[derive(Debug, Default)]
struct Node {
    /// Odd while the fields below change.
    sequence: AtomicUsize,
    start: AtomicUsize,
    length: AtomicUsize,
    slot: AtomicUsize,
    next: OnceLock<&'static Node>,
}

impl Node {
    /// Called only under the mutex of [`SPARE_NODES`].
    fn write(&self, start: usize, length: usize, slot: usize) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        // Pairs with the acquire fence in `guarded_slot`: who sees a field below sees the odd
        // number too.
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.length.store(length, Ordering::Relaxed);
        self.slot.store(slot, Ordering::Relaxed);
        // Pairs with the first load in `guarded_slot`: who sees this number sees the fields.
        self.sequence.store(sequence + 2, Ordering::Release);
    }

    /// The slot of this region in whose guard page `address` lies.
    fn guarded_slot(&self, address: usize) -> Option<Slot> {
        let before = self.sequence.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        let length = self.length.load(Ordering::Relaxed);
        let size = self.slot.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let steady = before.is_multiple_of(2) && before == self.sequence.load(Ordering::Relaxed);

        let offset = address
            .checked_sub(start)
            .filter(|offset| steady && *offset < length)?;
        let within = offset % size;
        (within < memory::page_size()).then_some(Slot {
            limit: address - within,
            size,
        })
    }
}

#[derive(Clone, Copy)]
struct Slot {
    limit: usize,
    size: usize,
}

fn guarded_slot(address: usize) -> Option<Slot> {
    let nodes = std::iter::successors(FIRST_NODE.get(), |node| node.next.get());
    nodes.filter_map(|node| node.guarded_slot(address)).next()
}

/// What the handler does; false for other faults. Keeps to what a handler may do: see above.
pub(super) fn on_fault(code: libc::c_int, address: usize, _context: &libc::ucontext_t) -> bool {
    // A signal that was sent has no address.
    if code > 0
        && let Some(slot) = guarded_slot(address)
    {
        report(slot);
    }
    false
}

/// Says on standard error whose stack overflowed, and aborts.
fn report(slot: Slot) -> ! {
    let mut text = Text::new();
    // `Text` cuts what it cannot hold and never fails.
    let mut describe = |culprit: Option<Culprit<'_>>| _ = text.describe(culprit, slot.size);
    match FIND_CULPRIT.get() {
        Some(find) => find(slot.limit, &mut describe),
        None => describe(None),
    }
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stderr(), rest) {
            Ok(written @ 1..) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            _ => break,
        }
    }
    process::abort();
}

/// A text on the stack, cut at its capacity, so that a signal handler can format it.
struct Text {
    bytes: [u8; 1024],
    length: usize,
}

impl Text {
    const fn new() -> Text {
        Text {
            bytes: [0; 1024],
            length: 0,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn describe(&mut self, culprit: Option<Culprit<'_>>, size: usize) -> fmt::Result {
        self.write_str("maniple: stack overflow in ")?;
        match culprit {
            None => self.write_str("a coroutine")?,
            Some(Culprit {
                id,
                name: None,
                spawned_at,
            }) => write!(self, "coroutine {id}, spawned at {spawned_at}")?,
            Some(Culprit {
                id,
                name: Some(name),
                spawned_at,
            }) => {
                self.write_str("coroutine '")?;
                let mut beginning = Beginning {
                    text: self,
                    left: MAX_NAME,
                };
                write!(beginning, "{name}")?;
                write!(self, "' (id {id}), spawned at {spawned_at}")?;
            }
        }
        write!(
            self,
            "\nstack size {} KiB. Give all coroutines more with Runtime::builder().stack_size, or this one \
             with task::Builder::stack_size; a debug build needs two to three times as much. Or move deep \
             recursion off the coroutine\n",
            size >> 10
        )
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..];
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        Ok(())
    }
}

/// Bytes of a coroutine's name that a report shows.
const MAX_NAME: usize = 128;

/// Escapes what is written and keeps so many bytes of it.
struct Beginning<'a> {
    text: &'a mut Text,
    left: usize,
}

impl fmt::Write for Beginning<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let shown = &text[..text.floor_char_boundary(self.left)];
        // Nothing further is shown once something was cut.
        self.left = match shown.len() < text.len() {
            true => 0,
            false => self.left - shown.len(),
        };
        write!(self.text, "{}", shown.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{self, MaybeUninit};
    use std::num::NonZeroUsize;
    use std::ptr;
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::stack::pool::StackPool;
    use crate::stack::slab::Slabs;
    use crate::stack::{Guarding, Stack, StackGuard, StackLimits, child};
    use crate::sys::handler::{AltStack, install_for_overflows};

    /// An address on the page at zero, which no process has mapped.
    const NULL_PAGE: usize = 8;
    const HANDLED: i32 = 42;

    fn acquire(guard: StackGuard) -> (StackPool, Stack) {
        let limits = StackLimits {
            default_size: 64 << 10,
            max_stacks: usize::MAX,
            guard: Guarding::By(guard),
            warm: None,
        };
        let slabs = Slabs::new(limits).unwrap();
        let class = slabs.default_class();
        let mut pool = StackPool::new(slabs);
        let stack = pool.acquire(class).unwrap();
        (pool, stack)
    }

    fn read(address: usize) {
        // SAFETY: the tests mean it to fault, in a process made for that.
        unsafe { ptr::with_exposed_provenance::<u8>(address).read_volatile() };
    }

    fn act(signal: libc::c_int, handler: usize, flags: libc::c_int) {
        // SAFETY: all zeroes is a valid action.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        // SAFETY: the signal set is that of the action, and the handlers of the tests are
        // signal-safe.
        unsafe {
            libc::sigaddset(&mut action.sa_mask, libc::SIGUSR1);
            assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
        }
    }

    fn kill_self(signal: libc::c_int) {
        // SAFETY: sends a signal to this very process.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }

    fn exit(status: i32) -> ! {
        // SAFETY: `_exit` may be called anywhere.
        unsafe { libc::_exit(status) }
    }

    fn is_blocked(signal: libc::c_int) -> bool {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: only asks for the mask, which is written whole.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr());
            libc::sigismember(mask.as_ptr(), signal) == 1
        }
    }

    static LIMIT: AtomicUsize = AtomicUsize::new(0);

    fn recurse_on(stack: Stack) {
        struct Bound(Stack);
        // SAFETY: a `Stack` is exclusively owned and guarded.
        unsafe impl corosensei::stack::Stack for Bound {
            fn base(&self) -> NonZeroUsize {
                self.0.base()
            }
            fn limit(&self) -> NonZeroUsize {
                self.0.limit()
            }
        }
        fn recurse(depth: u64) -> u64 {
            let frame = [depth; 64];
            std::hint::black_box(&frame);
            if depth == u64::MAX {
                0
            } else {
                recurse(depth + 1) + frame[0]
            }
        }

        LIMIT.store(stack.limit().get(), Ordering::Relaxed);
        let mut coroutine =
            corosensei::Coroutine::<(), (), (), _>::with_stack(Bound(stack), |_, ()| {
                recurse(0);
            });
        let _ = coroutine.resume(());
    }

    fn culprit(limit: usize, report: &mut dyn FnMut(Option<Culprit<'_>>)) {
        report((limit == LIMIT.load(Ordering::Relaxed)).then_some(Culprit {
            id: 7,
            name: Some(&"ads"),
            spawned_at: Location::caller(),
        }));
    }

    #[test]
    fn an_overflow_names_its_coroutine_and_aborts() {
        let ended = child::run(
            module_path!(),
            "an_overflow_names_its_coroutine_and_aborts",
            || {
                install_for_overflows().unwrap();
                set_culprit(culprit);
                let _alternate = AltStack::install().unwrap();
                let (_pool, stack) = acquire(StackGuard::Auto);
                recurse_on(stack);
            },
        );
        let text = ended.by_signal(libc::SIGABRT);
        let (first, second) = text.split_once('\n').unwrap();
        let who = "maniple: stack overflow in coroutine 'ads' (id 7), spawned at ";
        assert!(first.starts_with(who) && first.contains(file!()), "{text}");
        let advice = "Give all coroutines more with Runtime::builder().stack_size, or this one with \
                      task::Builder::stack_size; a debug build needs two to three times as much. Or move deep \
                      recursion off the coroutine";
        assert_eq!(second, format!("stack size 64 KiB. {advice}\n"));
    }

    #[test]
    fn an_overflow_onto_a_protected_page_is_reported_too() {
        let test = "an_overflow_onto_a_protected_page_is_reported_too";
        let ended = child::run(module_path!(), test, || {
            install_for_overflows().unwrap();
            let _alternate = AltStack::install().unwrap();
            let (_pool, stack) = acquire(StackGuard::Mprotect);
            recurse_on(stack);
        });
        let text = ended.by_signal(libc::SIGABRT);
        assert!(
            text.starts_with("maniple: stack overflow in a coroutine\n"),
            "{text}"
        );
    }

    #[test]
    fn a_guard_still_reports_after_its_stack_was_given_back() {
        let test = "a_guard_still_reports_after_its_stack_was_given_back";
        let ended = child::run(module_path!(), test, || {
            install_for_overflows().unwrap();
            let (_pool, stack) = acquire(StackGuard::Auto);
            let slot = stack.limit().get()..stack.base().get();
            // SAFETY: nothing runs on the stack.
            unsafe { memory::discard(&[slot]) }.unwrap();
            read(stack.limit().get() + memory::page_size());
            read(stack.limit().get());
        });
        let text = ended.by_signal(libc::SIGABRT);
        assert!(text.contains("stack overflow"), "{text}");
    }

    #[test]
    fn a_null_pointer_reaches_the_default_action() {
        let ended = child::run(
            module_path!(),
            "a_null_pointer_reaches_the_default_action",
            || {
                act(libc::SIGSEGV, libc::SIG_DFL, 0);
                install_for_overflows().unwrap();
                read(NULL_PAGE);
            },
        );
        let text = ended.by_signal(libc::SIGSEGV);
        assert!(!text.contains("maniple"), "{text}");
    }

    #[test]
    fn a_null_pointer_reaches_the_handler_of_the_standard_library() {
        let test = "a_null_pointer_reaches_the_handler_of_the_standard_library";
        let ended = child::run(module_path!(), test, || {
            install_for_overflows().unwrap();
            read(NULL_PAGE);
        });
        let text = ended.by_signal(libc::SIGSEGV);
        assert!(!text.contains("maniple"), "{text}");
    }

    #[test]
    fn a_null_pointer_reaches_a_handler_with_its_siginfo_and_mask() {
        extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
            // SAFETY: the kernel's siginfo was passed on.
            let address = unsafe { (*info).si_addr().addr() };
            let masked = is_blocked(libc::SIGUSR1) && is_blocked(libc::SIGSEGV);
            let right = signal == libc::SIGSEGV && address == NULL_PAGE && !context.is_null();
            exit(if right && masked { HANDLED } else { 1 });
        }
        let test = "a_null_pointer_reaches_a_handler_with_its_siginfo_and_mask";
        let ended = child::run(module_path!(), test, || {
            act(
                libc::SIGSEGV,
                handler as crate::sys::handler::Informed as usize,
                libc::SA_SIGINFO,
            );
            install_for_overflows().unwrap();
            read(NULL_PAGE);
        });
        ended.by_exit(HANDLED);
    }

    #[test]
    fn a_handler_that_defers_nothing_may_fault_again() {
        static FAULTS: AtomicU32 = AtomicU32::new(0);
        extern "C" fn handler(_: i32) {
            if FAULTS.fetch_add(1, Ordering::Relaxed) == 1 {
                exit(HANDLED);
            }
            read(NULL_PAGE);
        }
        let test = "a_handler_that_defers_nothing_may_fault_again";
        let ended = child::run(module_path!(), test, || {
            act(
                libc::SIGSEGV,
                handler as extern "C" fn(i32) as usize,
                libc::SA_NODEFER,
            );
            install_for_overflows().unwrap();
            read(NULL_PAGE);
        });
        ended.by_exit(HANDLED);
    }

    #[test]
    fn a_handler_for_one_time_is_called_once() {
        extern "C" fn handler(_: i32) {
            let text = "once\n";
            // SAFETY: the pointer and length are those of a string.
            unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        }
        let ended = child::run(
            module_path!(),
            "a_handler_for_one_time_is_called_once",
            || {
                let handler = handler as extern "C" fn(i32) as usize;
                act(libc::SIGSEGV, handler, libc::SA_RESETHAND);
                install_for_overflows().unwrap();
                read(NULL_PAGE);
            },
        );
        assert_eq!(ended.by_signal(libc::SIGSEGV), "once\n");
    }

    #[test]
    fn ignoring_holds_for_signals_sent_but_not_for_faults() {
        let test = "ignoring_holds_for_signals_sent_but_not_for_faults";
        let ended = child::run(module_path!(), test, || {
            act(libc::SIGSEGV, libc::SIG_IGN, 0);
            install_for_overflows().unwrap();
            kill_self(libc::SIGSEGV);
            eprintln!("survived");
            read(NULL_PAGE);
        });
        assert_eq!(ended.by_signal(libc::SIGSEGV), "survived\n");
    }

    #[test]
    fn a_signal_that_was_sent_still_ends_the_process() {
        let test = "a_signal_that_was_sent_still_ends_the_process";
        let ended = child::run(module_path!(), test, || {
            act(libc::SIGBUS, libc::SIG_DFL, 0);
            install_for_overflows().unwrap();
            kill_self(libc::SIGBUS);
        });
        let text = ended.by_signal(libc::SIGBUS);
        assert!(text.is_empty(), "{text}");
    }

    #[test]
    fn a_dropped_alternate_stack_restores_the_former_one() {
        fn current() -> (usize, usize) {
            let mut stack = MaybeUninit::<libc::stack_t>::uninit();
            // SAFETY: only asks for the alternate stack, which is written whole.
            let stack = unsafe {
                assert_eq!(libc::sigaltstack(ptr::null(), stack.as_mut_ptr()), 0);
                stack.assume_init()
            };
            (stack.ss_sp.addr(), stack.ss_size)
        }
        let former = current();
        let alternate = AltStack::install().unwrap();
        assert_ne!(current().0, former.0);
        assert!(current().1 >= 64 << 10);
        drop(alternate);
        assert_eq!(current(), former);
    }

    #[test]
    fn only_guards_of_living_regions_are_recognised() {
        let (pool, stack) = acquire(StackGuard::Auto);
        let (limit, size) = (
            stack.limit().get(),
            stack.base().get() - stack.limit().get(),
        );
        let page = memory::page_size();
        for inside in [limit, limit + page - 1] {
            let slot = guarded_slot(inside).expect("the guard is known");
            assert_eq!((slot.limit, slot.size), (limit, size));
        }
        assert!(guarded_slot(limit + page).is_none());
        assert!(guarded_slot(limit + size - 1).is_none());
        assert!(guarded_slot(NULL_PAGE).is_none());
        let mapping = Mapping::reserve(4 * size).unwrap();
        let start = mapping.start().get();
        let watch = Watch::begin(&mapping, size);
        assert!(guarded_slot(start + 3 * size).is_some());
        watch.end();
        assert!(guarded_slot(start + 3 * size).is_none());
        mapping.unmap().unwrap();
        let mut pool = pool;
        pool.release(stack);
    }

    #[test]
    fn a_report_is_cut_to_its_buffer_and_its_name_is_kept_to_one_line() {
        let name: &'static String = Box::leak(Box::new("long\nname ".repeat(500)));
        let spawned_at = Location::caller();
        let mut text = Text::new();
        text.describe(
            Some(Culprit {
                id: 1,
                name: Some(name),
                spawned_at,
            }),
            1 << 20,
        )
        .unwrap();
        let report = String::from_utf8(text.as_bytes().to_vec()).unwrap();
        assert!(report.contains("'long\\nname long") && report.contains("stack size 1024 KiB"));
        assert_eq!(report.lines().count(), 2, "{report}");
        text.write_str(name).unwrap();
        assert_eq!(text.as_bytes().len(), text.bytes.len());
    }
}
