//! Bytes in and out: `recv`, `send`, `read`, `write` and their families.
//!
//! A socket is asked with `MSG_DONTWAIT`, so its flags stay as they are. What is no socket is asked with `RWF_NOWAIT`,
//! where the kernel knows that of it; else poll(2) says whether to ask. Sending to a blocking connection is complete,
//! as the kernel's own is, unless it fails on the way. A file, which is neither, goes to [`files`], or to the kernel.

use std::{ffi::c_int, ptr};
#[cfg(not(target_env = "musl"))]
use std::{ffi::c_uint, time::Duration};

use libc::{iovec, msghdr, size_t, sockaddr, socklen_t, ssize_t};
#[cfg(not(target_env = "musl"))]
use libc::{mmsghdr, timespec};
#[cfg(not(target_env = "musl"))]
use maniple::hook;

use crate::{
    caller::{is_plain, may_wait},
    files,
    patience::{For, until_done},
    raw::{self, OWN_OFFSET, told},
};

/// Receives that never wait: of what is not in the queue.
const NEVER: c_int = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE | libc::MSG_OOB;

/// recv(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recv(fd: c_int, to: *mut u8, length: size_t, flags: c_int) -> ssize_t {
    // SAFETY: passed on to the caller.
    unsafe { recvfrom(fd, to, length, flags, ptr::null_mut(), ptr::null_mut()) }
}

/// recvfrom(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvfrom(
    fd: c_int,
    to: *mut u8,
    length: size_t,
    flags: c_int,
    peer: *mut sockaddr,
    peer_length: *mut socklen_t,
) -> ssize_t {
    // SAFETY: passed on to the caller.
    let in_kernel = || unsafe { raw::recvfrom(fd, to, length, flags, peer, peer_length) };
    if is_plain() || flags & NEVER != 0 || !may_wait() {
        return told(in_kernel());
    }
    let whole = flags & (libc::MSG_WAITALL | libc::MSG_PEEK) == libc::MSG_WAITALL;
    let flags = flags | libc::MSG_DONTWAIT;
    let part = |got: usize| {
        // SAFETY: within the caller's buffer.
        let attempt =
            || unsafe { raw::recvfrom(fd, to.add(got), length - got, flags, peer, peer_length) };
        until_done(fd, For::Reading, attempt, in_kernel)
    };
    told(match whole && !is_in_messages(fd) {
        true => in_parts(length, part),
        false => part(0),
    })
}

/// Has all of so many bytes moved by `part`, which is told how many have been. It ends sooner at an error or the end,
/// of which nothing is said if something has moved: the next call finds it again.
fn in_parts(length: usize, mut part: impl FnMut(usize) -> raw::Result) -> raw::Result {
    let mut done = 0;
    loop {
        match part(done) {
            end @ ..=0 if done == 0 => return end,
            ..=0 => return done as raw::Result,
            more => done += more as usize,
        }
        if done >= length {
            return done as raw::Result;
        }
    }
}

/// Whether the socket hands over messages, of which one is all that a call gets.
fn is_in_messages(fd: c_int) -> bool {
    let mut kind: c_int = 0;
    let mut length = size_of::<c_int>() as socklen_t;
    let to = (&raw mut kind).cast();
    // SAFETY: room for the option's value, and its length.
    let got = unsafe { raw::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, to, &raw mut length) };
    got < 0 || kind != libc::SOCK_STREAM
}

/// recvmsg(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[cfg_attr(not(target_env = "musl"), unsafe(no_mangle))]
pub unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: passed on to the caller.
    let ask = |flags| unsafe { raw::recvmsg(fd, message, flags) };
    if is_plain() || flags & NEVER != 0 || !may_wait() {
        return told(ask(flags));
    }
    let attempt = || ask(flags | libc::MSG_DONTWAIT);
    told(until_done(fd, For::Reading, attempt, || ask(flags)))
}

