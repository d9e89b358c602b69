//! Calls on files that wait for a disk: made on threads that are there for them, where the program asks for it.
//!
//! `open`, `read`, `fsync`, `rename` and their like wait for a disk, or a server of files, and nobody can be told when
//! that is done. So as a rule they are left as they are: they hold the worker, and on a machine whose files are in
//! memory that costs less than to hand each to another thread. Within [`offload`] they suspend the coroutine, and run
//! on the threads of [`maniple::fs`].
//!
//! # Which
//!
//! All by which `std::fs` and C libraries open, read, write, measure, sync, rename, make and remove;
//! [`names`](crate::names) has them. Reading a file of which the kernel has what is wanted in memory needs no other
//! thread. Of `flock` and `fcntl`, the locks that wait: see below.
//!
//! Left as they are, here too: `close`, `fstat`, `lseek` and `ioctl`; reading folders (`readdir`), finding real paths
//! (`realpath`), `FILE` streams and `mkstemp`, which the C library makes of calls within itself; what has no call at
//! all, as a file that is mapped.
//!
//! # Locks of files
//!
//! `flock`, and `fcntl` with `F_SETLKW` or `F_OFD_SETLKW`, ask again and again, ever more rarely, and come up to 10 ms
//! late. A thread that waited in the kernel instead could be the last that the holder needs to go on. So who waits has
//! no place in the kernel's queue, and a circle of `F_SETLKW` is not told by `EDEADLK`: have a deadline.
//!
//! # Locks of the thread
//!
//! Who calls within a lock of std's or of C now holds it over a wait, and another of the same worker who wants it
//! stops that worker for good: a logger that writes into a file behind a `Mutex`; SQLite, which calls `stat` and `open`
//! within a lock of all its connections. Such code goes into [`in_place`], or as a whole to [`maniple::offload()`].
//!
//! # Deadlines and cancellation
//!
//! A call in a scope that is cancelled, or past its deadline, is not made: it fails with `ECANCELED` or `ETIMEDOUT`.
//! That is true of removing what was made, too: clean up behind [`maniple::cancel::shield`]. One that has begun is
//! waited for to its end, since the kernel has the caller's memory. Only waits for a lock are cut, and `open` without
//! `O_CREAT` and `O_TRUNC`, which may be for the other end of a FIFO; what it opens too late is closed.
//!
//! # Errors
//!
//! Those of the call. If there are no threads to be had, or too many calls wait for one, it is made where it is.

use std::{
    cell::Cell,
    ffi::{CStr, c_char, c_int},
    io,
    mem::ManuallyDrop,
    sync::atomic::{AtomicBool, Ordering},
};

use libc::iovec;
use maniple::hook;

use crate::{
    caller::{self, is_plain, may_wait},
    raw::{self, OWN_OFFSET},
};

maniple::coroutine_local! {
    /// Whether calls on files go to others.
    static OFFLOADS: Cell<bool> = const { Cell::new(false) }, inherited;
}

/// Whether anybody ever asked for it: programs without pay for one look at this.
static IS_ANY: AtomicBool = AtomicBool::new(false);

/// Calls `within`, where calls on files suspend the coroutine that makes them; coroutines that are spawned there do
/// the same, for as long as they live. So around all that a program does, it is for all of that.
///
/// It changes nothing for plain threads, nor without [`install!`](crate::install!), nor in simulated worlds.
///
/// # Examples
/// ```
/// use std::{fs, io::Write};
///
/// fn main() -> std::io::Result<()> {
///     maniple_hook::install!();
///     let path = std::env::temp_dir().join(format!("offloaded-{}", std::process::id()));
///     maniple::run(|| {
///         maniple_hook::files::offload(|| {
///             let mut file = fs::File::create(&path)?; // suspends
///             file.write_all(b"kept")?; // so does this
///             file.sync_all()?; // and this
///             assert_eq!(fs::read(&path)?, b"kept");
///             fs::remove_file(&path)
///         })
///     })
/// }
/// ```
pub fn offload<T>(within: impl FnOnce() -> T) -> T {
    IS_ANY.store(true, Ordering::Relaxed);
    with(true, within)
}

