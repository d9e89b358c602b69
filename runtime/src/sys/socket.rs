//! Thin wrappers of what a socket tells and takes that rustix has no call for.

use std::{
    ffi::c_int,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Bytes in the send queue: not sent yet, or not acknowledged by the peer (`SIOCOUTQ`, tcp(7)).
pub(crate) fn send_queue(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: the request, which sockets and terminals know by the same number, writes one int.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match done {
        0 => Ok(usize::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}