/// send(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn send(fd: c_int, from: *const u8, length: size_t, flags: c_int) -> ssize_t {
    // SAFETY: passed on to the caller.
    unsafe { sendto(fd, from, length, flags, ptr::null(), 0) }
}

/// sendto(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    from: *const u8,
    length: size_t,
    flags: c_int,
    peer: *const sockaddr,
    peer_length: socklen_t,
) -> ssize_t {
    if is_plain() || flags & libc::MSG_DONTWAIT != 0 || !may_wait() {
        // SAFETY: passed on to the caller.
        return told(unsafe { raw::sendto(fd, from, length, flags, peer, peer_length) });
    }
    // SAFETY: passed on to the caller.
    told(unsafe { send_all(fd, from, length, flags, peer, peer_length) })
}

/// Sends all of it, or what could be sent before it failed.
///
/// # Safety
/// As for sendto(2).
unsafe fn send_all(
    fd: c_int,
    from: *const u8,
    length: usize,
    flags: c_int,
    peer: *const sockaddr,
    peer_length: socklen_t,
) -> raw::Result {
    in_parts(length, |sent| {
        let flags = flags | libc::MSG_DONTWAIT | if sent > 0 { libc::MSG_NOSIGNAL } else { 0 };
        // SAFETY: within the caller's buffer.
        let attempt =
            || unsafe { raw::sendto(fd, from.add(sent), length - sent, flags, peer, peer_length) };
        until_done(fd, For::Writing, attempt, || raw::WOULD_WAIT)
    })
}

/// sendmsg(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[cfg_attr(not(target_env = "musl"), unsafe(no_mangle))]
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    if is_plain() || flags & libc::MSG_DONTWAIT != 0 || !may_wait() {
        // SAFETY: passed on to the caller.
        return told(unsafe { raw::sendmsg(fd, message, flags) });
    }
    // SAFETY: passed on to the caller.
    told(unsafe { send_message(fd, message, flags) })
}

/// Sends all of a message, or what could be sent before it failed.
///
/// # Safety
/// As for sendmsg(2).
unsafe fn send_message(fd: c_int, message: *const msghdr, flags: c_int) -> raw::Result {
    // SAFETY: passed on to the caller.
    let ask = |flags| unsafe { raw::sendmsg(fd, message, flags) };
    let attempt = || ask(flags | libc::MSG_DONTWAIT);
    let sent = until_done(fd, For::Writing, attempt, || ask(flags));
    if sent <= 0 {
        return sent;
    }
    // SAFETY: it has sent from these buffers.
    unsafe {
        // A `size_t` with glibc, an `int` with musl.
        #[allow(clippy::unnecessary_cast)]
        let (slices, count) = ((*message).msg_iov, (*message).msg_iovlen as usize);
        finish(sent as usize, slices, count, |from, length| {
            send_all(fd, from, length, flags, ptr::null(), 0)
        })
    }
}