/// Calls `within`, where calls on files are as they are, also inside of [`offload`]: for code that holds a lock of the
/// thread around them, such as a logger.
///
/// # Examples
/// ```
/// use std::{fs::File, io::Write, sync::Mutex};
///
/// /// Lines of all coroutines, in a file.
/// fn log(to: &Mutex<File>, line: &str) -> std::io::Result<()> {
///     maniple_hook::files::in_place(|| to.lock().expect("nobody panics").write_all(line.as_bytes()))
/// }
/// # let to = Mutex::new(File::options().write(true).open("/dev/null").unwrap());
/// # maniple_hook::install!();
/// # maniple::run(|| maniple_hook::files::offload(|| log(&to, "a line"))).unwrap();
/// ```
pub fn in_place<T>(within: impl FnOnce() -> T) -> T {
    with(false, within)
}

fn with<T>(offloads: bool, within: impl FnOnce() -> T) -> T {
    /// Puts back what there was, on every way out.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            OFFLOADS.with_made(|own| own.set(self.0));
        }
    }
    // There is no value any more where the coroutine's locals are dropped: calls are as they are then.
    let before = OFFLOADS.try_with(|own| own.replace(offloads));
    let _before = Before(before.unwrap_or(false));
    within()
}

/// Whether calls on files are to be made elsewhere: their caller is a coroutine that may be suspended, and has asked
/// for that.
#[inline]
pub(crate) fn are_offloaded() -> bool {
    !is_plain()
        && IS_ANY.load(Ordering::Relaxed)
        && may_wait()
        && OFFLOADS.with_made(Cell::get) == Some(true)
}

/// Makes a system call where it is, or on a thread for files if the caller has asked for that.
///
/// # Safety
/// The call may be made, on any thread, for as long as this lasts.
#[inline(always)]
pub(crate) unsafe fn call(make: impl Fn() -> raw::Result + Copy + 'static) -> raw::Result {
    if !are_offloaded() {
        return make();
    }
    // SAFETY: passed on to the caller.
    unsafe { call_elsewhere(make) }
}

