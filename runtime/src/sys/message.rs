//! Receives that rustix has no call for: many datagrams at once, and descriptors whatever else comes with them.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use rustix::{io::Errno, net::SocketAddrAny};

/// One of several datagrams that came.
pub(crate) struct Received {
    /// How long it is, or the room for it if that is less.
    pub(crate) length: usize,
    pub(crate) from: SocketAddrAny,
    /// Whether its end was lost.
    pub(crate) truncated: bool,
}

/// Receives as many datagrams as are there and as there are parts for, each into a part of its own (recvmmsg(2)).
/// Tells of each in their order. The socket is non-blocking.
pub(crate) fn receive_many<'a>(
    socket: BorrowedFd<'_>,
    parts: impl Iterator<Item = &'a mut [u8]>,
    mut tell: impl FnMut(Received),
) -> rustix::io::Result<usize> {
    let mut parts: Vec<_> = parts.map(room).collect();
    let mut names = vec![Name([0; NAME_BYTES]); parts.len()];
    let mut headers: Vec<_> = (parts.iter_mut().zip(&mut names))
        .map(|(part, name)| {
            let mut header = header(part);
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_namelen = NAME_BYTES as _;
            libc::mmsghdr {
                msg_hdr: header,
                msg_len: 0,
            }
        })
        .collect();
    // SAFETY: each header points to a part of the caller's and a name of its own, each with its length, all in place
    // for the call and touched by nobody else.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            headers.len() as _,
            0,
            ptr::null_mut(),
        )
    };
    let received = count(received as isize)?;
    for (header, part) in headers[..received].iter().zip(&parts) {
        // SAFETY: the kernel has written so many bytes of an address into the header's name.
        let from = unsafe {
            SocketAddrAny::read(header.msg_hdr.msg_name.cast(), header.msg_hdr.msg_namelen)
        };
        tell(Received {
            length: (header.msg_len as usize).min(part.iov_len),
            from,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        });
    }
    Ok(received)
}

/// Receives bytes, and adds the descriptors that came with them to `fds`, close-on-exec. Descriptors that nobody
/// asked for are closed. `EMFILE` if the process had none left for some.
///
/// (rustix' own parser drops messages of kinds that it does not know, with the descriptors inside still open.)
pub(crate) fn receive_with_descriptors(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> rustix::io::Result<usize> {
    let mut control = Control([MaybeUninit::uninit(); CONTROL_BYTES]);
    let mut part = room(buffer);
    let mut header = header(&mut part);
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: the header points to the caller's buffer and to `control`, each with its length, both in place for the
    // call and touched by nobody else.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_CMSG_CLOEXEC) };
    let bytes = count(received)?;
    let mut came = Vec::new();
    // SAFETY: the kernel has filled in the header and what its control part points to, which is in place: each message
    // lies within it, and its length too. Payloads may be unaligned. A descriptor of these two kinds was opened for
    // this process by this very call, so nobody else owns it.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&header);
        while let Some(message) = at.as_ref() {
            let data = libc::CMSG_DATA(at).cast::<libc::c_int>();
            // The C libraries differ in the type of lengths.
            #[allow(clippy::unnecessary_cast)]
            let length = message.cmsg_len as usize;
            let payload = length.saturating_sub(libc::CMSG_LEN(0) as usize);
            let opened = (0..payload / size_of::<libc::c_int>())
                .map(|index| data.add(index).read_unaligned())
                .filter(|number| *number >= 0)
                .map(|number| OwnedFd::from_raw_fd(number));
            match (message.cmsg_level, message.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => came.extend(opened),
                (libc::SOL_SOCKET, SCM_PIDFD) => opened.for_each(drop),
                _ => {}
            }
            at = libc::CMSG_NXTHDR(&header, at);
        }
    }
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(Errno::MFILE);
    }
    fds.extend(came);
    Ok(bytes)
}

/// Descriptors that one message carries at most (`SCM_MAX_FD`, unix(7)).
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// The sender's process descriptor, of a socket with `SO_PASSPIDFD` (Linux 6.5), or a negative error.
const SCM_PIDFD: libc::c_int = 4;

/// Room for what a message brings beside its bytes.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_BYTES]);

/// Descriptors, and whatever else a socket may have been told to report: the sender's credentials, process and
/// security label, of which the last has no bound and is short in practice.
const CONTROL_BYTES: usize = (rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS)) + 512) & !7;

/// Room for the address of a sender of any family.
#[derive(Clone)]
#[repr(C, align(8))]
struct Name([u8; NAME_BYTES]);

const NAME_BYTES: usize = size_of::<libc::sockaddr_storage>();

fn room(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

/// A header for one part. It has fields that only some C libraries know.
fn header(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: plain data, for which zeros are valid.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header
}

/// What a call returned: a count, or -1 and the error aside.
fn count(returned: isize) -> rustix::io::Result<usize> {
    usize::try_from(returned)
        .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}
