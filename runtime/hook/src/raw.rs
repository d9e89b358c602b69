//! System calls as they are: by the instruction, so that nothing that is hooked is called, and errno stays as it was.

use std::{arch::asm, ffi::c_int, ptr};

/// What a call returned: as the kernel does, an error as its negative number.
pub(crate) type Result = isize;

/// The error of a call that would have had to wait.
pub(crate) const WOULD_WAIT: Result = -(libc::EAGAIN as isize);

/// A system call.
///
/// # Safety
/// As for the call of that number, with these arguments.
#[inline(always)]
unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> Result {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the kernel's convention; it changes what is named, and the memory that the caller answers for.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// An argument of a system call.
pub(crate) trait Argument {
    fn word(self) -> usize;
}

macro_rules! arguments {
    ($($number:ty),*) => { $(
        impl Argument for $number {
            #[inline(always)]
            fn word(self) -> usize {
                self as usize
            }
        }
    )* };
}

arguments!(i32, u32, i64, usize, isize);

impl<T: ?Sized> Argument for *const T {
    #[inline(always)]
    fn word(self) -> usize {
        self.cast::<u8>().expose_provenance()
    }
}

impl<T: ?Sized> Argument for *mut T {
    #[inline(always)]
    fn word(self) -> usize {
        self.cast::<u8>().expose_provenance()
    }
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $number:ident($($argument:ident: $kind:ty),*);)*) => { $(
        $(#[$doc])*
        ///
        /// # Safety
        /// As the manual page has it: pointers are to what it says.
        #[inline(always)]
        pub(crate) unsafe fn $name($($argument: $kind),*) -> Result {
            let mut arguments = [0; 6];
            let given = [$($argument.word()),*];
            arguments[..given.len()].copy_from_slice(&given);
            // SAFETY: passed on to the caller.
            unsafe { call(libc::$number, arguments) }
        }
    )* };
}

calls! {
    /// recvfrom(2).
    recvfrom = SYS_recvfrom(
        fd: c_int,
        to: *mut u8,
        length: usize,
        flags: c_int,
        peer: *mut libc::sockaddr,
        peer_length: *mut libc::socklen_t
    );
    /// sendto(2).
    sendto = SYS_sendto(
        fd: c_int,
        from: *const u8,
        length: usize,
        flags: c_int,
        peer: *const libc::sockaddr,
        peer_length: libc::socklen_t
    );
    /// recvmsg(2).
    recvmsg = SYS_recvmsg(fd: c_int, message: *mut libc::msghdr, flags: c_int);
    /// sendmsg(2).
    sendmsg = SYS_sendmsg(fd: c_int, message: *const libc::msghdr, flags: c_int);
    /// read(2).
    read = SYS_read(fd: c_int, to: *mut u8, length: usize);
    /// write(2).
    write = SYS_write(fd: c_int, from: *const u8, length: usize);
    /// readv(2).
    readv = SYS_readv(fd: c_int, slices: *const libc::iovec, count: c_int);
    /// writev(2).
    writev = SYS_writev(fd: c_int, slices: *const libc::iovec, count: c_int);
    /// connect(2).
    connect = SYS_connect(fd: c_int, peer: *const libc::sockaddr, length: libc::socklen_t);
    /// accept4(2).
    accept4 = SYS_accept4(
        fd: c_int,
        peer: *mut libc::sockaddr,
        length: *mut libc::socklen_t,
        flags: c_int
    );
    /// shutdown(2).
    shutdown = SYS_shutdown(fd: c_int, how: c_int);
    /// getsockname(2).
    getsockname = SYS_getsockname(fd: c_int, name: *mut u8, length: *mut libc::socklen_t);
    /// getpeername(2).
    getpeername = SYS_getpeername(fd: c_int, name: *mut u8, length: *mut libc::socklen_t);
    /// getsockopt(2).
    getsockopt = SYS_getsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *mut u8,
        length: *mut libc::socklen_t
    );
    /// fcntl(2), of the commands that take a number.
    fcntl = SYS_fcntl(fd: c_int, command: c_int, value: c_int);
    /// ppoll(2); the kernel changes the time.
    ppoll = SYS_ppoll(
        fds: *mut libc::pollfd,
        count: usize,
        timeout: *mut libc::timespec,
        mask: *const libc::sigset_t,
        mask_length: usize
    );
    /// pselect6(2); the kernel changes the time.
    pselect6 = SYS_pselect6(
        count: c_int,
        read: *mut libc::fd_set,
        write: *mut libc::fd_set,
        except: *mut libc::fd_set,
        timeout: *mut libc::timespec,
        mask: *const MaskAndLength
    );
    /// epoll_pwait(2).
    epoll_pwait = SYS_epoll_pwait(
        set: c_int,
        events: *mut libc::epoll_event,
        most: c_int,
        timeout: c_int,
        mask: *const libc::sigset_t,
        mask_length: usize
    );
    /// clock_nanosleep(2).
    clock_nanosleep = SYS_clock_nanosleep(
        clock: c_int,
        flags: c_int,
        time: *const libc::timespec,
        left: *mut libc::timespec
    );
    /// wait4(2).
    wait4 = SYS_wait4(
        process: c_int,
        status: *mut c_int,
        options: c_int,
        usage: *mut libc::rusage
    );
    /// waitid(2).
    waitid = SYS_waitid(
        kind: u32,
        id: u32,
        info: *mut libc::siginfo_t,
        options: c_int,
        usage: *mut libc::rusage
    );
    /// pidfd_open(2).
    pidfd_open = SYS_pidfd_open(process: c_int, flags: u32);
    /// close(2).
    close = SYS_close(fd: c_int);
    /// sched_yield(2).
    sched_yield = SYS_sched_yield();
    /// sendfile(2).
    sendfile = SYS_sendfile(to: c_int, from: c_int, offset: *mut libc::off_t, count: usize);
    /// splice(2).
    splice = SYS_splice(
        from: c_int,
        from_offset: *mut i64,
        to: c_int,
        to_offset: *mut i64,
        count: usize,
        flags: u32
    );
    /// statx(2), of a descriptor.
    statx = SYS_statx(
        fd: c_int,
        path: *const u8,
        flags: c_int,
        mask: u32,
        found: *mut libc::statx
    );
}