/// recvmmsg(2). As the kernel's own, it looks at the time when a message has come, and not before.
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[cfg(not(target_env = "musl"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    if is_plain() || flags & NEVER != 0 || count == 0 || !may_wait() {
        // SAFETY: passed on to the caller.
        return told(unsafe { raw::recvmmsg(fd, messages, count, flags, timeout) }) as c_int;
    }
    // SAFETY: passed on to the caller, as is the time that is left.
    let time = match unsafe { timeout.as_ref() }.map(duration_of) {
        Some(None) => return raw::fail(libc::EINVAL) as c_int,
        time => time.flatten(),
    };
    let until = time.and_then(|time| hook::now().checked_add(time));
    let left = || until.map(|until| until.saturating_duration_since(hook::now()));
    let for_one = flags & libc::MSG_WAITFORONE != 0;
    let flags = flags | libc::MSG_DONTWAIT;
    let mut done = 0;
    let got = loop {
        let attempt = || {
            // SAFETY: of so many messages, those that have not come.
            unsafe {
                raw::recvmmsg(
                    fd,
                    messages.add(done),
                    count - done as u32,
                    flags,
                    ptr::null_mut(),
                )
            }
        };
        match until_done(fd, For::Reading, attempt, || raw::WOULD_WAIT) {
            end @ ..=0 if done == 0 => break end,
            ..=0 => break done as raw::Result,
            more => done += more as usize,
        }
        if for_one || done == count as usize || left() == Some(Duration::ZERO) {
            break done as raw::Result;
        }
    };
    if let Some(left) = left() {
        // SAFETY: passed on to the caller.
        let timeout = unsafe { &mut *timeout };
        timeout.tv_sec = left.as_secs() as _;
        timeout.tv_nsec = left.subsec_nanos().into();
    }
    told(got) as c_int
}

#[cfg(not(target_env = "musl"))]
fn duration_of(time: &timespec) -> Option<Duration> {
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    let seconds = u64::try_from(time.tv_sec).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

/// sendmmsg(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[cfg(not(target_env = "musl"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    if is_plain() || flags & libc::MSG_DONTWAIT != 0 || count == 0 || !may_wait() {
        // SAFETY: passed on to the caller.
        return told(unsafe { raw::sendmmsg(fd, messages, count, flags) }) as c_int;
    }
    let count = count.min(libc::UIO_MAXIOV as c_uint);
    // What has room for a part of a message is sent one after the other, each as a whole.
    let at_once = if is_in_messages(fd) { count } else { 1 };
    told(in_parts(count as usize, |sent| {
        // SAFETY: of so many messages, those that are not sent.
        unsafe {
            let next = messages.add(sent);
            if at_once > 1 {
                let left = count - sent as c_uint;
                let attempt = || raw::sendmmsg(fd, next, left, flags | libc::MSG_DONTWAIT);
                return until_done(fd, For::Writing, attempt, || raw::WOULD_WAIT);
            }
            match send_message(fd, &raw const (*next).msg_hdr, flags) {
                length if length >= 0 => {
                    (*next).msg_len = length as c_uint;
                    1
                }
                error => error,
            }
        }
    })) as c_int
}

/// Sends the rest of buffers of which so much was sent: a blocking call would have. Returns how much that makes.
///
/// # Safety
/// The buffers are there.
unsafe fn finish(
    mut sent: usize,
    slices: *const iovec,
    count: usize,
    mut send: impl FnMut(*const u8, usize) -> raw::Result,
) -> raw::Result {
    let mut before = 0_usize;
    for at in 0..count {
        // SAFETY: one of so many; passed on to the caller.
        let slice = unsafe { *slices.add(at) };
        let end = before.saturating_add(slice.iov_len);
        if sent < end {
            let done = sent - before;
            // SAFETY: within that buffer.
            let rest = unsafe { slice.iov_base.cast::<u8>().add(done) };
            let length = slice.iov_len - done;
            match send(rest, length) {
                more if more <= 0 => break,
                more => sent += more as usize,
            }
            if sent < end {
                break;
            }
        }
        before = end;
    }
    sent as raw::Result
}

/// read(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, to: *mut u8, length: size_t) -> ssize_t {
    // SAFETY: passed on to the caller.
    let in_kernel = || unsafe { raw::read(fd, to, length) };
    if is_plain() || length == 0 || is_standard(fd) || !may_wait() {
        return told(in_kernel());
    }
    let none = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: passed on to the caller.
    let as_socket = || unsafe { raw::recvfrom(fd, to, length, libc::MSG_DONTWAIT, none.0, none.1) };
    let slice = iovec {
        iov_base: to.cast(),
        iov_len: length,
    };
    // SAFETY: passed on to the caller; the slice is ours.
    let as_other =
        || unsafe { raw::preadv2(fd, &raw const slice, 1, OWN_OFFSET, libc::RWF_NOWAIT) };
    told(any_kind(fd, For::Reading, as_socket, as_other, |of| {
        match of {
            // SAFETY: passed on to the caller.
            Of::OffloadedFile => unsafe { files::read_elsewhere(fd, to, length, None) },
            _ => in_kernel(),
        }
    }))
}

