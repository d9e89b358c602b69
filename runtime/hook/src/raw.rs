//! System calls as they are: by the instruction, so that nothing that is hooked is called, and errno stays as it was.

use std::{
    arch::asm,
    ffi::{c_char, c_int},
    ptr,
};

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
    /// fcntl(2); what the command takes is a number, or an address.
    fcntl = SYS_fcntl(fd: c_int, command: c_int, value: usize);
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
    /// recvmmsg(2); the kernel changes the time.
    #[cfg(not(target_env = "musl"))]
    recvmmsg = SYS_recvmmsg(
        fd: c_int,
        messages: *mut libc::mmsghdr,
        count: u32,
        flags: c_int,
        timeout: *mut libc::timespec
    );
    /// sendmmsg(2).
    #[cfg(not(target_env = "musl"))]
    sendmmsg = SYS_sendmmsg(fd: c_int, messages: *mut libc::mmsghdr, count: u32, flags: c_int);
    /// pread(2).
    pread = SYS_pread64(fd: c_int, to: *mut u8, length: usize, at: i64);
    /// pwrite(2).
    pwrite = SYS_pwrite64(fd: c_int, from: *const u8, length: usize, at: i64);
    /// fsync(2).
    fsync = SYS_fsync(fd: c_int);
    /// fdatasync(2).
    fdatasync = SYS_fdatasync(fd: c_int);
    /// syncfs(2).
    syncfs = SYS_syncfs(fd: c_int);
    /// ftruncate(2).
    ftruncate = SYS_ftruncate(fd: c_int, length: i64);
    /// truncate(2).
    truncate = SYS_truncate(path: *const c_char, length: i64);
    /// fallocate(2).
    fallocate = SYS_fallocate(fd: c_int, mode: c_int, at: i64, length: i64);
    /// copy_file_range(2).
    copy_file_range = SYS_copy_file_range(
        from: c_int,
        from_offset: *mut i64,
        to: c_int,
        to_offset: *mut i64,
        count: usize,
        flags: u32
    );
    /// flock(2).
    flock = SYS_flock(fd: c_int, operation: c_int);
    /// openat(2).
    openat = SYS_openat(folder: c_int, path: *const c_char, flags: c_int, mode: u32);
    /// fstatat(2).
    fstatat = SYS_newfstatat(
        folder: c_int,
        path: *const c_char,
        found: *mut libc::stat,
        flags: c_int
    );
    /// faccessat(2), which takes no flags.
    faccessat = SYS_faccessat(folder: c_int, path: *const c_char, mode: c_int);
    /// readlinkat(2).
    readlinkat = SYS_readlinkat(folder: c_int, path: *const c_char, to: *mut c_char, length: usize);
    /// renameat2(2).
    renameat2 = SYS_renameat2(
        from_folder: c_int,
        from: *const c_char,
        to_folder: c_int,
        to: *const c_char,
        flags: u32
    );
    /// unlinkat(2).
    unlinkat = SYS_unlinkat(folder: c_int, path: *const c_char, flags: c_int);
    /// mkdirat(2).
    mkdirat = SYS_mkdirat(folder: c_int, path: *const c_char, mode: u32);
    /// mknodat(2).
    mknodat = SYS_mknodat(folder: c_int, path: *const c_char, mode: u32, device: u32);
    /// linkat(2).
    linkat = SYS_linkat(
        from_folder: c_int,
        from: *const c_char,
        to_folder: c_int,
        to: *const c_char,
        flags: c_int
    );
    /// symlinkat(2).
    symlinkat = SYS_symlinkat(target: *const c_char, folder: c_int, path: *const c_char);
    /// fchmod(2).
    fchmod = SYS_fchmod(fd: c_int, mode: u32);
    /// fchmodat(2), which takes no flags.
    fchmodat = SYS_fchmodat(folder: c_int, path: *const c_char, mode: u32);
    /// fchown(2).
    fchown = SYS_fchown(fd: c_int, owner: u32, group: u32);
    /// fchownat(2).
    fchownat = SYS_fchownat(
        folder: c_int,
        path: *const c_char,
        owner: u32,
        group: u32,
        flags: c_int
    );
    /// utimensat(2).
    utimensat = SYS_utimensat(
        folder: c_int,
        path: *const c_char,
        times: *const libc::timespec,
        flags: c_int
    );
    /// statx(2).
    statx = SYS_statx(
        folder: c_int,
        path: *const c_char,
        flags: c_int,
        mask: u32,
        found: *mut libc::statx
    );
}

/// preadv2(2). At [`OWN_OFFSET`] it moves that of the descriptor.
///
/// # Safety
/// As the manual page has it.
pub(crate) unsafe fn preadv2(
    fd: c_int,
    slices: *const libc::iovec,
    count: c_int,
    at: i64,
    flags: c_int,
) -> Result {
    // SAFETY: passed on to the caller.
    unsafe { in_slices(libc::SYS_preadv2, fd, slices, count, at, flags) }
}

/// pwritev2(2). At [`OWN_OFFSET`] it moves that of the descriptor.
///
/// # Safety
/// As the manual page has it.
pub(crate) unsafe fn pwritev2(
    fd: c_int,
    slices: *const libc::iovec,
    count: c_int,
    at: i64,
    flags: c_int,
) -> Result {
    // SAFETY: passed on to the caller.
    unsafe { in_slices(libc::SYS_pwritev2, fd, slices, count, at, flags) }
}

/// preadv(2).
///
/// # Safety
/// As the manual page has it.
pub(crate) unsafe fn preadv(
    fd: c_int,
    slices: *const libc::iovec,
    count: c_int,
    at: i64,
) -> Result {
    // SAFETY: passed on to the caller.
    unsafe { in_slices(libc::SYS_preadv, fd, slices, count, at, 0) }
}

/// pwritev(2).
///
/// # Safety
/// As the manual page has it.
pub(crate) unsafe fn pwritev(
    fd: c_int,
    slices: *const libc::iovec,
    count: c_int,
    at: i64,
) -> Result {
    // SAFETY: passed on to the caller.
    unsafe { in_slices(libc::SYS_pwritev, fd, slices, count, at, 0) }
}

/// For [`preadv2`] and [`pwritev2`].
pub(crate) const OWN_OFFSET: i64 = -1;

/// The four take an offset in two words, of which the first is all of it; those without flags look at no further one.
///
/// # Safety
/// As for the call of that number.
#[inline(always)]
unsafe fn in_slices(
    number: libc::c_long,
    fd: c_int,
    slices: *const libc::iovec,
    count: c_int,
    at: i64,
    flags: c_int,
) -> Result {
    let arguments = [
        fd.word(),
        slices.word(),
        count.word(),
        at.word(),
        at.word(),
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
    let got = unsafe { statx(fd, c"".as_ptr(), own, kind, &raw mut found) };
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
