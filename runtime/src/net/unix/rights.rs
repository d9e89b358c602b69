//! Descriptors that travel with messages, and who the peer is.

use std::{
    io,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags,
    },
};

/// Descriptors that one message carries at most (`SCM_MAX_FD`, unix(7)).
pub const MOST_FDS: usize = 253;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST_FDS));

pub(super) fn check(bytes: &[u8], fds: &[BorrowedFd<'_>], empty_carries: bool) -> io::Result<()> {
    let invalid = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if fds.len() > MOST_FDS {
        return invalid("more descriptors than one message carries");
    }
    if bytes.is_empty() && !empty_carries && !fds.is_empty() {
        return invalid("on a stream, descriptors need a byte to travel with");
    }
    Ok(())
}

pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    let parts = [IoSlice::new(bytes)];
    rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)
}

pub(super) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    // What is not taken out of it is closed.
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let message = rustix::net::recvmsg(socket, &mut parts, &mut control, flags)?;
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE);
    }
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = part {
            fds.extend(passed);
        }
    }
    Ok(message.bytes)
}

/// Who made the other end of a Unix-domain connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The process; `None` if it cannot be seen from this process' namespace.
    pub pid: Option<i32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

impl PeerCredentials {
    pub(super) fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let mut raw = libc::ucred {
            pid: 0,
            uid: u32::MAX,
            gid: u32::MAX,
        };
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes of a `ucred`, for which any bits are valid. (rustix'
        // own type is not used because its process id must not be 0, which the kernel's may be.)
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                ptr::from_mut(&mut raw).cast(),
                &mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        if raw.pid == 0 && raw.uid == u32::MAX {
            return Err(Errno::NOTCONN.into());
        }
        Ok(Self {
            pid: (raw.pid != 0).then_some(raw.pid),
            uid: raw.uid,
            gid: raw.gid,
        })
    }
}