/// readv(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn readv(fd: c_int, slices: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: passed on to the caller.
    let in_kernel = || unsafe { raw::readv(fd, slices, count) };
    if is_plain() || is_standard(fd) || count <= 0 || !may_wait() {
        return told(in_kernel());
    }
    let mut message = message_of(slices, count);
    // SAFETY: passed on to the caller; the message is ours.
    let as_socket = || unsafe { raw::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT) };
    // SAFETY: passed on to the caller.
    let as_other = || unsafe { raw::preadv2(fd, slices, count, OWN_OFFSET, libc::RWF_NOWAIT) };
    told(any_kind(fd, For::Reading, as_socket, as_other, |of| {
        match of {
            // SAFETY: passed on to the caller, who waits.
            Of::OffloadedFile => unsafe {
                files::call_elsewhere(move || raw::readv(fd, slices, count))
            },
            _ => in_kernel(),
        }
    }))
}

/// write(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, from: *const u8, length: size_t) -> ssize_t {
    if is_plain() || length == 0 || is_standard(fd) || !may_wait() {
        // SAFETY: passed on to the caller.
        return told(unsafe { raw::write(fd, from, length) });
    }
    // SAFETY: passed on to the caller.
    told(unsafe { write_all(fd, from, length) })
}

/// Writes all of it, or what could be written before it failed.
///
/// # Safety
/// As for write(2).
unsafe fn write_all(fd: c_int, from: *const u8, length: usize) -> raw::Result {
    in_parts(length, |written| {
        // SAFETY: within the caller's buffer.
        let (rest, left) = (unsafe { from.add(written) }, length - written);
        let none = (ptr::null(), 0);
        // SAFETY: as above.
        let as_socket =
            || unsafe { raw::sendto(fd, rest, left, libc::MSG_DONTWAIT, none.0, none.1) };
        let slice = iovec {
            iov_base: rest.cast_mut().cast(),
            iov_len: left,
        };
        // SAFETY: as above; the slice is ours.
        let as_other =
            || unsafe { raw::pwritev2(fd, &raw const slice, 1, OWN_OFFSET, libc::RWF_NOWAIT) };
        let in_kernel = |of| {
            // SAFETY: as above.
            let write = move |length| unsafe { raw::write(fd, rest, length) };
            match of {
                Of::File => write(left),
                // SAFETY: as above; the caller waits.
                Of::OffloadedFile => unsafe { files::call_elsewhere(move || write(left)) },
                // What a pipe has room for whenever it has any.
                Of::Ready => write(left.min(libc::PIPE_BUF)),
            }
        };
        any_kind(fd, For::Writing, as_socket, as_other, in_kernel)
    })
}

/// writev(2).
///
/// # Safety
/// Its pointers are what the manual page of the C function says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, slices: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: passed on to the caller.
    let in_kernel = || unsafe { raw::writev(fd, slices, count) };
    if is_plain() || is_standard(fd) || count <= 0 || !may_wait() {
        return told(in_kernel());
    }
    let message = message_of(slices, count);
    // SAFETY: passed on to the caller; the message is ours.
    let as_socket = || unsafe { raw::sendmsg(fd, &raw const message, libc::MSG_DONTWAIT) };
    // SAFETY: passed on to the caller.
    let as_other = || unsafe { raw::pwritev2(fd, slices, count, OWN_OFFSET, libc::RWF_NOWAIT) };
    let in_part = |of| match of {
        Of::File => in_kernel(),
        // SAFETY: passed on to the caller, who waits.
        Of::OffloadedFile => unsafe {
            files::call_elsewhere(move || raw::writev(fd, slices, count))
        },
        // SAFETY: passed on to the caller, who says that there is one.
        Of::Ready => unsafe {
            let first = *slices;
            let length = first.iov_len.min(libc::PIPE_BUF);
            raw::write(fd, first.iov_base.cast(), length)
        },
    };
    let written = any_kind(fd, For::Writing, as_socket, as_other, in_part);
    if written <= 0 {
        return told(written);
    }
    // SAFETY: it has written from these buffers.
    told(unsafe {
        finish(written as usize, slices, count as usize, |from, length| {
            write_all(fd, from, length)
        })
    })
}