/// preadv2(2) at the descriptor's own offset.
///
/// # Safety
/// As the manual page has it.
pub(crate) unsafe fn preadv2(
    fd: c_int,
    slices: *const libc::iovec,
    count: c_int,
    flags: c_int,
) -> Result {
    // SAFETY: passed on to the caller.
    unsafe { without_offset(libc::SYS_preadv2, fd, slices, count, flags) }
}

/// pwritev2(2) at the descriptor's own offset.
///
/// # Safety
/// As the manual page has it.
pub(crate) unsafe fn pwritev2(
    fd: c_int,
    slices: *const libc::iovec,
    count: c_int,
    flags: c_int,
) -> Result {
    // SAFETY: passed on to the caller.
    unsafe { without_offset(libc::SYS_pwritev2, fd, slices, count, flags) }
}

/// The two take an offset in two words, and -1 for none.
///
/// # Safety
/// As for the call of that number.
#[inline(always)]
unsafe fn without_offset(
    number: libc::c_long,
    fd: c_int,
    slices: *const libc::iovec,
    count: c_int,
    flags: c_int,
) -> Result {
    let none = usize::MAX;
    let arguments = [
        fd.word(),
        slices.word(),
        count.word(),
        none,
        none,
        flags.word(),
    ];
    // SAFETY: passed on to the caller.
    unsafe { call(number, arguments) }
}

/// The last argument of pselect6(2).
#[repr(C)]
pub(crate) struct MaskAndLength(pub(crate) *const libc::sigset_t, pub(crate) usize);

/// Bytes of the kernel's set of signals.
pub(crate) const MASK_LENGTH: usize = 8;

/// poll(2) of one descriptor, without waiting: what has come, or an error.
pub(crate) fn poll_now(fd: c_int, events: libc::c_short) -> Result {
    let mut of = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: one entry, and a time; both are ours.
    let found = unsafe { ppoll(&raw mut of, 1, &raw mut now, ptr::null(), MASK_LENGTH) };
    if found > 0 {
        of.revents as isize
    } else {
        found
    }
}

/// Whether a call on a descriptor may have to wait for somebody: not on a file, or a folder.
pub(crate) fn can_wait(fd: c_int) -> bool {
    // SAFETY: zero is nothing in each of its fields.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (own, kind) = (libc::AT_EMPTY_PATH, libc::STATX_TYPE);
    // SAFETY: an empty path, which stands for the descriptor, and room for the answer.
    let got = unsafe { statx(fd, c"".as_ptr().cast(), own, kind, &raw mut found) };
    let kind = u32::from(found.stx_mode) & libc::S_IFMT;
    got >= 0 && ![libc::S_IFREG, libc::S_IFDIR, libc::S_IFBLK].contains(&kind)
}

/// Says of a result what C callers expect: -1, and errno.
#[inline(always)]
pub(crate) fn told(result: Result) -> Result {
    if result >= 0 {
        return result;
    }
    fail(-result as c_int)
}

/// Fails with that error.
#[inline(never)]
pub(crate) fn fail(error: c_int) -> Result {
    // SAFETY: the calling thread's own, which a coroutine never changes.
    unsafe { *libc::__errno_location() = error };
    -1
}
