//! Descriptors that travel with messages, and who the peer is.

use std::{
    io,
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
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
    let mut space = Control([MaybeUninit::uninit(); RECEIVE_SPACE]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: plain data, for which zeros are valid.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &mut part;
    header.msg_iovlen = 1;
    header.msg_control = space.0.as_mut_ptr().cast();
    header.msg_controllen = RECEIVE_SPACE as _;
    // SAFETY: the header points to the caller's buffer and to `space`, each with its length, both in place for the
    // call and touched by nobody else.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_CMSG_CLOEXEC) };
    let bytes = usize::try_from(received)
        .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL))?;
    // SAFETY: the kernel has filled in the header and what its control part points to, in `space`.
    let came = unsafe { take_descriptors(&header) };
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(Errno::MFILE);
    }
    fds.extend(came);
    Ok(bytes)
}

/// Room for what a message brings beside its bytes.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; RECEIVE_SPACE]);

/// Descriptors, and whatever else a socket may have been told to report: the sender's credentials, process and
/// security label, of which the last has no bound and is short in practice.
const RECEIVE_SPACE: usize = (SPACE + 512) & !7;

/// The sender's process descriptor, of a socket with `SO_PASSPIDFD` (Linux 6.5), or a negative error.
const SCM_PIDFD: libc::c_int = 4;

/// Owns every descriptor that came, so that none stays open which nobody asked for, and returns those that were
/// sent. (rustix' own parser drops kinds that it does not know, with the descriptors inside.)
///
/// # Safety
/// The kernel has filled in the header, its control part is in place, and nobody else owns what is in it.
unsafe fn take_descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut sent = Vec::new();
    // SAFETY: the caller's promise: each message lies within the control part, and its length within it. Payloads
    // may be unaligned. A descriptor of these two kinds was opened for this process by this very call.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = at.as_ref() {
            let data = libc::CMSG_DATA(at).cast::<libc::c_int>();
            // The C libraries differ in the type of lengths.
            #[allow(clippy::unnecessary_cast)]
            let length = message.cmsg_len as usize;
            let payload = length.saturating_sub(libc::CMSG_LEN(0) as usize);
            let numbers = (0..payload / size_of::<libc::c_int>())
                .map(|index| data.add(index).read_unaligned())
                .filter(|number| *number >= 0);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    sent.extend(numbers.map(|number| OwnedFd::from_raw_fd(number)));
                }
                (libc::SOL_SOCKET, SCM_PIDFD) => {
                    numbers.for_each(|number| drop(OwnedFd::from_raw_fd(number)));
                }
                _ => {}
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
    sent
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