fn message_of(slices: *const iovec, count: c_int) -> msghdr {
    // SAFETY: zero is nothing in each of its fields.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = slices.cast_mut();
    message.msg_iovlen = count as _;
    message
}

/// std's own streams. What std locks around them belongs to the thread, or is of a kind that blocks it: a coroutine
/// that waited inside would let others of its thread in, or have its thread stand still.
fn is_standard(fd: c_int) -> bool {
    (0..=2).contains(&fd)
}

/// What the kernel's own call is left to.
enum Of {
    /// A file.
    File,
    /// One, of a caller who has asked for such calls to be made elsewhere.
    OffloadedFile,
    /// What could have to wait, and poll(2) has called ready.
    Ready,
}

/// A call on what may be anything. `in_kernel` is told of what it is.
fn any_kind(
    fd: c_int,
    what: For,
    as_socket: impl FnMut() -> raw::Result,
    mut as_other: impl FnMut() -> raw::Result,
    mut in_kernel: impl FnMut(Of) -> raw::Result,
) -> raw::Result {
    const NO_SOCKET: raw::Result = -(libc::ENOTSOCK as raw::Result);
    let got = until_done(fd, what, as_socket, || NO_SOCKET);
    if got != NO_SOCKET {
        return got;
    }
    if !raw::can_wait(fd) {
        return in_kernel(match files::are_offloaded() {
            true => Of::OffloadedFile,
            false => Of::File,
        });
    }
    let events = match what {
        For::Reading => libc::POLLIN,
        For::Writing => libc::POLLOUT,
    };
    // Of some kinds the kernel cannot promise not to wait, and says so.
    let attempt = || match as_other() {
        UNKNOWN => match raw::poll_now(fd, events) {
            0 => raw::WOULD_WAIT,
            _ => IN_KERNEL,
        },
        got => got,
    };
    const UNKNOWN: raw::Result = -(libc::EOPNOTSUPP as raw::Result);
    const IN_KERNEL: raw::Result = raw::Result::MIN;
    match until_done(fd, what, attempt, || IN_KERNEL) {
        IN_KERNEL => in_kernel(Of::Ready),
        got => got,
    }
}

/// Defines what C code calls that was compiled with `_FORTIFY_SOURCE`: the call, and the size that the buffer has.
#[cfg(target_env = "gnu")]
macro_rules! fortified {
    ($($name:ident, $of:ident($($argument:ident: $kind:ty),*), $length:ident;)*) => { $(
        /// The call without its `_chk`, which does not go beyond the buffer's size.
        ///
        /// # Safety
        /// Its pointers are what the manual page of the C function says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            fd: c_int,
            to: *mut u8,
            length: size_t,
            size: size_t,
            $($argument: $kind),*
        ) -> ssize_t {
            if length > size {
                // SAFETY: ends the process, as the C library does.
                unsafe { libc::abort() };
            }
            // SAFETY: passed on to the caller.
            unsafe { $of(fd, to, length, $($argument),*) }
        }
    )* };
}

#[cfg(target_env = "gnu")]
fortified! {
    __read_chk, read(), length;
    __recv_chk, recv(flags: c_int), length;
    __recvfrom_chk, recvfrom(flags: c_int, peer: *mut sockaddr, peer_length: *mut socklen_t), length;
}