/// Defines calls that are made on a thread for files, where the program asks for it.
macro_rules! calls {
    ($($(#[$attribute:meta])* $name:ident($($argument:ident: $kind:ty),*) -> $result:ty = $call:expr;)*) => { $(
        $(#[$attribute])*
        ///
        /// # Safety
        /// Its pointers are what the manual page of the C function says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> $result {
            // SAFETY: passed on to the caller, who waits.
            $crate::raw::told(unsafe { $crate::files::call(move || $call) }) as $result
        }
    )* };
}
pub(crate) use calls;

/// Makes a system call on a thread for files, and returns once it has ended, whatever is cancelled meanwhile.
///
/// # Safety
/// As for [`call`].
pub(crate) unsafe fn call_elsewhere(
    make: impl Fn() -> raw::Result + Copy + 'static,
) -> raw::Result {
    let lent = Lent(make);
    match hook::call_on_file(move || lent.make()) {
        Ok(result) => result,
        Err(error) => not_made(&error, make),
    }
}

/// A call on its way to another thread, with addresses of its caller's.
struct Lent<F>(F);

// SAFETY: who makes one answers for what it points to on any thread, by the contract of `call_elsewhere`.
unsafe impl<F> Send for Lent<F> {}

impl<F: Fn() -> raw::Result> Lent<F> {
    fn make(self) -> raw::Result {
        (self.0)()
    }
}

/// The call was not made elsewhere: it may not be, or for want of threads, and is made here.
#[cold]
fn not_made(error: &io::Error, make: impl FnOnce() -> raw::Result) -> raw::Result {
    match caller::interrupt_of(error) {
        Some(interrupt) => caller::cut(interrupt),
        None => make(),
    }
}

/// Opens a file on a thread for files. If it may wait for somebody, and changes nothing, the wait may be cut.
///
/// # Safety
/// The path is there, and ends.
pub(crate) unsafe fn open_elsewhere(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: u32,
) -> raw::Result {
    if makes_files(flags) || flags & libc::O_TRUNC != 0 || path.is_null() {
        // SAFETY: passed on to the caller, who waits.
        return unsafe { call_elsewhere(move || raw::openat(folder, path, flags, mode)) };
    }
    // The call may be left behind, and then its caller's memory is gone.
    // SAFETY: passed on to the caller.
    let own = unsafe { CStr::from_ptr(path) }.to_owned();
    // SAFETY: a path that is there.
    let open = move || Opened(unsafe { raw::openat(folder, own.as_ptr(), flags, mode) });
    match hook::call_on_file_leaving(open) {
        Ok(opened) => opened.release(),
        // SAFETY: passed on to the caller.
        Err(error) => not_made(&error, || unsafe { raw::openat(folder, path, flags, mode) }),
    }
}

/// Whether that flag of `open` has it look at the mode.
pub(crate) fn makes_files(flags: c_int) -> bool {
    flags & libc::O_CREAT != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE
}

/// What opening came to: a descriptor, to be closed unless it is handed on, or an error.
struct Opened(raw::Result);

impl Opened {
    fn release(self) -> raw::Result {
        ManuallyDrop::new(self).0
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.0 >= 0 {
            // SAFETY: its own.
            unsafe { raw::close(self.0 as c_int) };
        }
    }
}

/// Reads a file, at the descriptor's own offset unless there is another: at once what the kernel has in memory, and on
/// a thread for files what it has not. Less than all is read at the file's end alone, and before an error.
///
/// # Safety
/// There is room for so many bytes.
pub(crate) unsafe fn read_elsewhere(
    fd: c_int,
    to: *mut u8,
    length: usize,
    at: Option<i64>,
) -> raw::Result {
    let mut done = 0;
    if length <= LONGEST_AT_ONCE {
        // SAFETY: passed on to the caller.
        let (got, is_all) = unsafe { read_from_memory(fd, to, length, at) };
        if is_all {
            return got as raw::Result;
        }
        done = got;
    }
    // SAFETY: passed on to the caller, who waits.
    let rest = unsafe {
        call_elsewhere(move || {
            let (to, length) = (to.add(done), length - done);
            match at {
                Some(at) => raw::pread(fd, to, length, at + done as i64),
                None => raw::read(fd, to, length),
            }
        })
    };
    match rest {
        more if more >= 0 => more + done as raw::Result,
        error if done == 0 => error,
        _ => done as raw::Result,
    }
}

/// Bytes that are copied in the time that another thread would take: longer reads go there.
const LONGEST_AT_ONCE: usize = 128 << 10;

/// Reads what the kernel has in memory. How much that was, and whether there is no more.
///
/// # Safety
/// As for [`read_elsewhere`].
unsafe fn read_from_memory(
    fd: c_int,
    to: *mut u8,
    length: usize,
    at: Option<i64>,
) -> (usize, bool) {
    let mut done = 0;
    while done < length {
        let slice = iovec {
            // SAFETY: within the caller's buffer.
            iov_base: unsafe { to.add(done) }.cast(),
            iov_len: length - done,
        };
        let at = at.map_or(OWN_OFFSET, |at| at + done as i64);
        // SAFETY: as above; the slice is ours.
        match unsafe { raw::preadv2(fd, &raw const slice, 1, at, libc::RWF_NOWAIT) } {
            0 => return (done, true),
            more if more > 0 => done += more as usize,
            _ => return (done, false),
        }
    }
    (done, true)
}
